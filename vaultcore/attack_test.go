package vaultcore

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// twoWithFile is the stage of the attacks: two devices with one file, and a
// courier between them who may do as it likes.
func twoWithFile(t *testing.T) (f *fleet, ada, bob *device) {
	f = newFleet(t, "ada", "bob")
	ada, bob = f.devices[0], f.devices[1]
	ada.mkdir("A")
	ada.write("A/f.txt", "f")
	f.sync()
	return f, ada, bob
}

// forge seals a batch as a device would that does not keep to the rules.
func (d *device) forge(seq uint64, prev [32]byte, change func(*seal.Body)) []byte {
	d.f.t.Helper()
	body := &seal.Body{HLC: seal.HLCAt(d.f.now().UnixMilli())}
	change(body)
	var frame []byte
	err := d.keys.withEpoch(0, func(k *seal.EpochKeys) error {
		b, err := seal.SealBatch(k, d.keys.signer(), seq, prev, body)
		if err == nil {
			frame = b.Bytes
		}
		return err
	})
	if err != nil {
		d.f.t.Fatal(err)
	}
	return frame
}

func (d *device) head() seal.Head {
	d.f.t.Helper()
	heads, err := d.Heads(d.f.t.Context())
	if err != nil {
		d.f.t.Fatal(err)
	}
	return heads[d.DeviceID()]
}

// refuses delivers frames and wants one named error and an unchanged tree.
func (d *device) refuses(want error, frames ...[]byte) {
	d.f.t.Helper()
	before := d.list()
	r, err := d.Receive(d.f.t.Context(), frames...)
	if err != nil && !errors.Is(err, want) {
		d.f.t.Fatalf("receive: %v", err)
	}
	if len(r.Refused) == 0 || !errors.Is(errors.Join(r.Refused...), want) {
		d.f.t.Fatalf("refused with %v, want %v", r.Refused, want)
	}
	if after := d.list(); after != before {
		d.f.t.Fatalf("shows\n%s\nafter\n%s", after, before)
	}
}

func (d *device) hasAlarm(kind string) {
	d.f.t.Helper()
	events, err := d.Events(0, 1000)
	if err != nil {
		d.f.t.Fatal(err)
	}
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Kind == kind }) {
		d.f.t.Fatalf("no event %q in %+v", kind, events)
	}
}

// Different histories to different devices: at first cross-sight the vault is
// frozen, with the proof, and stays so.
func TestFork(t *testing.T) {
	t.Parallel()
	_, ada, bob := twoWithFile(t)
	h := ada.head()
	one := ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) {})
	other := ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) { b.HLC++ })
	if r, err := bob.Receive(t.Context(), one); err != nil || r.Applied != 1 {
		t.Fatal(r, err)
	}
	bob.refuses(ErrFork, other)
	bob.hasAlarm("fork")
	if _, _, err := bob.Create(bob.mustFind("A"), "new", 0o600); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("written after a fork: %v", err)
	}
	bob.reopen()
	if _, err := bob.Receive(t.Context()); !errors.Is(err, ErrFork) {
		t.Fatalf("sync goes on after a fork: %v", err)
	}
	bob.want("A/", "A/f.txt = f")
}

// What is closed while a fork is found is saved all the same.
func TestForkKeepsClosedFile(t *testing.T) {
	_, ada, bob := twoWithFile(t)
	n := openFile(t, bob.Vault, "A/f.txt")
	if _, err := bob.WriteAt(n, []byte("bob's"), 0); err != nil {
		t.Fatal(err)
	}
	h := ada.head()
	bob.Receive(t.Context(), ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) {}))
	bob.Receive(t.Context(), ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) { b.HLC += 2 }))
	closeFile(t, bob.Vault, n)
	bob.kill(false)
	bob.want("A/", "A/f.txt = bob's")
}

func (d *device) mustFind(path string) *Node {
	d.f.t.Helper()
	n, err := d.Find(path)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return n
}

// A peer that knows another history of ours, or of a third, is proof as well.
func TestForkBySeen(t *testing.T) {
	t.Parallel()
	_, ada, bob := twoWithFile(t)
	h := bob.head()
	frame := bob.forge(h.Seq+1, h.Hash, func(b *seal.Body) {
		own := ada.head()
		own.Hash[0] ^= 1
		b.Seen = map[seal.ID]seal.Head{ada.DeviceID(): own}
	})
	ada.refuses(ErrFork, frame)
}

func TestGapAndOrder(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	for _, text := range []string{"1", "2", "3"} {
		ada.write("A/f.txt", text)
		ada.push()
	}
	log := f.log[ada.DeviceID()]
	bob.refuses(ErrGap, log[len(log)-1])
	r, err := bob.Receive(t.Context(), log...) // from the start, again
	if err != nil || len(r.Refused) > 0 || r.Applied == 0 {
		t.Fatal(r, err)
	}
	r, err = bob.Receive(t.Context(), log...)
	if err != nil || len(r.Refused) > 0 || r.Applied != 0 {
		t.Fatal("applied twice:", r, err)
	}
	bob.pullBlobs()
	bob.want("A/", "A/f.txt = 3")
}

