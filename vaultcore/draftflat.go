package vaultcore

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

// flat is the whole of a small new file. The plaintext lies behind room for
// the IV, so that version 3 is sealed where it is.
type flat struct {
	buf    *plainBuf
	filled int64     // bytes written, without gaps
	logged int64     // of these, what the log holds
	sealed *seal.Key // set while the buffer holds ciphertext

	ahead *ahead // of a draft that is being written in order, its start
	plain bool   // something went back to what had been sealed: nothing is, any more
}

// flatMax is the largest file kept in one buffer.
func (d *draft) flatMax() int64 {
	if d.s.writeV4() {
		return d.s.limits.StreamHead
	}
	return d.s.limits.V3Max
}

// flatTakes says whether a write up to end keeps the draft flat: no long hole
// before it, and nothing changed that the log holds, for whose pages the flat
// shape keeps no account.
func (d *draft) flatTakes(off, end int64) bool {
	f := d.flat
	if f.isShed() && (f.ahead.whole || off < f.ahead.sealed) {
		return false
	}
	return end <= d.flatMax() && off <= f.filled+maxGap && off >= f.logged
}

// leaveFlatLocked makes a stream of a file that grows at its end, else pages.
func (d *draft) leaveFlatLocked(off int64) error {
	if d.flat.isShed() || off >= d.flat.filled && off <= d.flat.filled+maxGap {
		return d.toStreamLocked()
	}
	return d.toPagesLocked()
}

// data is the plaintext, but for what is sealed ahead.
func (f *flat) data() []byte { return f.buf.b[min(plainHead, len(f.buf.b)):][:f.filled] }

// flatWriteLocked copies p to its place, behind zeros where there is a gap.
func (d *draft) flatWriteLocked(p []byte, off int64) error {
	end := off + int64(len(p))
	if err := d.flatRoomLocked(max(end, d.flat.filled)); err != nil {
		return err
	}
	f := d.flat
	if f == nil || !d.flatTakes(off, end) { // it was spilled to make room
		return d.putLocked(p, off)
	}
	if f.ahead != nil && off < f.ahead.sealed {
		d.openAheadLocked()
	}
	if off > f.filled {
		clear(f.buf.b[plainHead+f.filled : plainHead+off])
	}
	copy(f.buf.b[plainHead+off:], p)
	f.filled = max(f.filled, end)
	d.sealAheadLocked()
	return nil
}

// flatRoomLocked makes the buffer hold n bytes. It may spill the draft.
func (d *draft) flatRoomLocked(n int64) error {
	need := int(n) + seal.OverheadV3
	size := cap(d.flat.buf.b)
	if need > size {
		size = d.flatSize(need)
	}
	if err := d.s.budget.makeRoomLocked(d, d.flat.more(need, size)); err != nil || d.flat == nil {
		return err
	}
	f := d.flat
	if size > cap(f.buf.b) {
		d.openAheadLocked() // the buffer moves
		buf := d.s.bufs.plainSized(size)
		buf.b = append(buf.b, f.buf.b[:min(plainHead+int(f.filled), len(f.buf.b))]...)
		d.s.bufs.putPlain(f.buf)
		f.buf = buf
	}
	f.buf.b = f.buf.b[:max(len(f.buf.b), plainHead+int(n))]
	if f.buf.mapping != nil {
		f.buf.touched = max(f.buf.touched, need)
	}
	return nil
}

// flatSize is the capacity to take for need bytes: exact at first, since most
// small files come in one write, then doubled, and beyond the small sizes all
// that a flat file may need, of which only what is touched costs memory.
func (d *draft) flatSize(need int) int {
	const small = smallPlain + seal.OverheadV3
	if need > small && need <= blockSize+seal.OverheadV3 {
		return need
	}
	if need > small {
		return max(need, int(d.flatMax())+seal.OverheadV3)
	}
	if d.flat.filled == 0 && need > pageSize {
		return need
	}
	return min(max(need, 2*cap(d.flat.buf.b), 512), small)
}

// more is how much RAM the buffer will take beyond what it does.
func (f *flat) more(need, size int) int64 {
	if f.buf.mapping != nil {
		return int64(max(need-f.buf.touched, 0))
	}
	if size > smallPlain+seal.OverheadV3 {
		size = need // it will be mapped
	}
	return int64(max(size-cap(f.buf.b), 0))
}

// padFlatLocked makes the buffer as long as the file.
func (d *draft) padFlatLocked() error {
	if d.length > d.flatMax() {
		return d.toPagesLocked()
	}
	if err := d.flatRoomLocked(d.length); err != nil || d.flat == nil {
		return err
	}
	f := d.flat
	clear(f.buf.b[plainHead+f.filled : plainHead+d.length])
	f.filled = d.length
	return nil
}

// unsealFlatLocked opens a buffer that was sealed in place. A draft whose start is
// only in its file becomes a stream.
func (d *draft) unsealFlatLocked() error {
	if d.flat == nil || d.flat.sealed == nil && !d.flat.isShed() {
		return nil
	}
	f := d.flat
	if f.isShed() {
		if !f.ahead.whole {
			return nil
		}
		return d.toStreamLocked()
	}
	if _, err := seal.OpenV3(f.sealed, f.buf.b, int64(len(f.buf.b)-seal.OverheadV3), nil); err != nil {
		return damaged(err)
	}
	f.buf.b = f.buf.b[:len(f.buf.b)-seal.OverheadV3+plainHead]
	f.sealed.Wipe()
	f.sealed = nil
	return nil
}

func (d *draft) dropFlatLocked() {
	d.dropAheadLocked()
	d.s.bufs.putPlain(d.flat.buf)
	d.flat = nil
}

// toPagesLocked makes pages of a flat draft.
func (d *draft) toPagesLocked() error {
	if d.flat.isShed() {
		if err := d.toStreamLocked(); err != nil {
			return err
		}
		return d.breakStreamLocked(d.stream.filled)
	}
	if err := d.unsealFlatLocked(); err != nil {
		return err
	}
	f := d.flat
	d.pages.write(d.flatDataLocked(), 0)
	for key, b := range d.pages.blocks {
		// What the log holds whole is clean.
		first := int64(key) * blockPages
		if n := min(f.logged/pageSize-first, blockPages); n > 0 {
			b.dirty &^= pageMask(0, int(n)) & b.loggedMask()
		}
	}
	d.dropFlatLocked()
	return nil
}
