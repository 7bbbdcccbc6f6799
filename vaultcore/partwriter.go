package vaultcore

import (
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// writebackStep is how much is written before the kernel is told to begin
// with the disk, for what goes through the page cache.
const writebackStep = 8 * mib

// partWriter seals a version 4 blob into attachments/<blob>.part. Chunks are
// gathered to blocks of 1 MiB, for a short file of 256 KiB; while one is being
// written, the next is sealed. A block goes to the file up to the last border
// of a page, so that each page is written once and in one way; the chunk that
// lies across the border is also the start of the next block. Each chunk index
// is sealed once, and bytes that could not be written are only ever written
// again as they are.
type partWriter struct {
	s      *store
	blob   seal.ID
	fk     seal.Key
	chunks *seal.ContentV4
	f      *blob.File

	next    uint64     // chunk to seal next
	buf     *sealedBuf // whole sealed chunks, not yet all handed on
	bufOff  int64      // where buf belongs in the file
	sent    int64      // where in the file what was not handed on begins
	flight  flight     // handed on; its buf is nil when nothing is under way
	done    chan error // answers of flights
	handed  int64      // bytes handed on so far
	begun   int64      // up to where the kernel was told to write back
	synced  int64      // handed at the last sync
	renamed bool
}

// flight is what is being written: of buf, which lies at off in the file, the
// bytes of the file from from to to.
type flight struct {
	buf           *sealedBuf
	off, from, to int64
}

func (f *flight) bytes() []byte { return f.buf.b[f.from-f.off : f.to-f.off] }

func (s *store) newPartWriter(first uint64) (*partWriter, error) {
	w := &partWriter{s: s, blob: seal.NewBlobID(), fk: seal.NewKey(), next: first, done: make(chan error, 1)}
	f, err := s.makeFile(s.attachments, partName(w.blob))
	if err != nil {
		return nil, diskError(err)
	}
	w.f, w.chunks = f, seal.NewV4(&w.fk, s.vault, w.blob)
	w.bufOff = seal.SealedOffV4(first)
	w.sent = w.bufOff
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
		w.need()
		room := w.buf.chunks() - len(w.buf.b)/seal.SealedChunk
		n := min(room*seal.ChunkSize, len(plain))
		w.buf.b = w.chunks.SealChunks(w.buf.b, plain[:n], w.next, false)
		w.next += uint64(n / seal.ChunkSize)
		plain = plain[n:]
		if n < room*seal.ChunkSize {
			continue
		}
		if err := w.send(w.bufEnd()&^(pageSize-1), async); err != nil {
			return err
		}
	}
	return nil
}

// need makes buf be there. The first block is a small one: most files are.
func (w *partWriter) need() {
	switch {
	case w.buf != nil:
	case w.handed == 0:
		w.buf = w.s.bufs.sealed(sealedLarge, w.bufOff)
	default:
		w.buf = w.s.bufs.sealedForWriter(w.bufOff)
	}
}

func (w *partWriter) bufEnd() int64 { return w.bufOff + int64(len(w.buf.b)) }

// send hands on what is sealed, up to offset to of the file, behind the flight
// before it. On error the bytes of both that are not in the file stay where
// they are.
func (w *partWriter) send(to int64, async bool) error {
	if err := w.wait(); err != nil || w.buf == nil {
		return err
	}
	f := flight{w.buf, w.bufOff, w.sent, to}
	if !async {
		if err := w.write(f.bytes(), f.from); err != nil {
			return err
		}
	}
	w.buf, w.bufOff, w.sent = nil, w.bufEnd(), to
	w.handed += to - f.from
	w.s.space.written(to - f.from)
	if w.bufOff > to {
		w.carry(f.buf.b)
	}
	if !async {
		w.s.bufs.putSealed(f.buf)
		return nil
	}
	w.flight = f
	go func(b []byte, off int64) { w.done <- w.write(b, off) }(f.bytes(), f.from)
	return nil
}

// carry begins a block with the last chunk of the one before.
func (w *partWriter) carry(before []byte) {
	w.bufOff -= seal.SealedChunk
	w.buf = w.s.bufs.sealedForWriter(w.bufOff)
	w.buf.b = append(w.buf.b, before[len(before)-seal.SealedChunk:]...)
}

// wait collects the flight under way. One that failed is tried once more, with
// the same bytes; then it stays as what is not in the file.
func (w *partWriter) wait() error {
	if w.flight.buf == nil {
		return nil
	}
	err := <-w.done
	if err != nil {
		w.done <- w.write(w.flight.bytes(), w.flight.from)
		if err = <-w.done; err != nil {
			w.done <- err // for whoever asks next
			return diskError(err)
		}
	}
	w.s.bufs.putSealed(w.flight.buf)
	w.flight.buf = nil
	return nil
}

// write puts sealed bytes in their place, and every few MiB has the kernel
// begin to move them to the disk, so that a later fsync finds little left.
func (w *partWriter) write(b []byte, off int64) error {
	if err := w.f.WriteDirect(b, off); err != nil {
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
	if err := w.wait(); err != nil || w.buf == nil {
		return err
	}
	return w.send(w.bufEnd(), false)
}

// writtenPlain is the plaintext offset up to which the file has all chunks.
func (w *partWriter) writtenPlain() int64 {
	off := w.sent
	if w.flight.buf != nil {
		off = w.flight.from
	}
	return (off - seal.HeaderV4) / seal.SealedChunk * seal.ChunkSize
}

// end seals the last chunk, plain, which is short, and writes everything. next
// goes on counting whole chunks.
func (w *partWriter) end(plain []byte) error {
	w.need()
	w.buf.b = w.chunks.SealChunks(w.buf.b, plain, w.next, true)
	return w.flush()
}

// writeHead writes the header and, sealed now, the chunks behind it. With
// final they are all there is.
func (w *partWriter) writeHead(plain []byte, final bool) error {
	buf := w.s.bufs.sealed(sealedLarge, 0)
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
	lostEnd := w.bufOff
	if f := &w.flight; f.buf != nil {
		lost, lostEnd = append(lost, f.buf.b...), f.off+int64(len(f.buf.b))
		w.s.bufs.putSealed(f.buf)
		f.buf = nil
	}
	if w.buf != nil {
		lost = append(lost, w.buf.b[lostEnd-w.bufOff:]...) // without the chunk that both have
		w.s.bufs.putSealed(w.buf)
		w.buf = nil
	}
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
