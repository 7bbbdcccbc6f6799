package vaultcore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// hostile writes the batches of an enrolled device that keeps to the format and to
// nothing else.
type hostile struct {
	by   *device
	prev seal.Head
	hlc  seal.HLC
}

func (f *fleet) hostile(by *device) *hostile {
	h := by.head()
	return &hostile{by: by, prev: h, hlc: seal.HLCAt(f.now().UnixMilli())}
}

func (h *hostile) batch(ops []seal.Op) []byte {
	h.hlc++
	var b *seal.Batch
	err := h.by.keys.withEpoch(0, func(k *seal.EpochKeys) (err error) {
		signer := h.by.keys.signer()
		defer signer.Wipe()
		b, err = seal.SealBatch(k, signer, h.prev.Seq+1, h.prev.Hash, &seal.Body{HLC: h.hlc, Ops: ops})
		return err
	})
	if err != nil {
		h.by.f.t.Fatal(err)
	}
	h.prev = b.Head()
	return b.Bytes
}

func (h *hostile) put(asset seal.ID, id seal.ID, name string) *seal.Put {
	p := h.by.somePut(asset, name)
	if !id.IsZero() {
		p.ID = id
	}
	return p
}

// shownNames lists what a device shows, with all digits of all suffixes: contents of
// such batches never come.
func (d *device) shownNames() (names []string) {
	d.f.t.Helper()
	err := d.List("", true, func(i Info) error {
		names = append(names, i.Path)
		return nil
	})
	if err != nil {
		d.f.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// sameNames wants the same names on all devices, and again after each was opened anew.
func (f *fleet) sameNames() (names []string) {
	f.t.Helper()
	names = f.devices[1].shownNames()
	for _, d := range f.devices[1:] {
		for range 2 {
			if got := d.shownNames(); !slices.Equal(got, names) {
				f.t.Fatalf("%s shows %d names, the first device %d", d.name, len(got), len(names))
			}
			d.reopen()
		}
	}
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		f.t.Fatal("a name is shown twice")
	}
	return names
}

// deliver gives the same frames to all but their author, each in another cut.
func (f *fleet) deliver(frames [][]byte) {
	f.t.Helper()
	for i, d := range f.devices[1:] {
		for some := range slices.Chunk(frames, i*i+1) {
			if r, err := d.Receive(f.t.Context(), some...); err != nil || len(r.Refused) > 0 {
				f.t.Fatal(r.Refused, err)
			}
		}
	}
}

// An enrolled device signs names of thousands of parts: they are no paths, and every
// device shows their files unnamed and makes no folder of them.
func TestHostileDepth(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "eve", "bob", "cyd")
	eve := f.devices[0]
	eve.mkdir("A")
	f.sync()
	asset := eve.mustFind("A").id
	h := f.hostile(eve)
	var ops []seal.Op
	for i := range seal.MaxOps {
		ops = append(ops, h.put(asset, seal.ID{}, fmt.Sprint(i, strings.Repeat("/a", 1900+i%100))))
	}
	f.deliver([][]byte{h.batch(ops), h.batch([]seal.Op{
		h.put(asset, seal.ID{}, strings.Repeat("/", 4096)),
		h.put(asset, seal.ID{}, "deep"+strings.Repeat("/a", seal.MaxDepth-1)),
	})})
	names := f.sameNames()
	unnamed := 0
	for _, n := range names {
		if strings.HasPrefix(n, "A/unnamed-") {
			unnamed++
		}
	}
	if want := 1 + unnamed + seal.MaxDepth; unnamed != seal.MaxOps+1 || len(names) != want {
		t.Errorf("%d names, %d of them unnamed; want %d", len(names), unnamed, want)
	}
}

// What no other device would show as a path, this one does not make.
func TestDepthRefused(t *testing.T) {
	v := newTestVault(t)
	item := mustMkdir(t, v, "A")
	dir := item
	for range MaxDepth - 1 {
		n, _, err := v.Mkdir(dir, "d", 0o700)
		if err != nil {
			t.Fatal(err)
		}
		dir = n
	}
	n, _, err := v.Create(dir, "f", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	closeFile(t, v, n)
	deepest, _, err := v.Mkdir(dir, "e", 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Create(deepest, "f", 0o600); !errors.Is(err, ErrNameTooLong) {
		t.Errorf("create: %v", err)
	}
	if _, _, err := v.Mkdir(deepest, "f", 0o700); !errors.Is(err, ErrNameTooLong) {
		t.Errorf("mkdir: %v", err)
	}
	if _, _, err := v.Symlink(deepest, "f", "x"); !errors.Is(err, ErrNameTooLong) {
		t.Errorf("symlink: %v", err)
	}
	if err := v.Rename(item, "d", mustMkdir(t, v, "A/top"), "d", 0); !errors.Is(err, ErrNameTooLong) {
		t.Errorf("rename of a folder that holds deep ones: %v", err)
	}
	if _, err := v.Find("A/d"); err != nil {
		t.Error("moved all the same:", err)
	}
}

// An enrolled device signs thousands of files of one name and of contents of one id:
// all are shown, under names of their own, the same on every device.
func TestHostileCrowd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "eve", "bob", "cyd")
	eve := f.devices[0]
	eve.mkdir("A")
	f.sync()
	asset := eve.mustFind("A").id
	h := f.hostile(eve)
	one := seal.NewID()
	var frames [][]byte
	for i := range 4 {
		var same, copies []seal.Op
		for j := range seal.MaxOps {
			id := seal.ID{0xaa, 0xbb}
			binary.BigEndian.PutUint16(id[14:], uint16(i*seal.MaxOps+j))
			same = append(same, h.put(asset, id, "same.txt"))
			copies = append(copies, h.put(asset, one, "copy.txt"))
		}
		frames = append(frames, h.batch(same), h.batch(copies))
	}
	f.deliver(frames)
	if names := f.sameNames(); len(names) != 1+8*seal.MaxOps {
		t.Errorf("%d names, want %d", len(names), 1+8*seal.MaxOps)
	}
}

// An id that its author knew dead, named a thousand times in a batch, is looked at and
// told once.
func TestHostileResurrect(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "eve", "bob")
	eve, bob := f.devices[0], f.devices[1]
	eve.mkdir("A")
	f.sync()
	asset, dead := eve.mustFind("A").id, seal.NewID()
	h := f.hostile(eve)
	born := h.put(asset, dead, "f.txt")
	var ops []seal.Op
	for range seal.MaxOps {
		ops = append(ops, h.put(asset, dead, "f.txt"))
	}
	f.deliver([][]byte{
		h.batch([]seal.Op{born}), h.batch([]seal.Op{&seal.Del{ID: dead, Prev: born.Digest(eve.VaultID())}}), h.batch(ops),
	})
	if names := f.sameNames(); len(names) != 1 {
		t.Errorf("shown: %q", names)
	}
	events, err := bob.Events(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range events {
		if e.Kind == "resurrect" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}
