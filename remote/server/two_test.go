package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// twoChildren are two processes on one PostgreSQL and one directory of blobs.
func twoChildren(t *testing.T, quota int64, limits Limits) [2]*child {
	t.Helper()
	config := childConfig{Database: metatest.Postgres(t), Blobs: t.TempDir(), Temp: filepath.Join(t.TempDir(), "one"), Quota: quota, Limits: limits}
	second := config
	second.Temp = filepath.Join(t.TempDir(), "two")
	return [2]*child{newChild(t, config), newChild(t, second)}
}

// at gives the same person as a client of another process.
func (p *person) at(c *child) *person {
	q := *p
	q.w = c.world
	return &q
}

// TestTwoProcessesHistory: fifty clients of two processes upload and delete, and
// the quota of each account was exact in some order of it.
func TestTwoProcessesHistory(t *testing.T) {
	const quota, accounts, clients = 3000, 5, 10
	two := twoChildren(t, quota, NoLimits())
	var wg sync.WaitGroup
	var histories []*metatest.History
	for a := range accounts {
		p := two[0].register()
		parent, h := p.parent("item"), metatest.NewHistory()
		histories = append(histories, h)
		for i := range clients {
			c := &uploader{p: p.at(two[i%2]), parent: parent, h: h, id: i, r: rand.New(rand.NewPCG(uint64(a), uint64(i)))}
			wg.Go(func() {
				for range 4 {
					c.act()
				}
			})
		}
	}
	wg.Wait()
	for _, h := range histories {
		h.Check(t, metatest.QuotaModel(quota))
	}
	two[0].kill()
	two[1].kill()
	two[0].opened().settled(two[0].config.Database)
}

type uploader struct {
	p      *person
	parent string
	h      *metatest.History
	id     int
	r      *rand.Rand
}

func (c *uploader) act() {
	if c.r.IntN(3) == 0 {
		c.h.Do(c.id, metatest.QuotaIn{Op: "read"}, func() any {
			var u api.Usage
			c.p.do("GET", api.PathUsage, nil).into(&u)
			return metatest.QuotaOut{Usage: u.Usage, Remaining: u.Remaining}
		})
		return
	}
	size := 100 * (1 + c.r.IntN(9))
	var row api.Row
	c.h.Do(c.id, metatest.QuotaIn{Op: "store", Bytes: int64(size)}, func() any {
		a := c.p.do("POST", api.PathAttachments, uploadBody("item", c.parent, randomBytes(size)))
		var e api.Error
		switch {
		case a.status == http.StatusCreated && json.Unmarshal(a.body, &row) == nil:
			return metatest.QuotaOut{}
		case a.status == http.StatusRequestEntityTooLarge && json.Unmarshal(a.body, &e) == nil && e.Quota != nil:
			return metatest.QuotaOut{Refused: true, Usage: e.Usage, Remaining: e.Remaining}
		}
		c.p.w.t.Errorf("%s: %d %.200s", a.what, a.status, a.body)
		return metatest.QuotaOut{}
	})
	if row.ID != "" && c.r.IntN(2) == 0 {
		c.h.Do(c.id, metatest.QuotaIn{Op: "delete", Bytes: int64(size)}, func() any {
			if a := c.p.do("DELETE", api.PathAttachment(row.ID), nil); a.status != http.StatusNoContent {
				c.p.w.t.Errorf("%s: %d %.200s", a.what, a.status, a.body)
			}
			return metatest.QuotaOut{}
		})
	}
}

