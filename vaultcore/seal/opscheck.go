package seal

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// checkOp holds for what is written and for what is read.
func checkOp(op Op) error {
	if op == nil {
		return fmt.Errorf("%w: no op", ErrFormat)
	}
	return asFormatError(op.check())
}

// checkEpochs refuses what is sealed under keys of an epoch after that of the batch:
// who has it before that epoch begins could not read it, and would go on showing
// something else than who gets it later.
func (b *Body) checkEpochs(epoch uint32) error {
	for _, op := range b.Ops {
		if e := epochOf(op); e > epoch {
			return fmt.Errorf("%w: op of epoch %d in a batch of epoch %d", ErrFormat, e, epoch)
		}
	}
	return nil
}

// epochOf gives the epoch of the keys an op is sealed under, 0 for one that is not.
func epochOf(op Op) uint32 {
	switch op := op.(type) {
	case *Put:
		return op.Epoch
	case *AssetPut:
		return op.Epoch
	case *Wrap:
		return op.Epoch
	}
	return 0
}

func (p *Put) check() error {
	if err := checkRevision(opPut, p.ID, p.Rev, p.Epoch, p.Parent.Type, p.Prev); err != nil {
		return err
	}
	if p.Version > V4 {
		return fmt.Errorf("%w: %w: %d", ErrNewer, ErrVersion, p.Version)
	}
	if p.Size > MaxV4 {
		return fmt.Errorf("%w: put of %d bytes", ErrFormat, p.Size)
	}
	sealed, err := SealedSize(int(p.Version), int64(p.Size))
	switch {
	case err != nil:
		return err
	case p.Parent.ID.IsZero() || p.Blob.ID.IsZero():
		return fmt.Errorf("%w: put names no parent or blob", ErrFormat)
	case p.Blob.Len != uint64(sealed):
		return fmt.Errorf("%w: %w: blob of %d bytes for %d", ErrFormat, ErrSize, p.Blob.Len, p.Size)
	case p.Mode > MaxMode:
		return fmt.Errorf("%w: mode %o", ErrFormat, p.Mode)
	}
	if err := checkWires(p.WK, wire{p.Name, MaxName}, wire{p.MIME, MaxMIME}); err != nil {
		return err
	}
	if p.Version == V4 {
		return checkHeaderV4(p.Blob.Hdr)
	}
	if len(p.Blob.Hdr) != HdrV3 {
		return fmt.Errorf("%w: hdr of %d bytes", ErrFormat, len(p.Blob.Hdr))
	}
	return nil
}

// checkRevision holds the rules that records of attachments and assets share.
func checkRevision(what string, id ID, rev uint64, epoch uint32, kind uint8, prev [32]byte) error {
	switch {
	case id.IsZero():
		return fmt.Errorf("%w: %s without id", ErrFormat, what)
	case rev < 1 || rev > maxJSONInt || (rev == 1) != (prev == [32]byte{}):
		return fmt.Errorf("%w: revision %d of a %s", ErrFormat, rev, what)
	case epoch < 1:
		return fmt.Errorf("%w: %s of epoch 0", ErrFormat, what)
	case kind < ParentPassword || kind > ParentItem:
		return fmt.Errorf("%w: kind of parent", ErrFormat)
	}
	return nil
}

// wire is a sealed text and the most bytes it may have before sealing.
type wire struct {
	b   []byte
	max int
}

func checkWires(wk []byte, texts ...wire) error {
	if len(wk) != WrappedKeySize {
		return fmt.Errorf("%w: wrapped key of %d bytes", ErrFormat, len(wk))
	}
	for _, t := range texts {
		if len(t.b) < Overhead || len(t.b) > t.max+Overhead {
			return fmt.Errorf("%w: sealed text of %d bytes", ErrFormat, len(t.b))
		}
	}
	return nil
}

func (d *Del) check() error { return checkDel(opDel, d.ID, d.Prev) }

func (d *AssetDel) check() error { return checkDel(opAssetDel, d.ID, d.Prev) }

func checkDel(what string, id ID, prev [32]byte) error {
	if id.IsZero() || prev == [32]byte{} {
		return fmt.Errorf("%w: %s of nothing", ErrFormat, what)
	}
	return nil
}

func (r *Wrap) check() error {
	if r.Blob.IsZero() || r.Epoch < 1 {
		return fmt.Errorf("%w: wrap of nothing", ErrFormat)
	}
	return checkWires(r.WK)
}

func (s *Sent) check() error {
	if s.Remote.IsZero() {
		return fmt.Errorf("%w: sent to nowhere", ErrFormat)
	}
	return checkBlobs(s.Blobs)
}

func (n *Want) check() error { return checkBlobs(n.Blobs) }

func checkBlobs(ids []ID) error {
	if len(ids) > MaxBlobs {
		return fmt.Errorf("%w: %d blobs in an op", ErrFormat, len(ids))
	}
	for _, id := range ids {
		if id.IsZero() {
			return fmt.Errorf("%w: zero blob id", ErrFormat)
		}
	}
	return nil
}

func (p *AssetPut) check() error {
	if err := checkRevision(opAssetPut, p.ID, p.Rev, p.Epoch, p.Type, p.Prev); err != nil {
		return err
	}
	if len(p.Title) < Overhead || len(p.Title) > MaxTitle+Overhead {
		return fmt.Errorf("%w: sealed title of %d bytes", ErrFormat, len(p.Title))
	}
	return nil
}

func (d *DeviceName) check() error {
	if d.Name == "" || len(d.Name) > MaxDeviceName || !utf8.ValidString(d.Name) {
		return fmt.Errorf("%w: device name of %d bytes", ErrFormat, len(d.Name))
	}
	if strings.ContainsFunc(d.Name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '/' }) {
		return fmt.Errorf("%w: device name", ErrFormat)
	}
	return nil
}
