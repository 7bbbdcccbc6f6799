package metadb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

func TestMain(m *testing.M) { metatest.Main(m) }

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, run func(t *testing.T, w *world)) {
	t.Run("sqlite", func(t *testing.T) { run(t, newWorld(t, filepath.Join(t.TempDir(), "meta.db"))) })
	t.Run("postgres", func(t *testing.T) { run(t, newWorld(t, metatest.Postgres(t))) })
}

// world is an open database with a clock and accounts.
type world struct {
	*DB
	t     *testing.T
	clock atomic.Int64 // ms
}

var ctx = context.Background()

func newWorld(t *testing.T, address string) *world {
	t.Helper()
	db, err := Open(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{DB: db, t: t}
	w.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	db.now = func() time.Time { return time.UnixMilli(w.clock.Load()) }
	return w
}

func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }

func randomID() string {
	var b [16]byte
	rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func randomBlob() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// account registers a vault with a quota, and a parent to hang things on.
func (w *world) account(quota int64) (a Account, parent api.Parent) {
	w.t.Helper()
	h := &api.ClearHeader{Vault: randomID(), DID: "did:key:" + randomBlob(), Seq: 1, Epoch: 1, Hash: [32]byte{1}}
	a, made, err := w.Register(ctx, Registration{Header: h, Body: []byte("{}"), Boot: "b", Remote: randomBlob(), Plan: api.PlanPremium, Quota: quota})
	if err != nil || !made {
		w.t.Fatalf("register: %v, %v", made, err)
	}
	parent = api.Parent{Type: "item", ID: randomID(), TitleEncrypted: "t", Epoch: 1, State: api.StateLive, By: api.ByClient}
	if _, err := w.PutParent(ctx, a.ID, parent); err != nil {
		w.t.Fatal(err)
	}
	return a, parent
}

// upload is one that brings a new attachment.
func upload(a Account, parent api.Parent, size int64) Upload {
	id := randomBlob()
	return Upload{Account: a.ID, Slot: id, Attempt: randomBlob(), Blob: id, StorageKey: "k/" + randomBlob(), Stored: size, SHA256: fmt.Sprintf("%064x", size), At: -1,
		By: api.ByClient, Row: &api.Row{ID: randomID(), ParentType: parent.Type, ParentID: parent.ID, FileNameEncrypted: "n", ContentTypeEncrypted: "m",
			SizeBytes: size - 28, WrappedFileKey: &api.WrappedKey{IV: "i", Ciphertext: "c"}, EncryptionVersion: 3, State: api.StateLive}}
}

func (w *world) store(u Upload) Stored {
	w.t.Helper()
	if _, _, err := w.Admit(ctx, u); err != nil {
		w.t.Fatalf("admit: %v", err)
	}
	s, err := w.Commit(ctx, u, true)
	if err != nil || s.RowFail != nil {
		w.t.Fatalf("commit: %v, %v", err, s.RowFail)
	}
	return s
}

func (w *world) usage(a Account) Account {
	w.t.Helper()
	now, err := w.AccountByID(ctx, a.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return now
}

func TestUploadLifecycle(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		u := upload(a, parent, 600)
		s := w.store(u)
		if s.Row.Version != 1 || s.Row.StoredBytes != 600 || s.Row.VaultID != a.Vault || s.Row.BlobID != u.Blob {
			t.Fatalf("%+v", s.Row)
		}
		if rows, err := w.Rows(ctx, a.ID, parent.Type, parent.ID, "", 0); err != nil || len(rows) != 1 || rows[0].ID != u.Row.ID {
			t.Fatalf("%v, %v", rows, err)
		}
		big := upload(a, parent, 500)
		var e *api.Error
		if _, _, err := w.Admit(ctx, big); !errors.As(err, &e) || e.Code != api.CodeQuotaExceeded || e.Usage != 600 || e.Remaining != 400 {
			t.Fatalf("%v", err)
		}
		if _, err := w.Commit(ctx, big, false); !api.IsCode(err, api.CodeQuotaExceeded) {
			t.Fatalf("%v", err)
		}
		// A save that replaces a file needs only the difference.
		big.Release = []string{u.Blob}
		big.Row.ID, big.Row.Version = u.Row.ID, 1
		if s = w.store(big); s.Row.Version != 2 || s.Row.BlobID != big.Blob {
			t.Fatalf("%+v", s.Row)
		}
		if now := w.usage(a); now.Usage != 500 || now.Trash != 600 || now.Reserved != 0 {
			t.Fatalf("%+v", now)
		}
		// The same again changes nothing.
		if have, _, err := w.Admit(ctx, big); err != nil || !have {
			t.Fatalf("%v, %v", have, err)
		}
		if err := w.DeleteRow(ctx, a.ID, u.Row.ID, api.ByClient, "r"); err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteRow(ctx, a.ID, u.Row.ID, api.ByClient, "r"); err != nil {
			t.Fatal(err)
		}
		// The trash holds no more than the quota: the oldest went.
		if now := w.usage(a); now.Usage != 0 || now.Trash > 1000+100 {
			t.Fatalf("%+v", now)
		}
		w.pass(TrashLife + time.Second)
		if n, err := w.SweepTrash(ctx); err != nil || n == 0 {
			t.Fatalf("%d, %v", n, err)
		}
		if now := w.usage(a); now.Trash != 0 {
			t.Fatalf("%+v", now)
		}
		keys, err := w.DueObjects(ctx)
		if err != nil || len(keys) != 2 {
			t.Fatalf("%v, %v", keys, err)
		}
		for _, k := range keys {
			if err := w.ObjectGone(ctx, k); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A blob id never gets other bytes, and one attempt's end does not end another.
func TestAttempts(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		first := upload(a, parent, 100)
		if _, _, err := w.Admit(ctx, first); err != nil {
			t.Fatal(err)
		}
		second := first
		second.Attempt, second.StorageKey = randomBlob(), "k/second"
		if _, _, err := w.Admit(ctx, second); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(ctx, first, true); err == nil {
			t.Fatal("an attempt that lost its slot was committed")
		}
		if err := w.Abort(ctx, first); err != nil {
			t.Fatal(err)
		}
		if s, err := w.Commit(ctx, second, true); err != nil || s.Again {
			t.Fatalf("%+v, %v", s, err)
		}
		if now := w.usage(a); now.Usage != 100 || now.Reserved != 0 {
			t.Fatalf("%+v", now)
		}
		other := second
		other.Stored, other.SHA256 = 200, "x"
		if _, _, err := w.Admit(ctx, other); !api.IsCode(err, api.CodeOtherBytes) {
			t.Fatalf("%v", err)
		}
		keys, err := w.DueObjects(ctx)
		if err != nil || len(keys) != 1 || keys[0] != first.StorageKey {
			t.Fatalf("%v, %v", keys, err)
		}
		if named, err := w.Named(ctx, second.StorageKey); err != nil || !named {
			t.Fatalf("%v, %v", named, err)
		}
	})
}

func TestAbandonedUpload(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		u := upload(a, parent, 900)
		if _, _, err := w.Admit(ctx, u); err != nil {
			t.Fatal(err)
		}
		if n, err := w.SweepIntents(ctx); err != nil || len(n) != 0 {
			t.Fatalf("%q, %v", n, err)
		}
		w.pass(intentLife + time.Second)
		if n, err := w.SweepIntents(ctx); err != nil || len(n) != 1 {
			t.Fatalf("%q, %v", n, err)
		}
		if now := w.usage(a); now.Reserved != 0 {
			t.Fatalf("%+v", now)
		}
		if keys, err := w.DueObjects(ctx); err != nil || len(keys) != 1 {
			t.Fatalf("%v, %v", keys, err)
		}
	})
}

