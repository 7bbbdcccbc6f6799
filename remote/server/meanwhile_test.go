package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

// set is what an operator does with the account.
func (p *person) set(plan *string, quota *int64, disabled *bool) metadb.Account {
	p.w.t.Helper()
	account, err := p.w.o.DB.AccountByVault(context.Background(), p.vault)
	must(p.w.t, err)
	must(p.w.t, p.w.o.DB.SetAccount(context.Background(), account.ID, plan, quota, disabled))
	return account
}

// pausing is a body that says when its first half was taken, and waits then.
type pausing struct {
	first, second io.Reader
	half, goOn    chan struct{}
}

func pausingBody(b []byte) *pausing {
	return &pausing{first: bytes.NewReader(b[:len(b)/2]), second: bytes.NewReader(b[len(b)/2:]), half: make(chan struct{}), goOn: make(chan struct{})}
}

func (r *pausing) Read(b []byte) (int, error) {
	n, err := r.first.Read(b)
	if err == nil || r.half == nil {
		return n, err
	}
	close(r.half)
	<-r.goOn
	r.first, r.half = r.second, nil
	return r.first.Read(b)
}

// TestAccountChangesDuringUpload: whom the operator disables in the middle of an
// upload gets nothing stored any more, and nothing is left of it; a smaller plan
// is for what comes next.
func TestAccountChangesDuringUpload(t *testing.T) {
	yes, no, free, little := true, false, api.PlanFree, int64(1)
	onBoth(t, Options{Limits: NoLimits()}, func(t *testing.T, w *world) {
		for name, c := range map[string]struct {
			change func(p *person)
			status int
		}{
			"disabled":        {func(p *person) { p.set(nil, nil, &yes) }, http.StatusForbidden},
			"disabled, again": {func(p *person) { p.set(nil, nil, &yes); p.set(nil, nil, &no) }, http.StatusCreated},
			"smaller plan":    {func(p *person) { p.set(&free, nil, nil) }, http.StatusCreated},
			"smaller quota":   {func(p *person) { p.set(nil, &little, nil) }, http.StatusCreated},
		} {
			for _, json := range []bool{false, true} {
				if json && name == "smaller quota" {
					c.status = http.StatusRequestEntityTooLarge // its size is known at its end only
				}
				p := w.register()
				objects := w.objects()
				if a := p.during(json, func() { c.change(p) }); a.status != c.status {
					t.Errorf("%s, json %v: %d %s", name, json, a.status, a.body)
				}
				w.Sweep(context.Background())
				if now := p.set(nil, nil, &no); now.Reserved != 0 || (now.Usage > 0) != (c.status == http.StatusCreated) {
					t.Errorf("%s, json %v: %+v", name, json, now)
				}
				if stored := w.objects() - objects; (stored == 1) != (c.status == http.StatusCreated) {
					t.Errorf("%s, json %v: %d objects", name, json, stored)
				}
			}
		}
	})
}

// during does change when half of an upload is on its way.
func (p *person) during(asJSON bool, change func()) *answer {
	p.w.t.Helper()
	content := randomBytes(3 << 20)
	body, typ := formBody(metadataOf(content), content)
	if asJSON {
		var err error
		body, err = json.Marshal(uploadBody("item", p.parent("item"), content))
		must(p.w.t, err)
		typ = api.TypeJSON
	}
	r := pausingBody(body)
	req := p.request("POST", api.PathAttachments, nil, "Content-Type", typ)
	req.Body, req.ContentLength = io.NopCloser(r), int64(len(body))
	half := r.half
	answers := make(chan *answer, 1)
	go func() {
		a, err := p.w.try(req)
		if err != nil {
			a = &answer{t: p.w.t, body: []byte(err.Error())}
		}
		answers <- a
	}()
	<-half
	until(p.w.t.(*testing.T), "the upload is let in", func() bool {
		p.w.bodies.mu.Lock()
		defer p.w.bodies.mu.Unlock()
		return p.w.bodies.all == 1 && (asJSON || p.set(nil, nil, nil).Reserved > 0)
	})
	change()
	close(r.goOn)
	return <-answers
}

// TestDisabledWhileWaiting: a long poll that began before says nothing more.
func TestDisabledWhileWaiting(t *testing.T) {
	yes := true
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		account := p.set(nil, nil, nil)
		req := p.request("GET", fmt.Sprintf("%s/changes?after=%d&wait=55", api.PathVault(p.vault), account.Head), nil)
		answers := make(chan *answer, 1)
		go func() {
			a, err := w.try(req)
			if err != nil {
				a = &answer{body: []byte(err.Error())}
			}
			answers <- a
		}()
		w.untilWaiting(1)
		p.set(nil, nil, &yes)
		w.wake(account.ID)
		if a := <-answers; a.status != http.StatusForbidden {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// TestWholeList: without a limit all rows come, however many there are, in order
// and once each.
func TestWholeList(t *testing.T) {
	onBoth(t, Options{Limits: NoLimits()}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("item")
		row := p.upload("item", parent, randomBytes(100))
		for _, n := range []int{1, api.MaxList - 1, api.MaxList, api.MaxList + 1, 2*api.MaxList + 3} {
			var list api.List
			at := api.PathAttachments + "?parent_type=item&parent_id=" + parent
			p.do("GET", at, nil).want(200).into(&list)
			in := api.PutRows{At: 1 << 40}
			for range n - len(list.Attachments) {
				r := row
				r.ID, r.Version = newID(), 0
				in.Rows = append(in.Rows, r)
			}
			p.do("PUT", api.PathVault(p.vault)+"/rows", in).want(200)
			p.do("GET", at, nil).want(200).into(&list)
			if len(list.Attachments) != n || list.Next != nil {
				t.Fatalf("%d of %d rows", len(list.Attachments), n)
			}
			for i := range n - 1 {
				if list.Attachments[i].ID >= list.Attachments[i+1].ID {
					t.Fatalf("row %d of %d is out of order", i, n)
				}
			}
			p.do("GET", at+"&after="+list.Attachments[n-1].ID, nil).want(200).into(&list)
			if len(list.Attachments) != 0 {
				t.Errorf("%d rows behind the last", len(list.Attachments))
			}
		}
	})
}

// TestHeadCostsNoBytes: to ask for the length of a blob is no download of it.
func TestHeadCostsNoBytes(t *testing.T) {
	onBoth(t, Options{Limits: Limits{BlobBytes: 1500}}, func(t *testing.T, w *world) {
		p := w.register()
		row := p.upload("item", p.parent("item"), randomBytes(1000))
		for range 5 {
			p.do("HEAD", api.PathBlob(p.vault, row.BlobID), nil).want(200)
		}
		p.do("GET", api.PathBlob(p.vault, row.BlobID), nil).want(200)
		p.do("GET", api.PathBlob(p.vault, row.BlobID), nil).code(api.CodeRateLimited)
	})
}
