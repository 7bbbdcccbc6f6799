package vaultcore

import (
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	asyncRequest  = 64 << 10   // requests from here on are written by a second goroutine
	maxGap        = mib        // a hole up to this long in a flat file is filled with zeros, a longer one makes pages
	maxStreamGap  = 64 * mib   // the same in a stream, which has to seal the zeros anyway
	keepsOfStream = 8          // fsyncs of little each, after which a stream becomes pages
	littleKept    = int64(mib) // what little is
)

// stream is a draft written from its start to its end: whole chunks go sealed
// into the blob's file as they fill, so that finishing costs the tail. The
// first bytes stay in RAM, because programs go back to their headers, and so
// does the chunk that is not yet full.
type stream struct {
	w       *partWriter
	r       *v4Reader // over w.f, up to what was written
	headBuf *sealedBuf
	head    []byte // at most headCap bytes of the start
	headCap int
	tail    []byte // the unfinished chunk behind what is sealed
	filled  int64  // bytes written, without gaps
	kept    int64  // filled at the last keep
	keeps   int    // times that little came between two of them
}

// toStreamLocked makes a stream of a draft whose flat buffer is all it has.
func (d *draft) toStreamLocked() error {
	headCap := int(d.s.limits.StreamHead)
	w, err := d.s.newPartWriter(uint64(headCap / seal.ChunkSize))
	if err != nil {
		return err
	}
	st := &stream{w: w, headCap: headCap, headBuf: d.s.bufs.sealed(sealedLarge, 0), tail: make([]byte, 0, seal.ChunkSize)}
	st.head = st.headBuf.b[:0]
	st.r = d.s.newV4Reader(w.f, w.chunks, 0, 0)
	if d.flat != nil {
		if err := d.eachFlatLocked(func(data []byte) error { return st.append(data, true) }); err != nil {
			st.close()
			w.abandon()
			return err
		}
		if a := d.flat.ahead; d.flat.isShed() && !a.published {
			d.regainLocked(a.sent)
		}
		d.dropFlatLocked()
	}
	d.dropLogLocked()
	d.dropLowerLocked()
	d.pages.clear()
	d.stream = st
	return nil
}

// append takes p behind what is there. On error the chunks that are not in
// the file are still with the writer.
func (st *stream) append(p []byte, async bool) error {
	if n := st.headCap - len(st.head); n > 0 {
		n = min(n, len(p))
		st.head = append(st.head, p[:n]...)
		st.filled += int64(n)
		p = p[n:]
	}
	st.filled += int64(len(p))
	if len(st.tail) > 0 {
		n := min(seal.ChunkSize-len(st.tail), len(p))
		st.tail = append(st.tail, p[:n]...)
		p = p[n:]
		if len(st.tail) < seal.ChunkSize {
			return nil
		}
		full := st.tail
		st.tail = st.tail[:0]
		if err := st.w.add(full, async); err != nil {
			return err
		}
	}
	whole := len(p) &^ (seal.ChunkSize - 1)
	if err := st.w.add(p[:whole], async); err != nil {
		return err
	}
	st.tail = append(st.tail, p[whole:]...)
	return nil
}

