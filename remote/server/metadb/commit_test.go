package metadb

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// same compares what the wire would show.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	a, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(a) != string(b) {
		t.Errorf("%s:\n%s\nwant\n%s", what, a, b)
	}
}

// together commits uploads in one transaction.
func (w *world) together(list ...Upload) (out []*commit) {
	w.t.Helper()
	for _, u := range list {
		out = append(out, &commit{upload: u})
	}
	if err := w.commitList(ctx, out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// checkFeed reads the whole feed, whose numbers must grow and end at its head.
func (w *world) checkFeed(a Account) map[string]api.Row {
	w.t.Helper()
	changes, err := w.Changes(ctx, a.ID, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	rows, last := map[string]api.Row{}, int64(0)
	for _, c := range changes.Changes {
		if c.N <= last {
			w.t.Errorf("%d after %d", c.N, last)
		}
		last = c.N
		if c.Row != nil {
			rows[c.Row.ID] = *c.Row
		}
	}
	if last != changes.Head {
		w.t.Errorf("the feed ends with %d, its head is %d", last, changes.Head)
	}
	return rows
}

// Uploads that share a transaction are as if each had had its own: what the
// answer, the feed and the table say is the same, and one that is refused leaves
// nothing.
func TestCommitTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		first := upload(a, parent, 300)
		w.together(first)
		replacing := upload(a, parent, 400)
		replacing.Row.ID, replacing.Row.Version, replacing.Release = first.Row.ID, 1, []string{first.Blob}
		large, orphan, stale := upload(a, parent, 700), upload(a, parent, 100), upload(a, parent, 50)
		orphan.Row.ParentID = randomID()
		stale.Row.ID = first.Row.ID // of a version that is no more
		twice := first
		twice.Blob, twice.Attempt = replacing.Blob, randomBlob() // other bytes under an id of the same transaction
		pledged := upload(a, parent, 10)
		pledged.Release = []string{first.Blob} // released by then, so it makes no room
		list := w.together(replacing, large, orphan, stale, twice, pledged)
		for i, want := range []api.Code{"", api.CodeQuotaExceeded, "", "", api.CodeOtherBytes, ""} {
			if err := list[i].err; want == "" && err != nil || want != "" && !api.IsCode(err, want) {
				t.Errorf("upload %d: %v, want %q", i, err, want)
			}
		}
		if e := list[2].stored.RowFail; e == nil || e.Code != api.CodeParentNotFound {
			t.Errorf("row without a parent: %v", e)
		}
		if e := list[3].stored.RowFail; e == nil || e.Code != api.CodeRowVersion {
			t.Errorf("row of another version: %v", e)
		}
		if now := w.usage(a); now.Usage != 400+100+50+10 || now.Trash != 300 || now.Reserved != 0 {
			t.Errorf("%+v", now)
		}
		rows := w.checkFeed(a)
		for _, i := range []int{0, 5} {
			got := list[i].stored.Row
			read, err := w.Row(ctx, a.ID, got.ID)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "answer", got, read)
			same(t, "feed", rows[got.ID], read)
		}
		if have, err := w.Blobs(ctx, a.ID, "", 10); err != nil || slices.ContainsFunc(have, func(b api.Blob) bool { return b.BlobID == large.Blob }) {
			t.Errorf("a refused upload left its blob: %v, %v", have, err)
		}
	})
}

// A failure of one is no other's: each is committed for itself then.
func TestCommitSpoilt(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		good, bad, later := upload(a, parent, 300), upload(a, parent, -5000), upload(a, parent, 200)
		var list []*commit
		for _, u := range []Upload{good, bad, later} { // the bad one breaks a CHECK of the table
			list = append(list, &commit{upload: u, done: make(chan struct{})})
		}
		w.commits.waiting[a.ID] = list
		w.commitAll(ctx, a.ID)
		for i, c := range list {
			<-c.done
			if failed := c.err != nil; failed != (i == 1) {
				t.Errorf("upload %d: %v", i, c.err)
			}
		}
		if now := w.usage(a); now.Usage != 500 || now.Reserved != 0 {
			t.Errorf("%+v", now)
		}
		w.checkFeed(a)
	})
}

// Many at once: the quota is exact, and one key is one upload.
func TestCommitRaces(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		const clients = 60
		var mu sync.Mutex
		made, again, refused := 0, 0, 0
		ids := map[string]bool{}
		var wg sync.WaitGroup
		for i := range clients {
			u := upload(a, parent, 90)
			if i%3 == 0 {
				u.Slot, u.Print = "key/one", "print"
			}
			wg.Go(func() {
				s, err := w.Commit(ctx, u, false)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case api.IsCode(err, api.CodeQuotaExceeded):
					refused++
				case err != nil || s.Row == nil:
					t.Error(err, s.RowFail)
				case s.Again:
					again++
				default:
					made++
				}
				if u.Print != "" && s.Row != nil {
					ids[s.Row.ID] = true
				}
			})
		}
		wg.Wait()
		if now := w.usage(a); made != 11 || now.Usage != 990 || now.Reserved != 0 || made+again+refused != clients {
			t.Errorf("made %d, again %d, refused %d, %+v", made, again, refused, now)
		}
		if len(ids) > 1 {
			t.Errorf("one Idempotency-Key made %d attachments", len(ids))
		}
		w.checkFeed(a)
		w.commits.mu.Lock()
		defer w.commits.mu.Unlock()
		if n := len(w.commits.waiting); n != 0 {
			t.Errorf("%d accounts are still at work", n)
		}
	})
}

// Vaults that register at the same moment each get an account.
func TestRegistrationsAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var wg sync.WaitGroup
		for i := range 48 {
			h := &api.ClearHeader{Vault: randomID(), DID: fmt.Sprint("did:key:", i), Seq: 1, Epoch: 1, Hash: [32]byte{1}}
			wg.Go(func() {
				_, made, err := w.Register(ctx, Registration{Header: h, Body: []byte("{}"), Boot: "b", Remote: randomBlob(), Plan: api.PlanPremium, Quota: 1})
				if err != nil || !made {
					t.Error(made, err)
				}
			})
		}
		wg.Wait()
		if list, err := w.Accounts(ctx); err != nil || len(list) != 48 {
			t.Errorf("%d accounts, %v", len(list), err)
		}
	})
}