// Quota and rate are exact whatever comes at once.
func TestRaces(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		limit := Limit{Class: "upload", Max: 10, Window: time.Hour}
		var stored, admitted, limited atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := w.Take(ctx, a.ID, limit, 1); err == nil {
					admitted.Add(1)
				} else if api.IsCode(err, api.CodeRateLimited) {
					limited.Add(1)
				} else {
					t.Error(err)
				}
				u := upload(a, parent, 90)
				_, _, err := w.Admit(ctx, u)
				if api.IsCode(err, api.CodeQuotaExceeded) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := w.Commit(ctx, u, true); err != nil {
					t.Error(err)
				}
				stored.Add(1)
			})
		}
		wg.Wait()
		now := w.usage(a)
		if stored.Load() != 11 || now.Usage != 990 || now.Reserved != 0 {
			t.Errorf("stored %d, %+v", stored.Load(), now)
		}
		if admitted.Load() != 10 || limited.Load() != 40 {
			t.Errorf("admitted %d, limited %d", admitted.Load(), limited.Load())
		}
		// Numbers of the feed have no gap and no repetition.
		changes, err := w.Changes(ctx, a.ID, 0, 500)
		if err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		for _, c := range changes.Changes {
			if c.N <= last || c.N > changes.Head {
				t.Fatalf("%d after %d of %d", c.N, last, changes.Head)
			}
			last = c.N
		}
	})
}

func TestRateWindow(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, _ := w.account(1000)
		calls := Limit{Class: "list", Max: 3, Window: time.Minute}
		for range 3 {
			if _, err := w.Take(ctx, a.ID, calls, 1); err != nil {
				t.Fatal(err)
			}
			w.pass(10 * time.Second)
		}
		var e *api.Error
		if _, err := w.Take(ctx, a.ID, calls, 1); !errors.As(err, &e) || e.RetryAfter != 30*time.Second {
			t.Fatalf("%v after %v", err, e.RetryAfter)
		}
		w.pass(30 * time.Second)
		slot, err := w.Take(ctx, a.ID, calls, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Return(ctx, a.ID, slot); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Take(ctx, a.ID, calls, 1); err != nil {
			t.Fatal(err)
		}
		bytes := Limit{Class: "bytes", Max: 1000, Window: time.Hour}
		for range 10 {
			if _, err := w.Take(ctx, a.ID, bytes, 100); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Take(ctx, a.ID, bytes, 1); !api.IsCode(err, api.CodeRateLimited) {
			t.Fatal(err)
		}
		if used, _, err := w.Used(ctx, a.ID, bytes); used != 1000 || err != nil {
			t.Fatalf("%d, %v", used, err)
		}
	})
}

