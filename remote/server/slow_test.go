package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// pipes is a network without a kernel, so that time can be made to pass.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return p }
func (*pipes) Network() string  { return "pipe" }
func (*pipes) String() string   { return "pipe.test" }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// whilePassing runs a test with the server's own bounds of time, on a clock that
// jumps. The clock of sessions and rates stands, as in every world.
func whilePassing(t *testing.T, run func(t *testing.T, w *world, net *pipes)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return n.dial(), nil }}
		w := &world{t: t, dir: t.TempDir(), logs: &lockedBuffer{}, client: &http.Client{Transport: transport}, http: &httptest.Server{Listener: n}}
		w.serve(t, filepath.Join(dir, "meta.db"), Options{FileLimit: 1 << 30, Limits: Limits{Failed: -1}})
		t.Cleanup(transport.CloseIdleConnections)
		run(t, w, n)
	})
}

// cutAfter reads until the server ends the connection, and says what came and
// how long it took.
func cutAfter(conn net.Conn) (string, time.Duration) {
	start := time.Now()
	b, _ := io.ReadAll(conn) // however it ends
	return string(b), time.Since(start)
}

func TestSlowHeaders(t *testing.T) {
	whilePassing(t, func(t *testing.T, w *world, n *pipes) {
		for name, head := range map[string]string{"silent": "", "half a line": "GET / HT", "headers without end": "GET /healthz HTTP/1.1\r\nHost: x\r\n"} {
			conn := n.dial()
			stop := make(chan struct{})
			go func() { // a byte every three seconds keeps it alive, or so it hopes
				defer close(stop)
				_, err := io.WriteString(conn, head)
				for err == nil && head != "" {
					time.Sleep(3 * time.Second)
					_, err = io.WriteString(conn, "x")
				}
			}()
			if _, took := cutAfter(conn); took > headerTime+time.Second {
				t.Errorf("%s: cut after %s", name, took)
			}
			conn.Close()
			<-stop
		}
		// One that has asked and asks no more is let go as well.
		conn := n.dial()
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if got, took := cutAfter(conn); !strings.HasPrefix(got, "HTTP/1.1 200") || took > idleTime+time.Second {
			t.Errorf("idle: %.20q, cut after %s", got, took)
		}
		conn.Close()
	})
}

func TestSlowBodies(t *testing.T) {
	whilePassing(t, func(t *testing.T, w *world, n *pipes) {
		e := &statusEnv{world: w, person: w.register()}
		_, st := e.parts()
		parent := e.parent("item")
		body := string(mustJSON(uploadBody("item", parent, randomBytes(1<<20))))
		for name, c := range map[string]struct {
			method, path, typ string
			length            int
			begin             string
		}{
			"JSON upload":      {"POST", api.PathAttachments, api.TypeJSON, len(body), body[:500_000]},
			"multipart upload": {"POST", api.PathAttachments, "multipart/form-data; boundary=b", 1000, "--b\r\n"},
			"part":             {"PUT", api.PathPart(e.person.vault, st.Upload, 1), api.TypeBlob, int(st.PartSize), "abc"},
			"batch":            {"PUT", api.PathBatch(e.person.vault, e.person.device, 1), api.TypeBlob, 1000, "VDRB"},
			"header":           {"PUT", api.PathHeader(e.person.vault, 2), api.TypeJSON, 1000, "{"},
			"challenge":        {"POST", api.PathChallenge, api.TypeJSON, 1000, "{"},
			"rows":             {"PUT", api.PathVault(e.person.vault) + "/rows", api.TypeJSON, 1000, "{"},
		} {
			conn := n.dial()
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
					c.method, c.path, e.token, c.typ, c.length, c.begin)
				for err == nil {
					time.Sleep(bodyPause / 2)
					_, err = io.WriteString(conn, "x")
				}
			}()
			most := bodyPause + time.Duration(len(c.begin)/bodyRate)*time.Second + time.Second
			got, took := cutAfter(conn)
			if !strings.HasPrefix(got, "HTTP/1.1 408") || took > most {
				t.Errorf("%s: cut after %s with %.100q, want 408 within %s", name, took, got, most)
			}
			conn.Close()
			<-stop
		}
		if w.bodies.all != 0 || w.held.Load() != 0 {
			t.Errorf("%d places and %d bytes are not given back", w.bodies.all, w.held.Load())
		}
		// Slow, but coming: 8 KiB a second are enough.
		conn := n.dial()
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
				api.PathAttachments, e.token, len(body))
			for rest := body; rest != ""; {
				k := min(len(rest), 8<<10)
				if _, err := io.WriteString(conn, rest[:k]); err != nil {
					return
				}
				rest = rest[k:]
				time.Sleep(time.Second)
			}
		}()
		if got, took := cutAfter(conn); !strings.HasPrefix(got, "HTTP/1.1 201") {
			t.Errorf("a slow upload ended after %s with %.300q", took, got)
		}
		conn.Close()
		<-stop
	})
}

// TestSlowReader: who asks for much and takes nothing is let go.
func TestSlowReader(t *testing.T) {
	whilePassing(t, func(t *testing.T, w *world, n *pipes) {
		p := w.register()
		row := p.upload("item", p.parent("item"), randomBytes(1<<20))
		for _, path := range []string{api.PathContent(row.ID), api.PathAttachment(row.ID)} {
			conn := n.dial()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, p.token)
			time.Sleep(sendPause + time.Second)
			if got, _ := cutAfter(conn); len(got) > 100_000 {
				t.Errorf("%s: %d bytes are sent to who took none for %s", path, len(got), sendPause)
			}
			conn.Close()
		}
	})
}

// TestDeadlinesEnd: a deadline of one answer or body is none for what follows on
// the same connection.
func TestDeadlinesEnd(t *testing.T) {
	whilePassing(t, func(t *testing.T, w *world, n *pipes) {
		p := w.register()
		conn := n.dial()
		defer conn.Close()
		in := bufio.NewReader(conn)
		ask := func(method, path string, want int) {
			t.Helper()
			go fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", method, path, p.token)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			_, _ = io.Copy(io.Discard, res.Body) // it is in the pipe
			if res.StatusCode != want {
				t.Fatalf("%s %s: %d, want %d", method, path, res.StatusCode, want)
			}
		}
		ask("GET", api.PathUsage, 200)
		time.Sleep(sendPause + 10*time.Second)
		ask("DELETE", api.PathParent("item", p.parent("item")), 204)
		ask("GET", api.PathUsage, 200)
		time.Sleep(sendPause / 2)
		head := w.state(p).Head
		ask("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=55", head), 204)
	})
}

// TestSlowStore: an upload goes on when the store takes longer than a client may.
func TestSlowStore(t *testing.T) {
	whilePassing(t, func(t *testing.T, w *world, n *pipes) {
		w.o.Blobs = &sleepyStore{Store: w.blobs}
		p := w.register()
		row := p.upload("item", p.parent("item"), randomBytes(300_000))
		p.do("GET", api.PathContent(row.ID), nil).want(200)
	})
}

type sleepyStore struct{ blob.Store }

func (s *sleepyStore) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	time.Sleep(3 * bodyPause)
	return s.Store.Put(ctx, key, r, size, createOnly)
}
