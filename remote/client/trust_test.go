package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Who answers and is not the server is told from a server that does not answer:
// one that cannot prove who it is, and one that speaks another language.
func TestNotTheServer(t *testing.T) {
	stranger := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusNotImplemented) })
	secret, plain := httptest.NewUnstartedServer(stranger), httptest.NewServer(stranger)
	secret.Config.ErrorLog = nil
	secret.StartTLS()
	defer secret.Close()
	defer plain.Close()
	for _, c := range []struct {
		name, url string
		untrusted bool
		hint      string
	}{
		{"a certificate that nobody vouches for", secret.URL, true, ""},
		{"another program", plain.URL, false, "no vaultdrive server"},
	} {
		r, err := New(Options{Server: c.url, Vault: "a"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Get(t.Context(), syncer.HeaderKey(1))
		if !errors.Is(err, syncer.ErrUnavailable) || errors.Is(err, syncer.ErrUntrusted) != c.untrusted || !strings.Contains(blob.Hint(err), c.hint) {
			t.Errorf("%s: %v, hint %q", c.name, err, blob.Hint(err))
		}
	}
}
