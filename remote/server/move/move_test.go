package move

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

func TestMain(m *testing.M) { metatest.Main(m) }

var ctx = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// local is a place with SQLite and a directory.
func local(t *testing.T) Place {
	t.Helper()
	dir := t.TempDir()
	db, err := metadb.Open(ctx, filepath.Join(dir, "meta.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	must(t, os.Mkdir(filepath.Join(dir, "blobs"), 0o700))
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"))
	must(t, err)
	t.Cleanup(func() { must(t, blobs.Close()) })
	return Place{DB: db, Blobs: blobs, Database: dir, Store: filepath.Join(dir, "blobs")}
}

// scaled is one with PostgreSQL and a bucket.
func scaled(t *testing.T) Place {
	t.Helper()
	db, err := metadb.Open(ctx, metatest.Postgres(t))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return Place{DB: db, Blobs: s3test.Open(t, s3test.Fake(t, nil)), Database: "postgres", Store: "s3"}
}

var ids atomic.Int64

// id gives a UUID that nobody else has.
func id() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", ids.Add(1)) }

// tenant is an account with a parent.
type tenant struct {
	metadb.Account
	parent api.Parent
}

func register(t *testing.T, p Place) tenant {
	t.Helper()
	h := &api.ClearHeader{Vault: id(), DID: "did:key:" + id(), Seq: 1, Epoch: 1, Hash: [32]byte{1}, Devices: []api.ClearDevice{{ID: id()}}}
	a, _, err := p.DB.Register(ctx, metadb.Registration{Header: h, Body: []byte("{}"), Boot: "b", Remote: "r", Plan: api.PlanPremium, Quota: 1 << 30})
	must(t, err)
	parent := api.Parent{Type: "note", ID: id(), TitleEncrypted: "t", Epoch: 1, State: api.StateLive, By: api.ByClient}
	_, err = p.DB.PutParent(ctx, a.ID, parent)
	must(t, err)
	return tenant{a, parent}
}

// store puts a blob with a row.
func (a tenant) store(t *testing.T, p Place, content []byte) metadb.Upload {
	t.Helper()
	sum := sha256.Sum256(content)
	name := strings.ReplaceAll(id(), "-", "")
	u := metadb.Upload{Account: a.ID, Slot: name, Attempt: name, Blob: name, StorageKey: "vaults/" + a.Vault + "/" + name, Stored: int64(len(content)),
		SHA256: hex.EncodeToString(sum[:]), At: -1, By: api.ByClient, Row: &api.Row{ID: id(), ParentType: a.parent.Type, ParentID: a.parent.ID, FileNameEncrypted: "n",
			ContentTypeEncrypted: "m", WrappedFileKey: &api.WrappedKey{}, EncryptionVersion: 3, State: api.StateLive}}
	must(t, p.Blobs.Put(ctx, u.StorageKey, bytes.NewReader(content), u.Stored, true))
	s, err := p.DB.Commit(ctx, u, false)
	must(t, err)
	if s.RowFail != nil {
		t.Fatal(s.RowFail)
	}
	return u
}

func options(from, to Place) Options {
	return Options{From: from, To: to, Fresh: func() string { return "server " + id() }, Now: time.Now}
}

func digest(t *testing.T, p Place, account int64) metadb.Digest {
	t.Helper()
	d, err := p.DB.Digest(ctx, account)
	must(t, err)
	return d
}

func (a tenant) usage(t *testing.T, p Place) metadb.Account {
	t.Helper()
	now, err := p.DB.AccountByID(ctx, a.ID)
	must(t, err)
	return now
}

// TestThereAndBack: from a directory to PostgreSQL and a bucket, and back to
// another directory, everything is the same and goes on.
func TestThereAndBack(t *testing.T) {
	first, second, third := local(t), scaled(t), local(t)
	a, b := register(t, first), register(t, first)
	large := bytes.Repeat([]byte("large blob "), 2<<20) // in parts
	contents := map[string][]byte{}
	for i, content := range [][]byte{[]byte("one"), large, bytes.Repeat([]byte("x"), 100_000)} {
		contents[a.store(t, first, content).StorageKey] = content
		contents[b.store(t, first, fmt.Appendf(nil, "b %d", i)).StorageKey] = fmt.Appendf(nil, "b %d", i)
	}
	trashed := a.store(t, first, []byte("in the trash"))
	must(t, first.DB.DeleteRow(ctx, a.ID, trashed.Row.ID, api.ByClient, "request"))
	contents[trashed.StorageKey] = []byte("in the trash")
	purged := a.store(t, first, []byte("gone"))
	must(t, first.DB.Missing(ctx, purged.StorageKey)) // its object does not count
	later := time.Now().Add(time.Hour).UnixMilli()
	must(t, first.DB.AddSession(ctx, "token", metadb.Session{Account: a.ID, Device: "d", Expires: later}))
	_, err := first.DB.UseNonce(ctx, "spent", later)
	must(t, err)
	must(t, first.DB.AddInvite(ctx, "invitation", later))
	must(t, first.DB.PutPair(ctx, a.ID, "pair", "q", []byte{0, 1, 0xff}))
	_, err = first.DB.PutCheckpoint(ctx, a.ID, "name", "device", 1, "m", []byte{0xff, 0, 0x80})
	must(t, err)
	limit := metadb.Limit{Class: "c", Max: 1, Window: time.Hour}
	_, err = first.DB.Take(ctx, b.ID, limit, 1)
	must(t, err)
	for range 3 * 64 { // more than one statement carries
		_, err := first.DB.PutParent(ctx, b.ID, api.Parent{Type: "item", ID: id(), State: api.StateLive})
		must(t, err)
	}
	key, err := first.DB.Setting(ctx, "nonce-key", func() string { return "the key" })
	must(t, err)
	half := metadb.Upload{Account: a.ID, Slot: "half", Attempt: "half", Blob: "half", StorageKey: "vaults/half", Stored: 1000}
	_, _, err = first.DB.Admit(ctx, half)
	must(t, err)

	places := []Place{first, second, third}
	for i, to := range places[1:] {
		from := places[i]
		r, err := Run(ctx, options(from, to))
		must(t, err)
		if r.Accounts != 2 || r.Blobs != int64(len(contents)) || r.CopiedBlobs != r.Blobs || r.Rows < 30 || len(r.Damaged) != 0 {
			t.Errorf("%+v", r)
		}
		for _, who := range []tenant{a, b} {
			if got, want := digest(t, to, who.ID), digest(t, from, who.ID); got != want {
				t.Errorf("account %d: %+v, want %+v", who.ID, got, want)
			}
			before, err := from.DB.Changes(ctx, who.ID, 0, 100)
			must(t, err)
			after, err := to.DB.Changes(ctx, who.ID, 0, 100)
			must(t, err)
			if fmt.Sprintf("%+v", before) != fmt.Sprintf("%+v", after) && before.Head != after.Head {
				t.Errorf("the feed was %+v, is %+v", before, after)
			}
		}
		for key, want := range contents {
			body, err := to.Blobs.Get(ctx, key, 0, -1)
			must(t, err)
			got, err := io.ReadAll(body)
			must(t, errors.Join(err, body.Close()))
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, want %d", key, len(got), len(want))
			}
		}
		if err := from.DB.MayServe(ctx); !errors.Is(err, metadb.ErrMoved) {
			t.Errorf("the source may serve: %v", err)
		}
		must(t, to.DB.MayServe(ctx))
		if s, _, err := to.DB.Session(ctx, "token"); err != nil || s.Account != a.ID {
			t.Errorf("session: %+v, %v", s, err)
		}
		if fresh, err := to.DB.UseNonce(ctx, "spent", later); fresh || err != nil {
			t.Errorf("a spent nonce is fresh: %v", err)
		}
		if got, err := to.DB.Setting(ctx, "nonce-key", func() string { return "another" }); got != key || err != nil {
			t.Errorf("the key of nonces is %q, %v", got, err)
		}
		if _, err := to.DB.Take(ctx, b.ID, limit, 1); !api.IsCode(err, api.CodeRateLimited) {
			t.Errorf("the rate limit begins anew: %v", err)
		}
		if now := a.usage(t, to); now.Reserved != 0 || now.Usage != a.usage(t, from).Usage {
			t.Errorf("%+v", now)
		}
	}
	// The feed goes on behind its last number, and the account's row can be changed.
	head := a.usage(t, third).Head
	a.store(t, third, []byte("after the move"))
	if now := a.usage(t, third).Head; now <= head {
		t.Errorf("the feed stands at %d, was at %d", now, head)
	}
}

// TestCutShort: a move that was cut short keeps servers out of the destination,
// lets the source go on, and takes over what changed there.
func TestCutShort(t *testing.T) {
	broken := errors.New("cut short")
	for name, cut := range map[string]func(o *Options, cancel func()){
		"blobs": func(o *Options, _ func()) {
			var puts atomic.Int64
			o.To.Blobs = &blobtest.Faulty{Store: o.To.Blobs, Plan: func(c blobtest.Call) blobtest.Fault {
				if c.Op == "Put" && puts.Add(1) > 10 {
					return blobtest.Fault{Err: broken}
				}
				return blobtest.Fault{}
			}}
		},
		"accounts": func(o *Options, cancel func()) {
			o.Accounts = func(done, _ int) {
				if done == 1 {
					cancel() // the rows are there, the end is not
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := local(t), scaled(t)
			a := register(t, from)
			for i := range 20 {
				a.store(t, from, fmt.Appendf(nil, "content %d", i))
			}
			o := options(from, to)
			stop, cancel := context.WithCancel(ctx)
			defer cancel()
			cut(&o, cancel)
			if _, err := Run(stop, o); !errors.Is(err, broken) && !errors.Is(err, context.Canceled) {
				t.Fatalf("%v", err)
			}
			if err := to.DB.MayServe(ctx); !errors.Is(err, metadb.ErrHalfMoved) {
				t.Errorf("a half-moved server may serve: %v", err)
			}
			must(t, from.DB.MayServe(ctx))
			a.store(t, from, []byte("stored between"))
			o = options(from, to)
			o.Verify = true
			r, err := Run(ctx, o)
			must(t, err)
			if r.Blobs != 21 || r.CopiedBlobs == 0 || r.CopiedBlobs == 21 {
				t.Errorf("%+v", r)
			}
			if got, want := digest(t, to, a.ID), digest(t, from, a.ID); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			must(t, to.DB.MayServe(ctx))
		})
	}
}

// TestMarkedTwice: cut short before the source was marked, the next run only
// marks it; if both went on since, nothing is touched.
func TestMarkedTwice(t *testing.T) {
	from, to := local(t), local(t)
	a := register(t, from)
	a.store(t, from, []byte("x"))
	_, err := Run(ctx, options(from, to))
	must(t, err)
	gone, err := from.DB.Unmove(ctx)
	must(t, err)
	if gone.Database != to.Database || gone.Blobs != to.Store {
		t.Errorf("%+v", gone)
	}
	r, err := Run(ctx, options(from, to))
	must(t, err)
	if r.Accounts != 1 || r.Blobs != 1 || r.CopiedBlobs != 0 {
		t.Errorf("%+v", r)
	}
	_, err = from.DB.Unmove(ctx)
	must(t, err)
	a.store(t, to, []byte("y"))
	if _, err := Run(ctx, options(from, to)); !errors.Is(err, ErrOccupied) {
		t.Errorf("%v", err)
	}
	must(t, from.DB.MayServe(ctx))
}

// TestOccupied: what another server has is not touched.
func TestOccupied(t *testing.T) {
	from := local(t)
	register(t, from)
	refused := func(t *testing.T, to Place, account *tenant) {
		t.Helper()
		before := metadb.Digest{}
		if account != nil {
			before = digest(t, to, account.ID)
		}
		if _, err := Run(ctx, options(from, to)); !errors.Is(err, ErrOccupied) {
			t.Errorf("%v", err)
		}
		if account != nil && digest(t, to, account.ID) != before {
			t.Error("it was touched")
		}
		must(t, from.DB.MayServe(ctx))
	}
	t.Run("accounts", func(t *testing.T) {
		to := scaled(t)
		other := register(t, to)
		refused(t, to, &other)
		_, err := to.DB.ServerID(ctx, id)
		must(t, err)
		refused(t, to, &other)
	})
	t.Run("half-moved", func(t *testing.T) {
		to := local(t)
		must(t, to.DB.BeginArrival(ctx, metadb.Arrival{Server: "another"}))
		refused(t, to, nil)
	})
	t.Run("objects", func(t *testing.T) {
		to := scaled(t)
		must(t, to.Blobs.Put(ctx, "vaults/a/b", strings.NewReader("x"), 1, true))
		refused(t, to, nil)
		must(t, to.DB.MayServe(ctx)) // it was not begun
	})
	t.Run("empty", func(t *testing.T) { // a server that was started and never used
		to := scaled(t)
		_, err := to.DB.ServerID(ctx, id)
		must(t, err)
		_, err = Run(ctx, options(from, to))
		must(t, err)
	})
}
