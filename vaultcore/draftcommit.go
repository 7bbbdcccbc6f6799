package vaultcore

import (
	"context"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// sealingMax is how many bytes of drafts that do not lie in RAM are sealed whole
// at a time: two of the largest, so that many closes at once take turns.
const sealingMax = 2 * (seal.MaxV3 + mib)

// sealedContent is what finish made: the row's half of it, and the sealed
// bytes themselves if they are to lie in the row (else they are the .bin).
type sealedContent struct {
	ref   contentRef
	key   seal.Key
	fresh []byte
}

// finish seals the whole file under a new key. The content is then in place,
// not synced: attachments/<blob>.bin, or in the result. The draft stays usable,
// whether finish or what the caller does next fails; finishing again without a
// write in between gives the same result.
// Errors: ErrNoSpace, ErrDamaged, else the disk's.
func (d *draft) finish() (*sealedContent, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil, ErrClosed
	}
	if d.done != nil {
		return d.done, nil
	}
	sc, err := d.sealLocked()
	if err != nil {
		return nil, diskError(err)
	}
	d.s.keys.Add(sc.ref.blob, &sc.key)
	d.done, d.changed = sc, true
	d.settleLocked()
	return sc, nil
}

// sealLocked chooses the format: version 3 up to its limit, unless the vault
// is set to write version 4 only.
func (d *draft) sealLocked() (*sealedContent, error) {
	v4 := d.s.writeV4() || d.length > d.s.limits.V3Max
	if a := d.landedAheadLocked(); d.flat.isShed() && (v4 || a.whole && d.length != a.sealed) {
		if err := d.toStreamLocked(); err != nil {
			return nil, err
		}
	}
	if d.stream != nil {
		if v4 {
			return d.finishStreamLocked()
		}
		// It was streamed for want of RAM, or has been cut short.
		if err := d.breakStreamLocked(d.stream.filled); err != nil {
			return nil, err
		}
	}
	if d.flat != nil && d.length > d.flat.filled {
		if err := d.padFlatLocked(); err != nil {
			return nil, err
		}
	}
	if v4 {
		return d.sealV4Locked()
	}
	return d.sealV3Locked()
}

// newSealed begins a result: the key is wrapped before anything more is sealed.
func (d *draft) newSealed(version uint8, blob seal.ID, key *seal.Key) (*sealedContent, error) {
	wire, epoch, err := d.s.wrap(key)
	if err != nil {
		return nil, err
	}
	sc := &sealedContent{key: *key, ref: contentRef{version: version, epoch: epoch, size: d.length, blob: blob}}
	if copy(sc.ref.wrapped[:], wire) != len(sc.ref.wrapped) || len(wire) != len(sc.ref.wrapped) {
		return nil, fmt.Errorf("%w: wrapped key of %d bytes", ErrInvalid, len(wire))
	}
	sc.ref.sealedLen, err = seal.SealedSize(int(version), d.length)
	return sc, err
}

func (d *draft) sealV3Locked() (*sealedContent, error) {
	key, id := seal.NewKey(), seal.NewBlobID()
	if a := d.landedAheadLocked(); a != nil && seal.SealedSizeV3(d.length) > d.s.limits.FreshMax {
		key, id = a.key, a.blob
	}
	sc, err := d.newSealed(seal.V3, id, &key)
	if err != nil {
		return nil, err
	}
	if sc.ref.sealedLen > d.s.limits.FreshMax && d.flat != nil {
		return sc, d.sealFlatLocked(sc)
	}
	buf := &plainBuf{}
	if sc.ref.sealedLen <= d.s.limits.FreshMax {
		buf.b = make([]byte, sc.ref.sealedLen) // the row's, so it is nobody else's
	} else {
		// Whoever holds some of it waits for no other draft.
		if err := d.s.sealing.Acquire(context.Background(), sc.ref.sealedLen); err != nil {
			return nil, err
		}
		defer d.s.sealing.Release(sc.ref.sealedLen)
		buf = d.s.bufs.plainSized(int(sc.ref.sealedLen))
		defer d.s.bufs.putPlain(buf)
		buf.b = buf.b[:sc.ref.sealedLen]
	}
	if err := d.readLocked(buf.b[plainHead:][:d.length], 0); err != nil {
		return nil, err
	}
	var sealed []byte
	if sc.ref.sealedLen <= d.s.limits.FreshMax {
		sealed, err = seal.SealV3(&key, buf.b, int(d.length))
		sc.fresh = sealed
	} else {
		sealed, err = d.s.sealBin(&key, sc.ref.blob, buf.b, int(d.length))
	}
	if err != nil {
		return nil, err
	}
	sc.setHdr(sealed)
	return sc, nil
}

func (sc *sealedContent) setHdr(sealed []byte) {
	hdr := seal.HdrOfV3(sealed)
	copy(sc.ref.hdr[:], hdr[:])
}

// sealFlatLocked seals the buffer where it is. A failed write opens it again.
func (d *draft) sealFlatLocked(sc *sealedContent) error {
	if d.flat.isShed() {
		return d.endShedLocked(sc)
	}
	if err := d.unsealFlatLocked(); err != nil {
		return err
	}
	key := sc.key
	var sealed []byte
	var err error
	if d.flat.ahead != nil {
		sealed, err = d.endAheadLocked()
	} else {
		sealed, err = d.s.sealBin(&key, sc.ref.blob, d.flat.buf.b, int(d.length))
	}
	if sealed != nil {
		d.flat.buf.b = sealed
		d.flat.sealed = &key
		sc.setHdr(sealed)
	}
	if err != nil {
		if openErr := d.unsealFlatLocked(); openErr != nil {
			return openErr
		}
	}
	return err
}

