package server

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

// TestLabelsAreBounded: a client's words make no series of the metrics.
func TestLabelsAreBounded(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{})
	for i := range 100 {
		w.newPerson().do(fmt.Sprintf("METHOD%d", i), fmt.Sprintf("/path/%d", i), nil).want(404)
		w.newPerson().do(fmt.Sprintf("METHOD%d", i), api.PathUsage, nil).code(api.CodeMethodNotAllowed)
	}
	w.newPerson().do("HEAD", api.PathOpenAPI, nil).want(200)
	rec := httptest.NewRecorder()
	w.Metrics().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	if strings.Contains(text, "METHOD") || strings.Contains(text, "/path/") {
		t.Error("what a client made up is a label")
	}
	if n := strings.Count(text, "vaultdrive_requests_total{"); n > 6 {
		t.Errorf("%d series of requests", n)
	}
	if logs := w.logs.String(); strings.Contains(logs, "METHOD") || strings.Contains(logs, "/path/") {
		t.Error("what a client made up is in the log")
	}
}

// TestNetworks: limits by address count a network whole, and believe of
// X-Forwarded-For what the proxy itself has added.
func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		remote string
		proxy  bool
		lines  []string
		want   string
	}{
		{"192.0.2.7:1234", false, nil, "192.0.2.7"},
		{"192.0.2.7:1234", false, []string{"198.51.100.1"}, "192.0.2.7"},
		{"[2001:db8:1:2:3:4:5:6]:1", false, nil, "2001:db8:1:2::/64"},
		{"[::ffff:192.0.2.7]:1", false, nil, "192.0.2.7"},
		{"[fe80::1%eth0]:1", false, nil, "fe80::/64"},
		{"@", false, nil, "unknown"},
		{"127.0.0.1:1", true, nil, "127.0.0.1"},
		{"127.0.0.1:1", true, []string{"6.6.6.6, 198.51.100.1"}, "198.51.100.1"},
		{"127.0.0.1:1", true, []string{"6.6.6.6", "198.51.100.1"}, "198.51.100.1"},
		{"127.0.0.1:1", true, []string{"6.6.6.6", "2001:db8::1"}, "2001:db8::/64"},
		{"127.0.0.1:1", true, []string{"rubbish"}, "unknown"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		for _, line := range c.lines {
			r.Header.Add("X-Forwarded-For", line)
		}
		if got := (&call{r: r}).network(c.proxy); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestRefusedContentIsCounted: a download that was refused is refused again when
// it is asked for at once.
func TestRefusedContentIsCounted(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Limits: Limits{Downloads: 2}})
	p := w.register()
	parent := p.parent("item")
	var rows []api.Row
	for range 3 {
		rows = append(rows, p.upload("item", parent, randomBytes(100)))
	}
	for range 5 { // ranges of one file count once
		p.do("GET", api.PathContent(rows[0].ID), nil, "Range", "bytes=0-9").want(206)
	}
	p.do("GET", api.PathContent(rows[1].ID), nil).want(200)
	for range 3 {
		p.do("GET", api.PathContent(rows[2].ID), nil).code(api.CodeRateLimited)
	}
	w.pass(time.Minute)
	p.do("GET", api.PathContent(rows[2].ID), nil).want(200)
}

// TestOldIdempotencyKey: a key may be used again when it is too old to be known,
// swept or not.
func TestOldIdempotencyKey(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		body := uploadBody("item", p.parent("item"), randomBytes(100))
		p.do("POST", api.PathAttachments, body, api.HeaderIdempotency, "k").want(201)
		p.do("POST", api.PathAttachments, body, api.HeaderIdempotency, "k").want(200)
		w.pass(25 * time.Hour)
		p.login()
		p.do("POST", api.PathAttachments, body, api.HeaderIdempotency, "k").want(201)
		p.do("POST", api.PathAttachments, body, api.HeaderIdempotency, "k").want(200)
	})
}