// appendZeros fills a gap.
func (st *stream) appendZeros(n int64) error {
	zeros := make([]byte, min(n, segmentPlain))
	for n > 0 {
		m := min(n, int64(len(zeros)))
		if err := st.append(zeros[:m], false); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// tailStart is the offset of the unfinished chunk.
func (st *stream) tailStart() int64 { return st.filled - int64(len(st.tail)) }

// overlay puts p into head or tail; false if it touches what is sealed or
// lies beyond the end.
func (st *stream) overlay(p []byte, off int64) bool {
	end := off + int64(len(p))
	switch {
	case end <= int64(len(st.head)):
		copy(st.head[off:], p)
	case off >= st.tailStart() && end <= st.filled:
		copy(st.tail[off-st.tailStart():], p)
	default:
		return false
	}
	return true
}

// readAt fills dst; off+len(dst) is within filled, and what it touches of the
// sealed chunks is in the file.
func (st *stream) readAt(dst []byte, off int64) error {
	if off < int64(len(st.head)) {
		n := copy(dst, st.head[off:])
		dst, off = dst[n:], off+int64(n)
	}
	if n := min(int64(len(dst)), st.tailStart()-off); n > 0 {
		st.r.size = int64(st.w.next) * seal.ChunkSize
		st.r.sealedLen = seal.SealedOffV4(st.w.next)
		if err := st.r.readAt(dst[:n], off); err != nil {
			return err
		}
		dst, off = dst[n:], off+n
	}
	if len(dst) > 0 {
		copy(dst, st.tail[off-st.tailStart():])
	}
	return nil
}

// settleStreamLocked brings the chunks before end into the file, so that they
// can be read. A disk that does not take them makes pages of the stream: what
// was written can be read all the same.
func (d *draft) settleStreamLocked(end int64) error {
	st := d.stream
	if end <= int64(len(st.head)) || end <= st.w.writtenPlain() {
		return nil
	}
	if err := st.w.flush(); err == nil {
		return nil
	}
	defer d.settleLocked()
	return d.breakStreamLocked(st.filled)
}

// cut drops what lies beyond size; false if that is in what is sealed.
func (st *stream) cut(size int64) bool {
	switch {
	case size >= st.filled:
		return true
	case st.filled <= int64(len(st.head)):
		st.head = st.head[:size]
	case len(st.tail) > 0 && size >= st.tailStart():
		st.tail = st.tail[:size-st.tailStart()]
	default:
		return false
	}
	st.filled = size
	return true
}

// close gives the memory back; the writer is the caller's.
func (st *stream) close() {
	if st.headBuf != nil {
		clear(st.head)
		st.w.s.bufs.putSealed(st.headBuf)
		st.headBuf, st.head = nil, nil
	}
	clear(st.tail[:cap(st.tail)])
	if st.r.cached.Load() {
		st.w.s.chunks.drop(st.r.id)
	}
}

// dropStreamLocked lets go of a stream of which nothing is needed any more.
func (d *draft) dropStreamLocked() {
	st := d.stream
	st.close()
	st.w.take()
	st.w.f.Close()
	d.obsoleteLocked(st.w.name())
	d.stream = nil
}

// streamWriteLocked writes to a stream, or makes pages of it when the write
// is none a stream can take.
func (d *draft) streamWriteLocked(p []byte, off int64) error {
	st := d.stream
	if st.overlay(p, off) {
		return nil
	}
	if off < st.filled && (off < st.tailStart() || len(st.tail) == 0) || off-st.filled > maxStreamGap {
		if err := d.breakStreamLocked(st.filled); err != nil {
			return err
		}
		return d.pagesWriteLocked(p, off)
	}
	before, tailStart := st.filled, st.tailStart()
	var tail []byte
	if off < before {
		tail = slices.Clone(st.tail) // as it was, should the rest of p fail
		n := copy(st.tail[off-tailStart:], p)
		p, off = p[n:], before
	}
	err := st.appendZeros(off - before)
	if err == nil {
		err = st.append(p, len(p) >= asyncRequest)
	}
	if err == nil {
		return nil
	}
	// These indices were sealed over bytes the program may send differently
	// next time, so what came before goes on under other keys.
	if err := d.breakStreamLocked(before); err != nil {
		return err
	}
	d.pages.write(tail, tailStart)
	return err
}

// breakStreamLocked makes pages of a stream: what the file holds of it stays
// as a base that is only read, the rest comes into RAM. What lies beyond
// filled was of a write that failed.
func (d *draft) breakStreamLocked(filled int64) error {
	st := d.stream
	from, lost := st.w.take()
	base, tailStart := int64(from)*seal.ChunkSize, st.tailStart()
	plain := make([]byte, len(lost)/seal.SealedChunk*seal.ChunkSize)
	defer clear(plain)
	if len(lost) > 0 {
		if _, err := st.w.chunks.OpenChunks(plain, lost, from); err != nil {
			return damaged(fmt.Errorf("stream: %w", err))
		}
	}
	head, tail := st.head, st.tail
	d.stream = nil
	if from > uint64(st.headCap/seal.ChunkSize) {
		d.lower = lower{part: newPart(st, from), shown: min(base, filled)}
	} else {
		d.lower = lower{}
		st.w.f.Close()
		d.obsoleteLocked(st.w.name())
	}
	for _, piece := range []struct {
		data []byte
		off  int64
	}{{head, 0}, {plain, base}, {tail, tailStart}} {
		if n := min(int64(len(piece.data)), filled-piece.off); n > 0 {
			d.pages.write(piece.data[:n], piece.off)
		}
	}
	st.close()
	d.cutTo = noCut
	return nil
}
