package metadb

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// stays says that an account is within its quota, and what it uses.
func (w *world) stays(a Account, used int64) {
	w.t.Helper()
	now := w.usage(a)
	if now.Usage > a.Limit || now.Usage != used || now.Reserved != 0 || now.Trash > a.Limit {
		w.t.Errorf("used %d, want %d; reserved %d, trash %d, of %d", now.Usage, used, now.Reserved, now.Trash, a.Limit)
	}
}

// TestReleaseCountsOnce: a blob makes room once, however often it is named.
func TestReleaseCountsOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		old := upload(a, parent, 300)
		w.store(old)
		w.store(upload(a, parent, 600))
		u := upload(a, parent, 900)
		u.Release = []string{old.Blob, old.Blob, old.Blob}
		if _, _, err := w.Admit(ctx, u); !api.IsCode(err, api.CodeQuotaExceeded) {
			t.Errorf("admitted: %v", err)
		}
		if _, err := w.Commit(ctx, u, false); !api.IsCode(err, api.CodeQuotaExceeded) {
			t.Errorf("committed: %v", err)
		}
		w.stays(a, 900)
	})
}

// TestReleaseOfNamedMakesNoRoom: what a live row still names is not released, and
// so makes no room.
func TestReleaseOfNamedMakesNoRoom(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		old := upload(a, parent, 900)
		w.store(old)
		for _, admit := range []bool{true, false} {
			u := upload(a, parent, 800)
			u.Release = []string{old.Blob}
			if admit {
				if _, _, err := w.Admit(ctx, u); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Commit(ctx, u, admit); !api.IsCode(err, api.CodeQuotaExceeded) {
				t.Errorf("committed: %v", err)
			}
			if err := w.Abort(ctx, u); err != nil {
				t.Fatal(err)
			}
			w.stays(a, 900)
		}
	})
}

// TestPledgeEnds: a blob that was not released after all may make room for the
// next upload.
func TestPledgeEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(2000)
		old := upload(a, parent, 900)
		w.store(old)
		late := upload(a, parent, 100)
		late.Release, late.Row.ID = []string{old.Blob}, old.Row.ID // version 0, but there is 1
		if s, err := w.Commit(ctx, late, false); err != nil || s.RowFail == nil {
			t.Fatalf("%+v, %v", s, err)
		}
		u := upload(a, parent, 500)
		u.Release, u.Row.ID, u.Row.Version = []string{old.Blob}, old.Row.ID, 1
		w.store(u)
		w.stays(a, 600)
	})
}

// TestPledgedRoomIsKept: a blob that goes while an upload counts on its room gives
// that room to no other.
func TestPledgedRoomIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for name, goes := range map[string]func(a Account, old Upload) error{
			"release": func(a Account, old Upload) error {
				_, err := w.Release(ctx, a.ID, []string{old.Blob})
				return err
			},
			"delete":  func(a Account, old Upload) error { return w.DeleteRow(ctx, a.ID, old.Row.ID, api.ByClient, "r") },
			"missing": func(a Account, old Upload) error { return w.Missing(ctx, old.StorageKey) },
		} {
			a, parent := w.account(1000)
			old := upload(a, parent, 1000)
			if name == "release" {
				old.Row = nil
			}
			w.store(old)
			u := upload(a, parent, 1000)
			u.Release = []string{old.Blob}
			if _, _, err := w.Admit(ctx, u); err != nil {
				t.Fatal(err)
			}
			if err := goes(a, old); err != nil {
				t.Fatal(err)
			}
			other := upload(a, parent, 1000)
			if _, _, err := w.Admit(ctx, other); !api.IsCode(err, api.CodeQuotaExceeded) {
				t.Errorf("%s: the room was given twice: %v", name, err)
			}
			if _, err := w.Commit(ctx, u, true); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			w.stays(a, 1000)
		}
	})
}

// TestTrashOfDeletions: deletions alone fill the trash no further than its bound.
func TestTrashOfDeletions(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		for range 2 {
			u := upload(a, parent, 1000)
			w.store(u)
			if err := w.DeleteRow(ctx, a.ID, u.Row.ID, api.ByClient, "r"); err != nil {
				t.Fatal(err)
			}
			w.stays(a, 0)
		}
	})
}