func (d *draft) sealV4Locked() (*sealedContent, error) {
	if seal.SealedSizeV4(d.length) <= d.s.limits.FreshMax {
		return d.sealFreshV4Locked()
	}
	w, sc, err := d.rewriteLocked()
	if err != nil {
		return nil, err
	}
	if err = w.f.Close(); err == nil {
		err = w.publish()
	}
	if err != nil {
		w.abandon()
		return nil, err
	}
	return sc, nil
}

func (d *draft) sealFreshV4Locked() (*sealedContent, error) {
	key, blob := seal.NewKey(), seal.NewBlobID()
	sc, err := d.newSealed(seal.V4, blob, &key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, d.length)
	defer clear(plain)
	if d.length > 0 {
		if err := d.readLocked(plain, 0); err != nil {
			return nil, err
		}
	}
	c := seal.NewV4(&key, d.s.vault, blob)
	copy(sc.ref.hdr[:], c.Header())
	sc.fresh = append(make([]byte, 0, sc.ref.sealedLen), c.Header()...)
	sc.fresh = c.SealChunks(sc.fresh, plain, 0, true)
	return sc, nil
}

// rewriteLocked seals all of the draft into a new .part, which is complete
// when it returns, and open.
func (d *draft) rewriteLocked() (*partWriter, *sealedContent, error) {
	w, err := d.s.newPartWriter(0)
	if err != nil {
		return nil, nil, err
	}
	sc, err := d.newSealed(seal.V4, w.blob, &w.fk)
	if err == nil {
		copy(sc.ref.hdr[:], w.chunks.Header())
		err = d.sealIntoLocked(w)
	}
	if err != nil {
		w.abandon()
		return nil, nil, err
	}
	return w, sc, nil
}

// sealIntoLocked seals the whole file block by block; blocks that are in RAM
// are sealed from where they are.
func (d *draft) sealIntoLocked(w *partWriter) error {
	if _, err := w.f.WriteAt(w.chunks.Header(), 0); err != nil {
		return err
	}
	scratch := d.s.bufs.plainSized(segmentPlain)
	defer d.s.bufs.putPlain(scratch)
	for off := int64(0); ; {
		data, err := d.pieceLocked(off, scratch.b[:segmentPlain])
		if err != nil {
			return err
		}
		off += int64(len(data))
		whole := len(data)
		if off == d.length {
			whole &^= seal.ChunkSize - 1
		}
		if err := w.add(data[:whole], true); err != nil {
			return err
		}
		if off == d.length {
			return w.end(data[whole:])
		}
	}
}

// pieceLocked gives what comes at off, whole chunks except at the end.
func (d *draft) pieceLocked(off int64, scratch []byte) ([]byte, error) {
	if d.flat != nil {
		if err := d.unsealFlatLocked(); err != nil {
			return nil, err
		}
		return d.flatDataLocked()[off:min(off+segmentPlain, d.length)], nil
	}
	if b, _ := d.pages.at(off / pageSize); b != nil && b.have == ^uint16(0) && off%blockSize == 0 {
		return b.mem[:min(blockSize, d.length-off)], nil
	}
	n := min(int64(len(scratch)), d.length-off)
	if n > blockSize && d.pages.ram > 0 {
		n = blockSize // the next block may be in RAM
	}
	if n == 0 {
		return nil, nil
	}
	return scratch[:n], d.readLocked(scratch[:n], off)
}

// finishStreamLocked seals what a stream still has in RAM. After it the draft
// is pages over the finished file, which whoever writes next only reads.
func (d *draft) finishStreamLocked() (*sealedContent, error) {
	st := d.stream
	sc, err := d.newSealed(seal.V4, st.w.blob, &st.w.fk)
	if err != nil {
		return nil, err
	}
	before := st.filled
	err = st.appendZeros(d.length - st.filled)
	if err == nil {
		err = d.endStreamLocked()
	}
	if err != nil {
		if breakErr := d.breakStreamLocked(min(before, st.filled)); breakErr != nil {
			return nil, breakErr
		}
		return nil, err
	}
	copy(sc.ref.hdr[:], st.w.chunks.Header())
	p := newPart(st, 0)
	p.from, p.size, p.done = 0, d.length, true
	p.r.size, p.r.sealedLen = d.length, sc.ref.sealedLen
	d.lower = lower{part: p, shown: d.length}
	d.stream = nil
	st.close()
	return sc, nil
}

// endStreamLocked brings a stream's file to its end and gives it its name.
func (d *draft) endStreamLocked() error {
	st := d.stream
	if st.filled > int64(len(st.head)) || len(st.head) == st.headCap {
		if err := st.w.end(st.tail); err != nil {
			return err
		}
		if err := st.w.writeHead(st.head, false); err != nil {
			return err
		}
	} else if err := st.w.writeHead(st.head, true); err != nil {
		return err
	}
	return st.w.publish()
}

// foldLocked seals the draft to a base of its own, whose index costs nothing.
func (d *draft) foldLocked() error {
	w, sc, err := d.rewriteLocked()
	if err != nil {
		return diskError(err)
	}
	d.dropLogLocked()
	d.pages.clear()
	d.dropLowerLocked()
	r := d.s.newV4Reader(w.f, w.chunks, d.length, sc.ref.sealedLen)
	d.lower = lower{part: &part{r: r, blob: w.blob, fk: w.fk, size: d.length}, shown: d.length}
	if d.flat != nil {
		d.dropFlatLocked()
	}
	return nil
}