func TestIdempotency(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(10_000)
		u := upload(a, parent, 100)
		u.Slot, u.Print = "key/1", "p1"
		first := w.store(u)
		again := upload(a, parent, 100)
		again.Slot, again.Print = "key/1", "p1"
		if _, _, err := w.Admit(ctx, again); err != nil {
			t.Fatal(err)
		}
		s, err := w.Commit(ctx, again, true)
		if err != nil || !s.Again || s.Row.ID != first.Row.ID {
			t.Fatalf("%+v, %v", s, err)
		}
		if now := w.usage(a); now.Usage != 100 || now.Reserved != 0 {
			t.Fatalf("%+v", now)
		}
		again.Print = "p2"
		if _, err := w.Commit(ctx, again, false); !api.IsCode(err, api.CodeIdempotencyConflict) {
			t.Fatal(err)
		}
	})
}

func TestSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, _ := w.account(1)
		if fresh, err := w.UseNonce(ctx, "n", w.clock.Load()+1000); !fresh || err != nil {
			t.Fatal(fresh, err)
		}
		if fresh, err := w.UseNonce(ctx, "n", w.clock.Load()+1000); fresh || err != nil {
			t.Fatal(fresh, err)
		}
		if err := w.AddSession(ctx, "t", Session{Account: a.ID, Device: "d", Expires: w.clock.Load() + 1000}); err != nil {
			t.Fatal(err)
		}
		if s, _, err := w.Session(ctx, "t"); err != nil || s.Account != a.ID || s.Device != "d" {
			t.Fatalf("%+v, %v", s, err)
		}
		w.pass(time.Second)
		if _, _, err := w.Session(ctx, "t"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		if err := w.ExpireLogins(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestParents(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		b, _ := w.account(1000)
		if err := w.HasParent(ctx, b.ID, parent.Type, parent.ID); !api.IsCode(err, api.CodeParentNotFound) {
			t.Fatalf("another account's parent: %v", err)
		}
		if err := w.HasParent(ctx, a.ID, "note", parent.ID); !api.IsCode(err, api.CodeParentNotFound) {
			t.Fatalf("of another type: %v", err)
		}
		u := upload(a, parent, 100)
		w.store(u)
		if err := w.DeleteParent(ctx, a.ID, parent.Type, parent.ID, "x"); !api.IsCode(err, api.CodeParentNotEmpty) {
			t.Fatal(err)
		}
		if err := w.DeleteRow(ctx, a.ID, u.Row.ID, "x", "r"); err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteParent(ctx, a.ID, parent.Type, parent.ID, "x"); err != nil {
			t.Fatal(err)
		}
		stale := upload(a, parent, 100)
		if s, err := w.Commit(ctx, stale, false); err != nil || s.RowFail == nil || s.RowFail.Code != api.CodeParentNotFound {
			t.Fatalf("%+v, %v", s, err)
		}
		for _, typ := range api.ParentTypes {
			for range 3 {
				if _, err := w.PutParent(ctx, a.ID, api.Parent{Type: typ, ID: randomID(), State: api.StateLive}); err != nil {
					t.Fatal(err)
				}
			}
		}
		seen, after := 0, ""
		for {
			page, err := w.Parents(ctx, a.ID, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			seen += len(page)
			after = page[len(page)-1].Type + "/" + page[len(page)-1].ID
		}
		if seen != 9 {
			t.Fatalf("%d parents in pages", seen)
		}
	})
}

// TestOnlyTheOwnerReads: the files of a database, also of an older one, are the
// server's alone.
func TestOnlyTheOwnerReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, path)
	w.account(1)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", suffix, info.Mode(), err)
		}
	}
}

// TestHeadIsNotBehind: a page of the feed never has a change above the head that it
// names, whatever comes while it is read.
func TestHeadIsNotBehind(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, _ := w.account(1000)
		done := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			defer close(done)
			for range 300 {
				if _, err := w.PutParent(ctx, a.ID, api.Parent{Type: "item", ID: randomID(), State: api.StateLive}); err != nil {
					t.Error(err)
				}
			}
		})
		for reading := true; reading; {
			select {
			case <-done:
				reading = false
			default:
			}
			page, err := w.Changes(ctx, a.ID, 0, 500)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(page.Changes); n > 0 && page.Changes[n-1].N > page.Head {
				t.Fatalf("change %d above head %d", page.Changes[n-1].N, page.Head)
			}
		}
	})
}
