package vaultcore

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	writebackStep = 8 * mib    // how much is written before the kernel is told to begin with the disk
	asyncRequest  = 64 << 10   // requests from here on are written by a second goroutine
	maxGap        = mib        // a hole up to this long is filled with zeros, a longer one makes pages
	keepsOfStream = 8          // fsyncs of little each, after which a stream becomes pages
	littleKept    = int64(mib) // what little is
)

// partWriter seals a version 4 blob into attachments/<blob>.part. Chunks are
// gathered to segments of 256 KiB; while one is being written, the next is
// sealed. Each chunk index is sealed once, and bytes that could not be
// written are only ever written again as they are.
type partWriter struct {
	s      *store
	blob   seal.ID
	fk     seal.Key
	chunks *seal.ContentV4
	f      *os.File

	next    uint64     // chunk to seal next
	buf     *sealedBuf // sealed, not yet handed on
	bufOff  int64      // where buf belongs in the file
	flight  *sealedBuf // handed on; nil when nothing is under way
	fliOff  int64
	done    chan error // answers of flights
	handed  int64      // bytes handed on so far
	begun   int64      // up to where the kernel was told to write back
	synced  int64      // handed at the last sync
	renamed bool
}

func (s *store) newPartWriter(first uint64) (*partWriter, error) {
	w := &partWriter{s: s, blob: seal.NewBlobID(), fk: seal.NewKey(), next: first, done: make(chan error, 1)}
	f, err := s.attachments.Create(partName(w.blob))
	if err != nil {
		return nil, diskError(err)
	}
	w.f, w.chunks = f, seal.NewV4(&w.fk, s.vault, w.blob)
	w.bufOff = seal.SealedOffV4(first)
	return w, nil
}

// name is the file's name in attachments.
func (w *partWriter) name() string {
	if w.renamed {
		return binName(w.blob)
	}
	return partName(w.blob)
}

// add seals whole chunks. async lets a second goroutine write; the error of
// that comes with a later call.
func (w *partWriter) add(plain []byte, async bool) error {
	for len(plain) > 0 {
		if w.buf == nil {
			w.buf = w.s.bufs.sealed(segmentPlain)
		}
		room := segmentChunks - len(w.buf.b)/seal.SealedChunk
		n := min(room*seal.ChunkSize, len(plain))
		w.buf.b = w.chunks.SealChunks(w.buf.b, plain[:n], w.next, false)
		w.next += uint64(n / seal.ChunkSize)
		plain = plain[n:]
		if n < room*seal.ChunkSize {
			continue
		}
		if err := w.send(async); err != nil {
			return err
		}
	}
	return nil
}

// send hands on what is sealed, behind the flight before it. On error the
// bytes of both that are not in the file stay where they are.
func (w *partWriter) send(async bool) error {
	if err := w.wait(); err != nil || w.buf == nil {
		return err
	}
	if !async {
		if err := w.write(w.buf.b, w.bufOff); err != nil {
			return err
		}
		w.handedOn(len(w.buf.b))
		w.s.bufs.putSealed(w.buf)
		w.buf = nil
		return nil
	}
	w.flight, w.fliOff, w.buf = w.buf, w.bufOff, nil
	w.handedOn(len(w.flight.b))
	go func(b []byte, off int64) { w.done <- w.write(b, off) }(w.flight.b, w.fliOff)
	return nil
}

func (w *partWriter) handedOn(n int) {
	w.bufOff += int64(n)
	w.handed += int64(n)
	w.s.space.written(int64(n))
}

// wait collects the flight under way. One that failed is tried once more, with
// the same bytes; then it stays as what is not in the file.
func (w *partWriter) wait() error {
	if w.flight == nil {
		return nil
	}
	err := <-w.done
	if err != nil {
		w.done <- w.write(w.flight.b, w.fliOff)
		if err = <-w.done; err != nil {
			w.done <- err // for whoever asks next
			return diskError(err)
		}
	}
	w.s.bufs.putSealed(w.flight)
	w.flight = nil
	return nil
}