// TestQuotaAgainstAnything: whatever a device that knows the rules does with a full
// account, in whichever order, the books are right after each step.
func TestQuotaAgainstAnything(t *testing.T) {
	for name, address := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(t.TempDir(), "meta.db") },
		"postgres": func() string { return metatest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			at := address()
			w := newWorld(t, at)
			a, parent := w.account(3000)
			g := greedy{w: w, a: a, parent: parent, rnd: rand.New(rand.NewPCG(7, 7))}
			for step := range 1000 {
				g.step()
				if step%10 == 0 {
					metatest.Books(t, at)
				}
				if now := w.usage(a); now.Usage+now.Reserved > a.Limit || now.Trash > a.Limit || t.Failed() {
					t.Fatalf("step %d: %+v", step, now)
				}
			}
			if g.committed < 30 || g.full == 0 {
				t.Errorf("%d uploads, %d refused: the account was never full", g.committed, g.full)
			}
		})
	}
}

// greedy is who wants more than the quota.
type greedy struct {
	w               *world
	a               Account
	parent          api.Parent
	rnd             *rand.Rand
	open, stored    []Upload
	committed, full int
}

// any gives one of a list, as an upload that names nothing if it is empty.
func (g *greedy) any(list []Upload) Upload {
	if len(list) == 0 {
		return upload(g.a, g.parent, 100)
	}
	return list[g.rnd.IntN(len(list))]
}

func (g *greedy) step() {
	var err error
	switch g.rnd.IntN(9) {
	case 0, 1, 2:
		u := g.fresh()
		if _, _, err = g.w.Admit(ctx, u); err == nil {
			g.open = append(g.open, u)
		}
	case 3, 4:
		u, admitted := g.any(g.open), len(g.open) > 0
		if _, err = g.w.Commit(ctx, u, admitted); err == nil {
			g.committed++
			g.stored = append(g.stored, u)
		}
	case 5:
		err = g.w.Abort(ctx, g.any(g.open))
	case 6:
		u := g.any(g.stored)
		err = g.w.DeleteRow(ctx, g.a.ID, u.Row.ID, api.ByClient, "r")
	case 7:
		change := []func() ([]api.Blob, error){
			func() ([]api.Blob, error) { return g.w.Release(ctx, g.a.ID, []string{g.any(g.stored).Blob}) },
			func() ([]api.Blob, error) { return g.w.Claim(ctx, g.a.ID, []string{g.any(g.stored).Blob}) },
		}
		_, err = change[g.rnd.IntN(2)]()
	case 8:
		u := g.any(g.stored)
		row := *u.Row
		row.Version, row.BlobID = int64(g.rnd.IntN(3)), g.any(g.stored).Blob
		_, err = g.w.PutRows(ctx, g.a.ID, api.ByClient, api.PutRows{Rows: []api.Row{row}, At: 1 << 40})
	}
	if api.IsCode(err, api.CodeQuotaExceeded) {
		g.full++
	}
	var refused *api.Error
	if err != nil && !errors.As(err, &refused) && !errors.Is(err, ErrNotFound) {
		g.w.t.Fatal(err)
	}
}

// fresh is an upload that counts on the room of what is there, once or more.
func (g *greedy) fresh() Upload {
	u := upload(g.a, g.parent, int64(100+g.rnd.IntN(900)))
	for range g.rnd.IntN(4) {
		u.Release = append(u.Release, g.any(g.stored).Blob)
	}
	if old := g.any(g.stored); g.rnd.IntN(2) == 0 {
		u.Row.ID, u.Row.Version = old.Row.ID, int64(g.rnd.IntN(3))
	}
	if g.rnd.IntN(4) == 0 {
		u.Row = &api.Row{ID: u.Row.ID, ParentType: "item", ParentID: randomID(), State: api.StateLive, WrappedFileKey: u.Row.WrappedFileKey} // refused
	}
	return u
}

