package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// rowGate stands before a server and holds up what writes rows of attachments by
// themselves while it is shut.
type rowGate struct {
	next http.Handler
	rows atomic.Int64 // that passed
	held atomic.Int64 // that came to the shut gate
	mu   sync.Mutex
	shut chan struct{} // closed when it opens; nil: it is open
}

func (g *rowGate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
	g.held.Store(0)
}

func (g *rowGate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// pass waits at the gate; false: who asked has given up.
func (g *rowGate) pass(ctx context.Context, rows int) bool {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		g.held.Add(int64(rows))
		select {
		case <-shut:
		case <-ctx.Done():
			return false
		}
	}
	g.rows.Add(int64(rows))
	return true
}

func (g *rowGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/rows") {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var in api.PutRows
		if json.Unmarshal(raw, &in) == nil && len(in.Rows) > 0 && !g.pass(r.Context(), len(in.Rows)) {
			return
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

// rowWatch saves files and watches how their rows come to the server.
type rowWatch struct {
	t    *testing.T
	gate *rowGate
	c    *apiClient
}

// row gives the row of a file in Passport if it has a content.
func (w *rowWatch) row(name, content string) (row api.Row, ok bool) {
	p, ok := w.c.parents()["Passport"]
	if ok {
		row, ok = w.c.files(p)[name]
	}
	if !ok {
		return row, false
	}
	row, holds := w.c.download(row.ID)
	return row, holds == content
}

// listed shuts the gate, saves, and waits until a row is at the server, which has to
// come with its content. Where something else was saved or sealed at that moment
// (creating the file on a busy machine, before it is written) it may come by itself;
// then false is the answer, and the gate is open.
func (w *rowWatch) listed(save func(), name, content string) (row api.Row, ok bool) {
	w.t.Helper()
	w.gate.open()
	w.gate.close()
	save()
	waitFor(w.t, name+" is listed", patience, func() bool {
		row, ok = w.row(name, content)
		return ok || w.gate.held.Load() > 0
	})
	if w.gate.held.Load() == 0 {
		return row, true
	}
	w.gate.open()
	waitFor(w.t, name+" is listed by a row of its own", patience, func() bool { row, ok = w.row(name, content); return ok })
	return row, false
}

// tries is how often what is saved may meet something else.
const tries = 10

// add saves new files until the row of one comes with its content. The gate is shut
// then. Result: that one and how many there are.
func (w *rowWatch) add(here *mount, prefix, content string) (name string, row api.Row, n int) {
	w.t.Helper()
	for n = 1; n <= tries; n++ {
		name = fmt.Sprintf("%s %d.txt", prefix, n)
		save := func() { must(w.t, os.WriteFile(here.path("Passport", name), []byte(content), 0o644)) }
		row, ok := w.listed(save, name, content)
		if ok {
			return name, row, n
		}
	}
	w.t.Fatalf("the rows of %d files have come after their contents", tries)
	return
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
	here.asset("Passport")
	w := &rowWatch{t, gate, newAPIClient(t, ada, s.url)}
	scan, first, scans := w.add(here, "scan", "the scan")
	_, _, larges := w.add(here, "large", strings.Repeat("large file; ", 3<<20/12))
	here.kill()
	if n := len(w.c.files(w.c.parents()["Passport"])); n != scans+larges {
		t.Errorf("%d files listed of %d", n, scans+larges)
	}

	gate.open()
	written := gate.rows.Load()
	here = ada.mountAgain()
	ada.ok("sync now")
	if n := gate.rows.Load() - written; n > 0 {
		t.Errorf("%d rows were written again", n)
	}
	// A new content of a file that has a row.
	for n, last := 1, first; ; n++ {
		content := fmt.Sprintf("new scan %d", n)
		save := func() { must(t, os.WriteFile(here.path("Passport", scan), []byte(content), 0o644)) }
		now, ok := w.listed(save, scan, content)
		if ok && (now.ID != last.ID || now.Version != last.Version+1) {
			t.Errorf("%+v after %+v", now, last)
		}
		if ok {
			break
		}
		if last = now; n == tries {
			t.Fatalf("%d rows have come after their contents", n)
		}
	}
	written = gate.rows.Load()
	gate.open()
	calm(t, ada, bob)
	if n := gate.rows.Load() - written; n > 0 {
		t.Errorf("%d rows were written again", n)
	}
}
