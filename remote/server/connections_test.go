package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// bounded serves a world on a listener of so many connections. Who is refused there
// has all the time of the test.
func bounded(t *testing.T, c Connections, plain bool, from func(net.Addr) string) string {
	t.Helper()
	return boundedFor(t, c, plain, from, time.Hour)
}

func boundedFor(t *testing.T, c Connections, plain bool, from func(net.Addr) string, tell time.Duration) string {
	t.Helper()
	w := newWorld(t, t.TempDir()+"/m.db", Options{Connections: c})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := w.Server.Bound(tcp.(*net.TCPListener), plain).(*boundedListener)
	l.tellFor = tell
	if from != nil {
		l.from = from
	}
	h := w.Server.HTTP()
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if l.all != 0 || len(l.each) != 0 {
			t.Errorf("%d connections counted after the end, %v", l.all, l.each)
		}
	})
	return l.Addr().String()
}

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	return conn
}

// ask sends a request on a connection; nil: it was closed without an answer.
func ask(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") // one that was closed says so at the answer
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Fatal("neither an answer nor an end")
		}
		return nil
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// open is a connection that the server has taken.
func open(t *testing.T, address string) net.Conn {
	t.Helper()
	conn := dialTo(t, address)
	if res := ask(t, conn); res == nil || res.StatusCode != http.StatusOK {
		t.Fatalf("not let in: %+v", res)
	}
	return conn
}

func wantFull(t *testing.T, res *http.Response) {
	t.Helper()
	if res == nil {
		t.Fatal("closed without a word")
	}
	var e api.Error
	if err := json.NewDecoder(res.Body).Decode(&e); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusServiceUnavailable || e.Code != api.CodeUnavailable || e.Text == "" || !api.ValidID(e.RequestID) ||
		res.Header.Get("Retry-After") != "10" || res.Header.Get("Content-Type") != api.TypeJSON {
		t.Errorf("%d %v %+v", res.StatusCode, res.Header, e)
	}
	if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("goes on after the answer: %d, %v", n, err)
	}
}

// letIn waits for a place.
func letIn(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; {
		if res := ask(t, dialTo(t, address)); res != nil && res.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatal("no place becomes free")
		}
		time.Sleep(time.Millisecond)
	}
}

// One connection too many is told so, those that are open go on, and a place that
// becomes free is given away.
func TestConnectionsAll(t *testing.T) {
	address := bounded(t, Connections{All: 2}, true, nil)
	one, two := open(t, address), open(t, address)
	for range 3 {
		wantFull(t, ask(t, dialTo(t, address)))
	}
	for _, c := range []net.Conn{one, two} {
		if res := ask(t, c); res == nil || res.StatusCode != http.StatusOK {
			t.Errorf("an open connection: %+v", res)
		}
	}
	one.Close()
	letIn(t, address)
}

// One network cannot take all places, and the own machine has no bound of its own.
func TestConnectionsEach(t *testing.T) {
	from := make(chan string, 8)
	address := bounded(t, Connections{All: 5, Each: 2}, true, func(net.Addr) string { return <-from })
	dial := func(source string) *http.Response {
		from <- source
		return ask(t, dialTo(t, address))
	}
	for n, c := range []struct {
		source string
		in     bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"", true}, {"a", false}, {"", true}, {"b", false}} {
		res := dial(c.source)
		if c.in && (res == nil || res.StatusCode != http.StatusOK) {
			t.Errorf("connection %d, of %q: %+v", n, c.source, res)
		} else if !c.in {
			wantFull(t, res)
		}
	}
}

// Who asks nothing is not waited for beyond a bound, and with TLS nobody is told:
// either way the connection ends.
func TestConnectionsClosed(t *testing.T) {
	address := bounded(t, Connections{All: 1}, true, nil)
	open(t, address)
	for range tellAtOnce {
		dialTo(t, address)
	}
	wantClosed(t, "beyond the refusals at once", address)
	address = bounded(t, Connections{All: 1}, false, nil)
	open(t, address)
	wantClosed(t, "with TLS", address)
	address = boundedFor(t, Connections{All: 1}, true, nil, 10*time.Millisecond)
	open(t, address)
	if n, err := dialTo(t, address).Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("who asks nothing: %d bytes, %v", n, err)
	}
}

// wantClosed: a new connection ends, maybe before it is known to be one.
func wantClosed(t *testing.T, what, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	if res := ask(t, conn); res != nil {
		t.Errorf("%s: an answer, %d", what, res.StatusCode)
	}
}

// net/http sends files past the process only where it finds a TCP connection.
func TestBoundedConnectionSendsFiles(t *testing.T) {
	var c net.Conn = &boundedConn{}
	if _, ok := c.(io.ReaderFrom); !ok {
		t.Error("no ReadFrom")
	}
	if _, ok := c.(interface{ CloseWrite() error }); !ok {
		t.Error("no CloseWrite")
	}
}

func TestSourceOf(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:5": "", "[::1]:5": "", "[::ffff:127.0.0.9]:5": "",
		"192.0.2.7:5": "192.0.2.7", "[::ffff:192.0.2.7]:6": "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:7": "2001:db8:1:2::/64", "[2001:db8:1:2::9]:7": "2001:db8:1:2::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := sourceOf(a); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

func TestConnectionDefaults(t *testing.T) {
	for in, want := range map[Connections]Connections{{}: {20_000, 1024}, {All: -1, Each: -1}: {}, {All: 5, Each: 7}: {5, 7}} {
		if got := in.withDefaults(); got != want {
			t.Errorf("%+v: %+v, want %+v", in, got, want)
		}
	}
}