// TestMissingOnce: an object that several find missing at once is taken off the
// account once.
func TestMissingOnce(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("item")
		p.upload("item", parent, randomBytes(100))
		row := p.upload("item", parent, randomBytes(100))
		b, err := w.o.DB.Blob(context.Background(), 1, row.BlobID)
		must(t, err)
		must(t, w.blobs.Delete(context.Background(), b.StorageKey))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := w.o.DB.Missing(context.Background(), b.StorageKey); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var u api.Usage
		p.do("GET", api.PathUsage, nil).want(200).into(&u)
		if u.Usage != 100 {
			t.Errorf("usage %d, want 100", u.Usage)
		}
	})
}

// TestReplacedPartsAreFreed: beginning an upload in parts again frees what is
// stored of the first, or a client could fill the disk beyond its quota.
func TestReplacedPartsAreFreed(t *testing.T) {
	onBoth(t, Options{FileLimit: 1 << 30, Limits: NoLimits()}, func(t *testing.T, w *world) {
		e := &statusEnv{world: w, person: w.register()}
		m, st := e.parts()
		e.do("PUT", api.PathPart(e.person.vault, st.Upload, 1), make([]byte, st.PartSize)).want(204)
		var again api.UploadState
		e.do("POST", api.PathVault(e.person.vault)+"/uploads", m).want(201).into(&again)
		e.do("PUT", api.PathPart(e.person.vault, st.Upload, 2), make([]byte, st.PartSize)).code(api.CodeNotFound)
		if size := w.onDisk(); size > 0 {
			t.Errorf("%d bytes are left of the first", size)
		}
		// One that nobody goes on with is freed by the sweep.
		e.do("PUT", api.PathPart(e.person.vault, again.Upload, 1), make([]byte, st.PartSize)).want(204)
		w.pass(2 * time.Hour)
		w.Sweep(context.Background())
		if size := w.onDisk(); size > 0 {
			t.Errorf("%d bytes are left of what nobody finished", size)
		}
		a, err := w.o.DB.AccountByVault(context.Background(), e.person.vault)
		must(t, err)
		if a.Reserved != 0 {
			t.Errorf("%d bytes are still reserved", a.Reserved)
		}
	})
}

// TestReturnedSlotIsTheOwn: giving a slot back frees it when it was taken, not
// somebody else's later one.
func TestReturnedSlotIsTheOwn(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		w.register()
		l := metadb.Limit{Class: "x", Max: 2, Window: time.Hour}
		take := func(want bool) metadb.Slot {
			t.Helper()
			s, err := w.o.DB.Take(context.Background(), 1, l, 1)
			if (err == nil) != want || err != nil && !api.IsCode(err, api.CodeRateLimited) {
				t.Fatalf("taken: %v", err)
			}
			return s
		}
		first := take(true)
		w.pass(30 * time.Minute)
		take(true)
		must(t, w.o.DB.Return(context.Background(), 1, first))
		w.pass(31 * time.Minute) // the second one is 31 minutes old
		take(true)
		take(false)
	})
}

// TestZeroLimit: a page of no length is the longest, not a crash.
func TestZeroLimit(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{})
	p := w.register()
	var list api.Parents
	p.do("GET", api.PathParents+"?limit=0", nil).want(200).into(&list)
	p.parent("item")
	p.do("GET", api.PathParents+"?limit=0", nil).want(200).into(&list)
	if len(list.Parents) != 1 || list.Next != nil {
		t.Errorf("%+v", list)
	}
	p.do("GET", api.PathParents+"?limit=1", nil).want(200).into(&list)
	if list.Next == nil {
		t.Error("a full page without a next one")
	}
	p.do("GET", api.PathParents+"?after="+*list.Next, nil).want(200).into(&list)
	if len(list.Parents) != 0 {
		t.Errorf("%+v", list)
	}
}
