package metatest

import (
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// socketName is PostgreSQL's in the directory that an address has as its host.
const socketName = ".s.PGSQL.5432"

// Away gives the address of an empty database, and what takes its server away:
// then its connections break, and there are no new ones. The test is skipped,
// with the reason, where there is no PostgreSQL of its own.
func Away(t testing.TB) (address string, leave func()) {
	t.Helper()
	u, err := url.Parse(Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	real := filepath.Join(q.Get("host"), socketName)
	if _, err := os.Stat(real); err != nil {
		t.Skipf("%s names a server that is not at a socket of this machine", DSN)
	}
	dir, err := os.MkdirTemp("", "vdaway") // the name of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{to: real, open: make(map[net.Conn]bool)}
	go f.accept(l)
	leave = sync.OnceFunc(func() { l.Close(); f.cut() })
	t.Cleanup(func() { leave(); os.RemoveAll(dir) })
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	return u.String(), leave
}

// forwarder passes bytes on until it is cut.
type forwarder struct {
	to   string
	mu   sync.Mutex
	gone bool
	open map[net.Conn]bool
}

func (f *forwarder) accept(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return // it was closed
		}
		to, err := net.Dial("unix", f.to)
		if err != nil || !f.keep(from, to) {
			from.Close()
			continue
		}
		go f.pass(from, to)
		go f.pass(to, from)
	}
}

func (f *forwarder) keep(ends ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range ends {
		if f.open[c] = true; f.gone {
			c.Close()
		}
	}
	return !f.gone
}

func (f *forwarder) pass(from, to net.Conn) {
	_, _ = io.Copy(to, from) // that it breaks is what it is for
	from.Close()
	to.Close()
}

func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	for c := range f.open {
		c.Close()
	}
}