// Newest batches are hidden: who names them waits, and then goes on with an
// alarm.
func TestWithheld(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob", "eve")
	ada, bob, eve := f.devices[0], f.devices[1], f.devices[2]
	ada.mkdir("A")
	f.sync()
	ada.write("A/f.txt", "ada's")
	ada.push()
	bob.pull()
	bob.write("A/g.txt", "bob's")
	bob.push()
	hidden := f.log[ada.DeviceID()]
	f.log[ada.DeviceID()] = hidden[:len(hidden)-2]
	r := eve.pull()
	if len(r.Waiting) == 0 || r.Waiting[0].Device != bob.DeviceID() || r.Waiting[0].Missing[ada.DeviceID()] == 0 {
		t.Fatalf("waits for %+v", r.Waiting)
	}
	eve.want("A/")
	if _, err := eve.GoOn(t.Context(), bob.DeviceID()); err != nil {
		t.Fatal(err)
	}
	eve.pullBlobs()
	eve.want("A/", "A/g.txt = bob's")
	eve.hasAlarm("withheld")
	f.log[ada.DeviceID()] = hidden
	f.sync()
	f.want("A/", "A/f.txt = ada's", "A/g.txt = bob's")
}

// An id that is dead in its author's eyes is not born again.
func TestResurrect(t *testing.T) {
	t.Parallel()
	f, ada, bob := twoWithFile(t)
	id := ada.mustFind("A/f.txt").id
	var put *seal.Put
	for _, frame := range f.log[ada.DeviceID()] {
		b, err := seal.ParseBatch(ada.VaultID(), frame)
		if err != nil {
			t.Fatal(err)
		}
		ada.keys.withEpoch(b.Epoch, func(k *seal.EpochKeys) error {
			body, err := b.OpenBody(k)
			for _, op := range body.Ops {
				if p, ok := op.(*seal.Put); ok && p.ID == id {
					put = p
				}
			}
			return err
		})
	}
	ada.remove("A/f.txt")
	f.sync()
	again := *put
	again.Mtime++
	h := bob.head()
	r, err := ada.Receive(t.Context(), bob.forge(h.Seq+1, h.Hash, func(b *seal.Body) {
		b.Seen = map[seal.ID]seal.Head{ada.DeviceID(): ada.head()}
		b.Ops = []seal.Op{&again}
	}))
	if err != nil || r.Applied != 1 {
		t.Fatal(r, err)
	}
	ada.want("A/")
	eventually(t, "event", func() bool {
		events, _ := ada.Events(0, 1000)
		return slices.ContainsFunc(events, func(e Event) bool { return e.Kind == "resurrect" })
	})
}

// A deletion nobody signed.
func TestForgedDelete(t *testing.T) {
	_, ada, bob := twoWithFile(t)
	h := ada.head()
	var digest [32]byte
	copy(digest[:], ada.mustFind("A/f.txt").sync.digest)
	frame := ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) {
		b.Ops = []seal.Op{&seal.Del{ID: ada.mustFind("A/f.txt").id, Prev: digest}}
	})
	for i := range ed25519.SignatureSize {
		bad := bytes.Clone(frame)
		bad[len(bad)-1-i] ^= 1
		bob.refuses(seal.ErrSignature, bad)
	}
}

// A device that is in nobody's roster.
func TestRogueDevice(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	headers, err := ada.HeaderEnvelopes(0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Join(t.Context(), JoinOptions{
		Home: t.TempDir() + "/rogue", Password: []byte(testPassword), Headers: headers, DID: ada.keys.header().DID, KDF: quickKDF,
	})
	if err != nil {
		t.Fatal(err)
	}
	rogue := f.start("rogue", r.Home)
	rogue.mkdir("Rogue")
	rogue.push()
	bob.refuses(ErrUnknownDevice, f.log[rogue.DeviceID()]...)
	if err := bob.AcceptHeader(t.Context(), r.Header); err != nil {
		t.Fatal(err)
	}
	bob.hasAlarm("device")
	bob.pull()
	bob.want("A/", "A/f.txt = f", "Rogue/")
	// A roster that the identity did not sign.
	forged := bytes.Clone(r.Header)
	forged[len(forged)/3] ^= 1
	if err := ada.AcceptHeader(t.Context(), forged); err == nil {
		t.Fatal("a forged header was taken")
	}
}

func TestStaleEpoch(t *testing.T) {
	_, ada, bob := twoWithFile(t)
	if err := bob.ChangePassword(t.Context(), []byte(testPassword), []byte(testPassword+" 2"), seal.KDFParams{}, nil); err != nil {
		t.Fatal(err)
	}
	bob.sealAll(SealOptions{})
	batches, err := bob.OwnBatches(t.Context(), bob.head().Seq-1, 10)
	if err != nil || len(batches) != 1 {
		t.Fatal(len(batches), err)
	}
	// Newer than we have keys for: it waits for the password.
	own, err := bob.OwnBatches(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for _, b := range own {
		frames = append(frames, b.Bytes)
	}
	ada.refuses(ErrNewEpoch, frames...)
	// A batch of the old epoch that nobody vouches for waits; one that its own
	// author follows up in the new epoch counts.
	h := ada.head()
	r, err := bob.Receive(t.Context(), ada.forge(h.Seq+1, h.Hash, func(*seal.Body) {}))
	if err != nil || r.Applied != 0 || len(r.Waiting) != 1 || !r.Waiting[0].Vouch {
		t.Fatalf("%+v %v", r, err)
	}
}

// Back in time, twice the same time, or far ahead.
func TestClock(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	h := ada.head()
	bob.refuses(ErrClock, ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) { b.HLC = 1 }))
	ahead := seal.HLCAt(f.now().Add(25 * time.Hour).UnixMilli())
	bob.refuses(ErrClock, ada.forge(h.Seq+1, h.Hash, func(b *seal.Body) { b.HLC = ahead }))
	// The chain goes on once the clock is right.
	if r, err := bob.Receive(t.Context(), ada.forge(h.Seq+1, h.Hash, func(*seal.Body) {})); err != nil || r.Applied != 1 {
		t.Fatal(r, err)
	}
}