// TestWholeUpload: bytes that nobody could find without their row are refused with
// it, and nothing of them counts.
func TestWholeUpload(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, size := range []int64{100, 400 << 10} {
			a, parent := w.account(1 << 20)
			u := upload(a, parent, size)
			u.Whole = true
			if _, _, err := w.Admit(ctx, u); err != nil {
				t.Fatal(err)
			}
			if err := w.DeleteParent(ctx, a.ID, parent.Type, parent.ID, api.ByClient); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Commit(ctx, u, true); !api.IsCode(err, api.CodeParentNotFound) {
				t.Errorf("committed: %v", err)
			}
			if err := w.Abort(ctx, u); err != nil {
				t.Fatal(err)
			}
			w.stays(a, 0)
		}
		if keys, err := w.DueObjects(ctx); err != nil || len(keys) != 2 {
			t.Errorf("objects to delete: %q, %v", keys, err)
		}
	})
}

// TestRoomForNames: names and titles, which are no contents, are bounded like the
// log; what is made shorter gives room back, what is deleted stays.
func TestRoomForNames(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		a, parent := w.account(1000)
		u := upload(a, parent, 100)
		s := w.store(u)
		before := w.usage(a).Log
		rename := func(name string) error {
			row := *s.Row
			row.FileNameEncrypted = name
			out, err := w.PutRows(ctx, a.ID, api.ByClient, api.PutRows{Rows: []api.Row{row}, At: 1 << 40})
			if err == nil && out.Results[0].Error == nil {
				s.Row.Version, s.Row.FileNameEncrypted = out.Results[0].Version, name
				return nil
			}
			if err != nil {
				return err
			}
			return out.Results[0].Error
		}
		long := strings.Repeat("n", 5001)
		if err := rename(long); err != nil || w.usage(a).Log != before+5000 {
			t.Errorf("a longer name counts %d, %v", w.usage(a).Log-before, err)
		}
		w.fillLog(a, 2000)
		if err := rename(long + long); !api.IsCode(err, api.CodeLogFull) {
			t.Errorf("longer still: %v", err)
		}
		if _, err := w.Commit(ctx, upload(a, parent, 100), false); err != nil {
			t.Errorf("a short name: %v", err)
		}
		p := api.Parent{Type: "note", ID: randomID(), TitleEncrypted: long, State: api.StateLive, By: api.ByClient}
		if _, err := w.PutParent(ctx, a.ID, p); !api.IsCode(err, api.CodeLogFull) {
			t.Errorf("a title: %v", err)
		}
		if err := rename("short"); err != nil {
			t.Errorf("shorter: %v", err)
		}
		p.TitleEncrypted = "short"
		if made, err := w.PutParent(ctx, a.ID, p); err != nil || !made {
			t.Errorf("a short title: %v", err)
		}
		full := w.usage(a).Log
		if err := w.DeleteRow(ctx, a.ID, s.Row.ID, api.ByClient, "r"); err != nil || w.usage(a).Log != full {
			t.Errorf("deleted: %d, %v", w.usage(a).Log-full, err)
		}
	})
}

// fillLog leaves so many bytes of the log's room.
func (w *world) fillLog(a Account, left int64) {
	w.t.Helper()
	err := w.update(ctx, func(q *querier) error {
		if err := q.lock(a.ID); err != nil {
			return err
		}
		q.book.now.log = logLeast - left
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestRowsCountedLater: a database from before names were counted counts them
// once it is opened, and once only.
func TestRowsCountedLater(t *testing.T) {
	for name, address := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(t.TempDir(), "meta.db") },
		"postgres": func() string { return metatest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			at := address()
			db, err := Open(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			w := &world{DB: db, t: t}
			a, parent := w.account(1000)
			w.store(upload(a, parent, 100))
			want := w.usage(a).Log
			err = db.update(ctx, func(q *querier) error {
				q.as(everyone)
				return errors.Join(q.must("UPDATE accounts SET log=2"), q.must("DELETE FROM goose_db_version WHERE version_id=4"))
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				w := newWorld(t, at)
				if now := w.usage(a); now.Log != want {
					t.Errorf("%d bytes are counted, not %d", now.Log, want)
				}
			}
			metatest.Books(t, at)
		})
	}
}