// TestTwoProcessesRate: of fifty uploads at once through two processes exactly
// ten are let in, and what fails among them takes no slot.
func TestTwoProcessesRate(t *testing.T) {
	limits := NoLimits()
	limits.JSONUploads = 10
	two := twoChildren(t, 1<<20, limits)
	p := two[0].register()
	parent := p.parent("item")
	for range 2 {
		bad := uploadBody("item", parent, randomBytes(100))
		bad["size_bytes"] = 5
		p.do("POST", api.PathAttachments, bad).code(api.CodeLengthMismatch)
	}
	var stored, limited atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		q := p.at(two[i%2])
		wg.Go(func() {
			switch a := q.do("POST", api.PathAttachments, uploadBody("item", parent, randomBytes(100))); a.status {
			case http.StatusCreated:
				stored.Add(1)
			case http.StatusTooManyRequests:
				limited.Add(1)
			default:
				t.Errorf("%d %.200s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if stored.Load() != 10 || limited.Load() != 40 {
		t.Errorf("%d stored, %d limited", stored.Load(), limited.Load())
	}
}

// TestOneOfTwoIsKilled in the middle of uploads and long polls: clients go over to
// the other one, what was acknowledged is there, and the books are right.
func TestOneOfTwoIsKilled(t *testing.T) {
	two := twoChildren(t, 1<<30, NoLimits())
	p := two[0].register()
	parent := p.parent("item")
	f := &failover{t: t, two: two, want: make(map[string][]byte)}
	var uploads, polls sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		polls.Go(func() { f.poll(p, i%2, stop) })
	}
	for i := range 8 {
		uploads.Go(func() {
			for n := range 10 {
				f.store(p, parent, 1000+(n%3)*150_000, i%2)
			}
		})
	}
	deadline := time.Now().Add(5 * time.Minute)
	for f.done.Load() < 20 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	f.killed.Store(true)
	two[0].kill()
	uploads.Wait()
	close(stop)
	q := p.at(two[1])
	q.parent("note") // wakes who waits
	polls.Wait()
	for id, content := range f.want {
		if got := q.do("GET", api.PathBlob(q.vault, id), nil).want(200); !bytes.Equal(got.body, content) {
			t.Errorf("blob %s has other bytes", id)
		}
	}
	if len(f.want) != 80 {
		t.Errorf("%d of 80 are acknowledged", len(f.want))
	}
	two[1].kill()
	two[1].opened().settled(two[1].config.Database)
}

// failover are clients that know two servers.
type failover struct {
	t      *testing.T
	two    [2]*child
	killed atomic.Bool
	done   atomic.Int64
	mu     sync.Mutex
	want   map[string][]byte // acknowledged, by blob
}

// ask sends to a server, and to the other one if that has gone.
func (f *failover) ask(p *person, first int, method, path string, body any, headers ...string) *answer {
	q := p.at(f.two[first])
	req := q.request(method, path, body, headers...)
	a, err := q.w.try(req)
	if err != nil {
		if !f.killed.Load() {
			f.t.Errorf("%s %s: %v, and it was not killed", method, path, err)
		}
		q = p.at(f.two[1])
		req = q.request(method, path, body, headers...)
		if a, err = q.w.try(req); err != nil {
			f.t.Errorf("%s %s: %v", method, path, err)
			return &answer{t: f.t}
		}
	}
	a.asDocumented(req)
	return a
}

func (f *failover) store(p *person, parent string, size, first int) {
	content := randomBytes(size)
	a := f.ask(p, first, "POST", api.PathAttachments, uploadBody("item", parent, content), api.HeaderIdempotency, newID())
	var row api.Row
	if a.status != 200 && a.status != 201 || json.Unmarshal(a.body, &row) != nil {
		f.t.Errorf("%s: %d %.200s", a.what, a.status, a.body)
		return
	}
	f.mu.Lock()
	f.want[row.BlobID] = content
	f.mu.Unlock()
	f.done.Add(1)
}

// poll follows the feed; it must only grow.
func (f *failover) poll(p *person, first int, stop <-chan struct{}) {
	after := int64(0)
	for {
		select {
		case <-stop:
			return
		default:
		}
		a := f.ask(p, first, "GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d&wait=5", after), nil)
		if a.status == http.StatusNoContent {
			continue
		}
		var c api.Changes
		if a.status != 200 || json.Unmarshal(a.body, &c) != nil || len(c.Changes) == 0 {
			f.t.Errorf("%s: %d %.200s", a.what, a.status, a.body)
			return
		}
		for _, one := range c.Changes {
			if one.N <= after {
				f.t.Errorf("change %d after %d", one.N, after)
			}
			after = one.N
		}
		if c.Head < after {
			f.t.Errorf("head %d, and there is change %d", c.Head, after)
		}
	}
}