// The courier gives other bytes for a blob: another one, an older one, a part.
func TestRecordRollback(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	old := bytes.Clone(f.blobs[ada.mustFind("A/f.txt").content.ref.blob])
	ada.write("A/f.txt", "g")
	ada.push()
	bob.pullBatches()
	wanted, err := bob.WantedBlobs(t.Context())
	if err != nil || len(wanted) != 1 {
		t.Fatal(wanted, err)
	}
	good := f.blobs[wanted[0].Blob]
	for name, bad := range map[string][]byte{"older": old, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "empty": nil} {
		err := bob.PutBlob(t.Context(), wanted[0].Blob, bytes.NewReader(bad))
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, blob.ErrSize) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	bob.want("A/", "A/f.txt = (not here)")
	if err := bob.PutBlob(t.Context(), wanted[0].Blob, bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	bob.want("A/", "A/f.txt = g")
}

// The blobs of two records change places.
func TestSwapRecords(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	ada.write("A/1", "one")
	ada.write("A/2", "two")
	ada.push()
	bob.pullBatches()
	one, two := ada.mustFind("A/1").content.ref.blob, ada.mustFind("A/2").content.ref.blob
	for a, b := range map[seal.ID]seal.ID{one: two, two: one} {
		if err := bob.PutBlob(t.Context(), a, bytes.NewReader(f.blobs[b])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("swapped: %v", err)
		}
	}
	bob.pullBlobs()
	bob.want("A/", "A/f.txt = f", "A/1 = one", "A/2 = two")
}

// Rows and blobs that are not there delete nothing.
func TestDropIsNotDelete(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	ada.write("A/new", "new")
	ada.push()
	clear(f.blobs)
	bob.pull()
	bob.want("A/", "A/f.txt = f", "A/new = (not here)")
	f.log = map[seal.ID][][]byte{ada.DeviceID(): f.log[ada.DeviceID()], bob.DeviceID(): f.log[bob.DeviceID()]}
	ada.want("A/", "A/f.txt = f", "A/new = new")
}

// A number of ours that we do not know: the vault was put back.
func TestLocalRollback(t *testing.T) {
	f, ada, _ := twoWithFile(t)
	old := crashCopy(t, ada.Vault, false)
	ada.write("A/f.txt", "later")
	ada.push()
	back := &device{f: f, name: "ada", home: old}
	back.open()
	back.refuses(ErrLocalRollback, f.log[ada.DeviceID()]...)
	back.hasAlarm("local-rollback")
}

// Every byte of a batch counts.
func TestBatchMutations(t *testing.T) {
	_, ada, bob := twoWithFile(t)
	h := ada.head()
	frame := ada.forge(h.Seq+1, h.Hash, func(*seal.Body) {})
	before := bob.list()
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 0x80
		r, err := bob.Receive(t.Context(), bad)
		if r.Applied != 0 || err != nil || len(r.Refused) != 1 {
			t.Fatalf("byte %d: %+v %v", i, r, err)
		}
	}
	if bob.list() != before {
		t.Fatal("the tree changed")
	}
}

// A content that is not here is fetched when it is read, and other files go on.
func TestFetchOnRead(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	ada.write("A/new", "new")
	ada.push()
	bob.pullBatches()
	bob.want("A/", "A/f.txt = f", "A/new = (not here)")
	bob.OnFetch(func(ctx context.Context, id seal.ID) error {
		return bob.PutBlob(ctx, id, bytes.NewReader(f.blobs[id]))
	})
	bob.want("A/", "A/f.txt = f", "A/new = new")
	wantSound(t, bob.Vault)
}
