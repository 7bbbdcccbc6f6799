package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// rowGate stands before a server and holds up what writes rows of attachments by
// themselves, until the client gives up, while it is shut.
type rowGate struct {
	next http.Handler
	shut atomic.Bool
	rows atomic.Int64 // that passed
	held atomic.Int64 // that did not
}

func (g *rowGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/rows") {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var in api.PutRows
		if json.Unmarshal(raw, &in) == nil && len(in.Rows) > 0 {
			if g.shut.Load() {
				g.held.Add(1)
				<-r.Context().Done()
				return
			}
			g.rows.Add(int64(len(in.Rows)))
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
	}
	g.next.ServeHTTP(w, r)
}

// startGated runs a server with a gate before it.
func startGated(t *testing.T, options ...string) (*served, *rowGate) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := startServer(t, append([]string{"--public", "http://" + l.Addr().String(), "--registration", "open"}, options...)...)
	to := &url.URL{Scheme: "http", Host: s.listen}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }, FlushInterval: -1}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	g := &rowGate{next: proxy}
	front := &http.Server{Handler: g}
	go front.Serve(l)
	t.Cleanup(func() { front.Close() })
	return s, g
}

// TestKilledBeforeRows: a device that is killed when a content is at the server, and
// before it has written any row by itself, leaves the file listed to clients that
// read no log; nobody writes that row again, or takes it for a lie.
func TestKilledBeforeRows(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	s, gate := startGated(t, "--no-rate-limits")
	ada := newDevice(t, "ada", s.url, nil, nil)
	bob := newDevice(t, "bob", s.url, nil, ada)
	here := ada.mountAgain()
	c := newAPIClient(t, ada, s.url)

	listed := func(asset, name, content string) (row api.Row) {
		t.Helper()
		waitFor(t, asset+"/"+name+" is listed", patience, func() bool {
			p, ok := c.parents()[asset]
			if ok {
				row, ok = c.files(p)[name]
			}
			if !ok {
				return false
			}
			var holds string
			row, holds = c.download(row.ID)
			return holds == content
		})
		return row
	}
	gate.shut.Store(true)
	large := strings.Repeat("large file; ", 3<<20/12)
	must(t, os.WriteFile(filepath.Join(here.asset("Passport"), "scan.txt"), []byte("the scan"), 0o644))
	must(t, os.WriteFile(filepath.Join(here.path("Passport"), "large.txt"), []byte(large), 0o644))
	first := listed("Passport", "scan.txt", "the scan")
	listed("Passport", "large.txt", large)
	here.kill()
	if n := len(c.files(c.parents()["Passport"])); n != 2 {
		t.Errorf("%d files listed", n)
	}

	gate.shut.Store(false)
	here = ada.mountAgain()
	ada.ok("sync now")
	if n := gate.rows.Load(); n > 0 {
		t.Errorf("%d rows were written again", n)
	}
	// A new content of a file that has a row.
	gate.shut.Store(true)
	must(t, os.WriteFile(here.path("Passport", "scan.txt"), []byte("a new scan"), 0o644))
	if now := listed("Passport", "scan.txt", "a new scan"); now.ID != first.ID || now.Version != first.Version+1 {
		t.Errorf("%+v after %+v", now, first)
	}
	gate.shut.Store(false)
	calm(t, ada, bob)
	if n := gate.rows.Load(); n > 0 {
		t.Errorf("%d rows were written again", n)
	}
}
