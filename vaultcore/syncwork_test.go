package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Any interleaving of work, sealing, pushing, pulling, transfers that come late
// or singly, kills and emptied trash: in the end all devices show the same files,
// each of them opens everywhere, and every blob they need is on the remote.
func TestSyncInterleaved(t *testing.T) {
	playSeeds(t, "VAULTDRIVE_SYNC_SEEDS", 12, playInterleaved)
}

func playInterleaved(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	f := newFleet(t, []string{"ada", "bob", "eve"}[:2+r.IntN(2)]...)
	f.devices[0].mkdir("A/d")
	f.sync()
	for i := range 120 {
		d := f.devices[r.IntN(len(f.devices))]
		d.stepOnce(r, i)
	}
	for _, d := range f.devices {
		d.closeDrafts()
	}
	f.sync()
	for _, d := range f.devices {
		d.wantAllHere()
		if err := d.tidyKept(context.Background()); err != nil {
			t.Error(err)
		}
		wantSound(t, d.Vault)
		wantIndexed(t, d.Vault)
	}
}

// wantIndexed demands that the index of rows is what a walk would find.
func wantIndexed(t *testing.T, v *Vault) {
	t.Helper()
	v.tree.RLock()
	defer v.tree.RUnlock()
	found, assets, mapped := 0, 0, 0
	look := func(n *Node) {
		if n.kind == KindAsset {
			if assets++; v.rows.assets[n.id] != n {
				t.Errorf("asset %s is not indexed", n.id.Hex())
			}
		}
		if n.n == 0 {
			return
		}
		if found++; v.rows.get(n.n) != n {
			t.Errorf("row %d of %s is not indexed", n.n, shownPath(n))
		}
		if n.kind == KindAsset {
			return
		}
		mapped++
		if !v.rows.byID.has(n.id, n.n) || !v.rows.byBlob.has(n.content.ref.blob, n.n) {
			t.Errorf("row %d of %s is not mapped", n.n, shownPath(n))
		}
	}
	v.walk(v.root, look)
	for _, it := range v.trash {
		look(it.node)
	}
	kept := 0
	for _, p := range v.rows.pages {
		kept += p.used
	}
	byID, byBlob := v.rows.byID.size(), v.rows.byBlob.size()
	if byID != mapped || byBlob != mapped {
		t.Errorf("%d rows mapped by id and %d by content, not %d", byID, byBlob, mapped)
	}
	if kept != found || len(v.rows.assets) != assets {
		t.Errorf("%d rows and %d assets indexed, %d and %d are there", kept, len(v.rows.assets), found, assets)
	}
}

// wantAllHere demands that every file shown opens.
func (d *device) wantAllHere() {
	d.f.t.Helper()
	if s := d.list(); strings.Contains(s, "(not here)") {
		d.f.t.Errorf("%s shows what nobody has:\n%s", d.name, s)
	}
}

// stepOnce does one thing a device may do.
func (d *device) stepOnce(r *rand.Rand, i int) {
	switch k := r.IntN(100); {
	case k < 45:
		d.workOnce(r, i)
	case k < 52:
		d.draftOnce(r, i)
	case k < 64:
		d.sealAll(SealOptions{})
	case k < 74:
		d.pushBatches()
	case k < 82:
		d.pullBatches()
	case k < 87:
		d.pushSome(r)
	case k < 92:
		d.pullSome(r)
	case k < 94:
		if err := d.tidyKept(context.Background()); err != nil {
			d.f.t.Fatal(err)
		}
	case k < 96:
		if _, _, err := d.EmptyTrash(nil); err != nil {
			d.f.t.Fatal(err)
		}
	case k < 98:
		if err := d.Barrier(context.Background()); err != nil {
			d.f.t.Fatal(err)
		}
	case k < 99:
		if _, err := d.settleDue(true); err != nil {
			d.f.t.Fatal(err)
		}
	default:
		d.drafts = nil
		d.kill(false)
	}
}

// draftOnce opens a file to write, writes to an open one, or closes it.
func (d *device) draftOnce(r *rand.Rand, i int) {
	if len(d.drafts) > 0 && r.IntN(2) == 0 {
		n := d.drafts[0]
		d.drafts = d.drafts[1:]
		closeFile(d.f.t, d.Vault, n)
		return
	}
	n, err := d.Find(fmt.Sprint("A/f", r.IntN(6)))
	if err != nil || n.Kind() != KindFile || d.Open(n, true, r.IntN(2) == 0) != nil {
		return
	}
	if r.IntN(3) > 0 {
		d.WriteAt(n, []byte(fmt.Sprint(d.name, " draft ", i)), int64(r.IntN(3)))
	}
	if r.IntN(3) == 0 {
		d.Fsync(n)
	}
	d.drafts = append(d.drafts, n)
}

func (d *device) closeDrafts() {
	for _, n := range d.drafts {
		closeFile(d.f.t, d.Vault, n)
	}
	d.drafts = nil
}

// pushSome sends some contents whose batch is on the remote, and says so only
// sometimes.
func (d *device) pushSome(r *rand.Rand) {
	d.f.t.Helper()
	ctx := context.Background()
	d.pushBatches()
	ids, err := d.UploadBlobs(ctx)
	if err != nil {
		d.f.t.Fatal(err)
	}
	var sent []seal.ID
	for _, id := range ids {
		if r.IntN(2) == 0 {
			continue
		}
		src, err := d.UploadSource(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			d.f.t.Fatalf("%s: upload: %v", d.name, err)
		}
		if d.f.blobs[id], err = io.ReadAll(src); err != nil {
			d.f.t.Fatal(err)
		}
		src.Close()
		sent = append(sent, id)
	}
	if len(sent) == 0 {
		return
	}
	if err := d.Sent(ctx, sent); err != nil {
		d.f.t.Fatal(err)
	}
	if r.IntN(2) == 0 {
		d.sealAll(SealOptions{Ops: []seal.Op{&seal.Sent{Remote: d.f.remote, Blobs: sent}}})
	}
}

func (d *device) pullSome(r *rand.Rand) {
	d.f.t.Helper()
	wanted, err := d.WantedBlobs(context.Background())
	if err != nil {
		d.f.t.Fatal(err)
	}
	for _, w := range wanted {
		data := d.f.blobs[w.Blob]
		if data == nil || r.IntN(2) == 0 {
			continue
		}
		if err := d.PutBlob(context.Background(), w.Blob, bytes.NewReader(data)); err != nil {
			d.f.t.Fatalf("%s: put blob: %v", d.name, err)
		}
	}
}

func (m *rowsByKey) has(key seal.ID, row int64) bool {
	return m.one[key] == row || slices.Contains(m.more[key], row)
}

func (m *rowsByKey) size() int {
	n := len(m.one)
	for _, more := range m.more {
		n += len(more)
	}
	return n
}
