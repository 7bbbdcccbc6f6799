package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	vaultserver "github.com/vaultdrive/vaultdrive/remote/server"
)

// A system that lets a process open few files has fewer connections, which is said;
// the server's own files have their room.
func TestConnectionBounds(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < 5000 {
		t.Skipf("%d files may be open, the test needs 5000", files.Cur)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
	for _, c := range []struct {
		files     uint64
		asked, is int
	}{{5000, 3000, 3000}, {5000, 20_000, 5000 - spareFiles}, {1500, 20_000, 750}} {
		low := unix.Rlimit{Cur: c.files, Max: files.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		got := (&serveCommand{connections: c.asked, each: 7}).connectionBounds(slog.New(slog.NewTextHandler(&log, nil)))
		if want := (vaultserver.Connections{All: c.is, Each: 7}); got != want || strings.Contains(log.String(), "LimitNOFILE") != (c.is < c.asked) {
			t.Errorf("of %d, with %d files: %+v, want %+v; log %s", c.asked, c.files, got, want, log.String())
		}
	}
}

func TestServeConnectionFlags(t *testing.T) {
	for _, c := range []serveCommand{{connections: 0, each: 1}, {connections: 1, each: -1}} {
		c.address, c.plan, c.ui = "127.0.0.1:0", "premium", &ui{err: new(bytes.Buffer)}
		if _, err := c.options(); !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "--max-connections") {
			t.Errorf("%d, %d: %v", c.connections, c.each, err)
		}
	}
}

// An interrupt lets a server end what is under way, which may take longer than
// other commands have: that is settled before it takes the first request.
func TestServeDrainsFromItsFirstRequest(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	u, said := &ui{out: io.Discard}, make(map[string]bool)
	u.err = writerFunc(func(line []byte) (int, error) {
		var m struct{ Msg string }
		if json.Unmarshal(line, &m) == nil {
			said[m.Msg] = u.draining.Load()
		}
		if m.Msg == "serving" {
			interrupt()
		}
		return len(line), nil
	})
	c := &serveCommand{serveStores: serveStores{ui: u, data: filepath.Join(t.TempDir(), "data")}, address: "127.0.0.1:0", plan: "premium", connections: 10, each: 10, quick: true}
	if err := interruptible(ctx, u, func() error { return c.Run(ctx) }); err != nil {
		t.Fatal(err)
	}
	for _, msg := range []string{"serving", "draining", "ended"} {
		if draining, ok := said[msg]; !ok || !draining {
			t.Errorf("%q: said %v, an interrupt waits %v", msg, ok, draining)
		}
	}
}
