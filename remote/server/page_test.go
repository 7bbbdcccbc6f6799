package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/server/web"
)

// Every file of the page comes with its type, its ETag and the policy, to
// everybody; who has it is told so.
func TestPageFiles(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/meta.db", Options{})
	ask := func(method, path, etag string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, w.http.URL+path, nil)
		must(t, err)
		req.Header.Set("If-None-Match", etag)
		res, err := w.http.Client().Do(req)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		for name, want := range web.Headers {
			if res.StatusCode < 400 && res.Header.Get(name) != want {
				t.Errorf("%s %s: %s is %q", method, path, name, res.Header.Get(name))
			}
		}
		return res, string(body)
	}
	for _, f := range web.Files {
		res, body := ask("GET", f.Path, `"old"`)
		if res.StatusCode != 200 || body != string(f.Body) || res.Header.Get("Content-Type") != f.Type || res.Header.Get("ETag") != f.ETag ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, %v", f.Path, res.StatusCode, res.Header)
		}
		if res, body := ask("GET", f.Path, f.ETag); res.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("%s again: %d", f.Path, res.StatusCode)
		}
		if res, _ := ask("HEAD", f.Path, ""); res.StatusCode != 200 || res.ContentLength != int64(len(f.Body)) {
			t.Errorf("HEAD %s: %d, %d bytes", f.Path, res.StatusCode, res.ContentLength)
		}
		if res, body := ask("POST", f.Path, ""); res.StatusCode != http.StatusMethodNotAllowed || !strings.Contains(body, `"method_not_allowed"`) {
			t.Errorf("POST %s: %d %s", f.Path, res.StatusCode, body)
		}
	}
	for _, path := range []string{"/web/", "/web", "/index.html", "/web/index.html", "/web/web.go", "/web/package.json", "/web/..%2fweb.go", "/x"} {
		if res, _ := ask("GET", path, ""); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// The policy lets the page run its own code, and nobody else's.
func TestPagePolicy(t *testing.T) {
	for _, want := range []string{"default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(web.Policy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	for _, never := range []string{"unsafe-inline", "'unsafe-eval'", "http:", "https:", "data:", "*"} {
		if strings.Contains(web.Policy, never) {
			t.Errorf("the policy has %s", never)
		}
	}
}

// Whoever has all of a host, and no proxy, tells browsers to keep to TLS there.
func TestStrictTransport(t *testing.T) {
	for _, c := range []struct {
		audience string
		proxy    bool
		want     string
	}{
		{"https://vault.example", false, "max-age=31536000"}, {"https://vault.example", true, ""},
		{"https://nas.example:8780", false, ""}, {"http://vault.example", false, ""},
	} {
		o := Options{Audience: c.audience, TrustProxy: c.proxy}
		w := newWorld(t, t.TempDir()+"/meta.db", Options{})
		w.strict = o.strictTransport()
		for _, path := range []string{"/", "/healthz", "/nothing"} {
			res, err := w.http.Client().Get(w.http.URL + path)
			must(t, err)
			must(t, res.Body.Close())
			if got := res.Header.Get("Strict-Transport-Security"); got != c.want {
				t.Errorf("%s, proxy %v: %s with %q", c.audience, c.proxy, path, got)
			}
		}
	}
}