// write puts sealed bytes in their place, and every few MiB has the kernel
// begin to move them to the disk, so that a later fsync finds little left.
func (w *partWriter) write(b []byte, off int64) error {
	if _, err := w.f.WriteAt(b, off); err != nil {
		return diskError(err)
	}
	if end := off + int64(len(b)); end-w.begun >= writebackStep {
		// Advice only: what goes wrong here comes back from fsync.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.begun, end-w.begun, unix.SYNC_FILE_RANGE_WRITE)
		w.begun = end
	}
	return nil
}

// flush writes everything sealed so far.
func (w *partWriter) flush() error {
	if err := w.send(false); err != nil {
		return err
	}
	return w.wait()
}

// end seals the last chunk, plain, which is short, and writes everything. next
// goes on counting whole chunks.
func (w *partWriter) end(plain []byte) error {
	if w.buf == nil {
		w.buf = w.s.bufs.sealed(segmentPlain)
	}
	w.buf.b = w.chunks.SealChunks(w.buf.b, plain, w.next, true)
	return w.flush()
}

// writeHead writes the header and, sealed now, the chunks behind it. With
// final they are all there is.
func (w *partWriter) writeHead(plain []byte, final bool) error {
	buf := w.s.bufs.sealed(segmentPlain)
	defer w.s.bufs.putSealed(buf)
	buf.b = append(buf.b, w.chunks.Header()...)
	buf.b = w.chunks.SealChunks(buf.b, plain, 0, final)
	if err := w.write(buf.b, 0); err != nil {
		return err
	}
	w.handed += int64(len(buf.b))
	w.s.space.written(int64(len(buf.b)))
	return nil
}

// publish gives the finished blob its name.
func (w *partWriter) publish() error {
	if err := w.s.attachments.Rename(partName(w.blob), binName(w.blob)); err != nil {
		return diskError(err)
	}
	w.renamed = true
	return nil
}

// take waits for the flight and gives the whole chunk from which on the file
// may lack bytes, and the sealed whole chunks from there. The writer is not
// used for writing any more.
func (w *partWriter) take() (from uint64, lost []byte) {
	_ = w.wait() // its error is why we are here, or it is none
	for _, b := range []*sealedBuf{w.flight, w.buf} {
		if b != nil {
			lost = append(lost, b.b...)
			w.s.bufs.putSealed(b)
		}
	}
	w.flight, w.buf = nil, nil
	whole := len(lost) / seal.SealedChunk
	return w.next - uint64(whole), lost[:whole*seal.SealedChunk]
}

// abandon closes and removes the file.
func (w *partWriter) abandon() {
	w.take()
	w.f.Close()
	w.s.removeFile(w.name())
	w.fk.Wipe()
}

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
	st := &stream{w: w, headCap: headCap, headBuf: d.s.bufs.sealed(segmentPlain), tail: make([]byte, 0, seal.ChunkSize)}
	st.head = st.headBuf.b[:0]
	st.r = d.s.newV4Reader(w.f, w.chunks, 0, 0)
	if d.flat != nil {
		if err := st.append(d.flat.data(), true); err != nil {
			st.close()
			w.abandon()
			return err
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

// readAt fills dst; off+len(dst) is within filled.
func (st *stream) readAt(dst []byte, off int64) error {
	if off < int64(len(st.head)) {
		n := copy(dst, st.head[off:])
		dst, off = dst[n:], off+int64(n)
	}
	if n := min(int64(len(dst)), st.tailStart()-off); n > 0 {
		if err := st.readSealed(dst[:n], off); err != nil {
			return err
		}
		dst, off = dst[n:], off+n
	}
	if len(dst) > 0 {
		copy(dst, st.tail[off-st.tailStart():])
	}
	return nil
}

func (st *stream) readSealed(dst []byte, off int64) error {
	if err := st.w.flush(); err != nil {
		return err
	}
	st.r.size = int64(st.w.next) * seal.ChunkSize
	st.r.sealedLen = seal.SealedOffV4(st.w.next)
	return st.r.readAt(dst, off)
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
	if off < st.filled && (off < st.tailStart() || len(st.tail) == 0) || off-st.filled > maxGap {
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
