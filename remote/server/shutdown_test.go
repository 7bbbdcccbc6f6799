package server

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// TestShutdownUnderLoad: long polls go at once, what has begun comes to its end,
// and what was acknowledged is there.
func TestShutdownUnderLoad(t *testing.T) {
	at := filepath.Join(t.TempDir(), "meta.db")
	w := newWorld(t, at, Options{Limits: NoLimits()})
	p := w.register()
	parent, head := p.parent("item"), w.state(p).Head
	var polls, uploads sync.WaitGroup
	for range 4 {
		polls.Go(func() {
			after := head
			for {
				a, err := w.try(p.request("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=55", after), nil))
				if err != nil || a.status == http.StatusNoContent {
					return
				}
				var c api.Changes
				a.want(200).into(&c)
				after = c.Changes[len(c.Changes)-1].N
			}
		})
	}
	var stored atomic.Int64
	for range 6 {
		uploads.Go(func() {
			for {
				a, err := w.try(p.request("POST", api.PathAttachments, uploadBody("item", parent, randomBytes(300_000))))
				if err != nil {
					return // nobody listens any more
				}
				if a.status != http.StatusCreated {
					t.Errorf("%d %.200s", a.status, a.body)
				}
				stored.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(5 * time.Minute); stored.Load() < 12 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	w.Drain()
	p.do("GET", "/readyz", nil).code(api.CodeUnavailable)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	must(t, w.http.Config.Shutdown(ctx))
	polls.Wait()
	uploads.Wait()
	if w.bodies.all != 0 || w.held.Load() != 0 {
		t.Errorf("%d places, %d bytes are not given back", w.bodies.all, w.held.Load())
	}
	if rows, err := w.o.DB.Rows(ctx, 1, "item", parent, "", 0); err != nil || int64(len(rows)) < stored.Load() {
		t.Errorf("%d rows of %d acknowledged, %v", len(rows), stored.Load(), err)
	}
}

// TestAuditLog: every upload and deletion through the interface is written down
// with parent, type, size, author and request.
func TestAuditLog(t *testing.T) {
	for name, address := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(t.TempDir(), "meta.db") },
		"postgres": func() string { return metatest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			at := address()
			w := newWorld(t, at, Options{})
			p := w.register()
			parent := p.parent("note")
			var want []string
			add := func(action string, row api.Row, by string, a *answer) {
				want = append(want, strings.Join([]string{action, row.ID, "note", parent, fmt.Sprint(row.SizeBytes), by, a.header.Get(api.HeaderRequest)}, " "))
			}
			for _, who := range []*person{p, p.page()} {
				by := map[bool]string{true: p.device, false: api.ByClient}[who == p]
				var row api.Row
				a := who.do("POST", api.PathAttachments, uploadBody("note", parent, randomBytes(100))).want(201)
				a.into(&row)
				add("upload", row, by, a)
				who.do("POST", api.PathAttachments, "x").want(400) // nothing came of it
				who.do("GET", api.PathAttachment(row.ID), nil).want(200)
				add("delete", row, by, who.do("DELETE", api.PathAttachment(row.ID), nil).want(204))
				who.do("DELETE", api.PathAttachment(row.ID), nil).want(204) // already
			}
			if got := metatest.Audit(t, at); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
