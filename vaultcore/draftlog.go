package vaultcore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// draftLog is the append-only sealed file behind a draft (FORMAT.md "Draft
// log"): scratch/<id>.tmp. Its index, 8 bytes a record, is in RAM; which page
// lies in which record the draft's pageSet knows.
//
// What has been appended is never overwritten, because an earlier fsync may
// have promised it; an append that failed is cut off again.
type draftLog struct {
	f   *os.File
	id  seal.ID
	sk  seal.Key
	log *seal.DraftLog

	// Where reading the log after a crash starts from: the size of the file
	// and how much of the lower content showed when the log was begun.
	startSize, startShown int64

	length int64   // of the file, as reading the log gives it
	end    int64   // of the log
	offs   []int64 // where each record starts
	marked int     // records up to and with the last mark
	broken bool    // a failed append could not be cut off: a new log is due
	synced bool    // what was appended is on the disk
	named  bool    // the file's name is on the disk
}

func (s *store) newDraftLog(startSize, startShown int64) (*draftLog, error) {
	id, sk := seal.NewBlobID(), seal.NewKey()
	f, err := s.makeFile(s.scratch, logName(id))
	if err != nil {
		return nil, diskError(err)
	}
	return &draftLog{
		f: f.File, id: id, sk: sk, log: seal.NewDraftLog(&sk, s.vault, id),
		startSize: startSize, startShown: startShown, length: startSize,
	}, nil
}

// readAt fills dst from the record, which holds the pages dst at off touches.
// What the record ends before is zero: it was the end of the file.
func (l *draftLog) readAt(s *store, record uint32, dst []byte, off int64) error {
	start, end := l.offs[record], l.end
	if int(record)+1 < len(l.offs) {
		end = l.offs[record+1]
	}
	buf := s.bufs.sealed(int(min(end-start, sealedLarge)), start)
	defer s.bufs.putSealed(buf)
	b := buf.b
	if n := end - start; n > sealedLarge { // a found log may have longer records than ours
		b = make([]byte, n)
	} else {
		b = b[:n]
	}
	if _, err := l.f.ReadAt(b, start); err != nil {
		return readError(err)
	}
	at, data, _, err := l.log.OpenRecord(uint64(record), b)
	if err != nil {
		return damaged(fmt.Errorf("draft log %s: %w", l.id.Hex(), err))
	}
	n := 0
	if skip := off - int64(at); skip < int64(len(data)) {
		n = copy(dst, data[skip:])
	}
	clear(dst[n:])
	clear(data)
	return nil
}

// logBatch collects records and appends them with one write.
type logBatch struct {
	d      *draft
	l      *draftLog
	buf    *sealedBuf
	offs   []int64
	staged []stagedPages
	length int64 // of the file once the batch is in
	// written is called with the records of each batch that is in.
	written func(staged []stagedPages)
}

// stagedPages are pages that will lie in a record.
type stagedPages struct {
	b      *block
	mask   uint16
	record uint32
}

func (d *draft) newBatch(l *draftLog, written func([]stagedPages)) *logBatch {
	return &logBatch{d: d, l: l, buf: d.s.bufs.sealed(sealedLarge, l.end), length: l.length, written: written}
}

// add stages one record: data at off, which are the pages of mask in b. At
// most a block of data.
func (b *logBatch) add(off int64, data []byte, blk *block, mask uint16) error {
	if len(b.buf.b)+len(data)+seal.DraftRecordOverhead > sealedLarge {
		if err := b.flush(); err != nil {
			return err
		}
	}
	n := len(b.l.offs) + len(b.offs)
	if n >= seal.MaxDraftRecords {
		return fmt.Errorf("%w: draft log is full", ErrTooLarge)
	}
	b.offs = append(b.offs, b.l.end+int64(len(b.buf.b)))
	b.buf.b = b.l.log.SealRecord(b.buf.b, uint64(n), uint64(off), data)
	if len(data) == 0 {
		b.length = off
	} else {
		b.length = max(b.length, off+int64(len(data)))
		b.staged = append(b.staged, stagedPages{blk, mask, uint32(n)})
	}
	return nil
}

// flush appends what is staged. After an error the log is as it was.
func (b *logBatch) flush() error {
	l, n := b.l, int64(len(b.buf.b))
	if n == 0 {
		return nil
	}
	err := b.d.s.space.fits(n)
	if err == nil {
		err = l.append(b.buf.b)
	}
	if err == nil {
		b.d.s.space.written(n)
		l.offs = append(l.offs, b.offs...)
		l.length, l.synced = b.length, false
		b.written(b.staged)
	}
	b.buf.move(l.end)
	b.offs, b.staged = b.offs[:0], b.staged[:0]
	b.length = l.length
	return diskError(err)
}

func (b *logBatch) close() { b.d.s.bufs.putSealed(b.buf) }

func (l *draftLog) append(p []byte) error {
	if _, err := l.f.WriteAt(p, l.end); err != nil {
		if l.f.Truncate(l.end) != nil {
			l.broken = true // the rest of a record must not come to stand behind a new one
		}
		return err
	}
	l.end += int64(len(p))
	return nil
}

// sync makes the log durable, and its name the first time.
func (l *draftLog) sync(s *store) error {
	if !l.synced {
		if err := datasync(l.f); err != nil {
			return err
		}
		l.synced = true
	}
	if !l.named {
		if err := s.scratch.Sync(); err != nil {
			return err
		}
		l.named = true
	}
	return nil
}

func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// appendDirtyLocked brings the log up to what the draft holds, beginning one
// if there is none.
func (d *draft) appendDirtyLocked() error {
	if d.log != nil && d.log.broken {
		return d.compactLocked()
	}
	if d.log == nil {
		l, err := d.s.newDraftLog(d.length, d.lower.shown)
		if err != nil {
			return err
		}
		d.log, d.cutTo = l, noCut
	}
	batch := d.newBatch(d.log, d.stagedIn)
	defer batch.close()
	err := d.addDirtyLocked(batch)
	if err == nil {
		err = batch.flush()
	}
	if err != nil {
		return err
	}
	if d.flat != nil {
		d.flat.logged = d.flat.filled
	}
	return d.tidyLogLocked()
}

// markLocked ends what the log has with a mark, a record that sets the size the
// file has anyway: reading it after a crash ends behind the last one. A cut without
// what was written after it is no state that anybody saved.
func (d *draft) markLocked() error {
	l := d.log
	if l == nil || l.marked == len(l.offs) && l.marked > 0 {
		return nil
	}
	batch := d.newBatch(l, func([]stagedPages) {})
	defer batch.close()
	if err := batch.add(l.length, nil, nil, 0); err != nil {
		return err
	}
	if err := batch.flush(); err != nil {
		return err
	}
	l.marked = len(l.offs)
	return nil
}

// stagedIn notes what a batch has brought into the log. The first batch begins
// with the cut that was due, which must not be repeated over later records.
func (d *draft) stagedIn(staged []stagedPages) {
	d.cutTo = noCut
	for _, p := range staged {
		d.pages.setRecord(p.b, p.mask, p.record)
	}
}

// addDirtyLocked stages the cut that is due, everything not yet logged, and
// the size if that does not follow from the rest.
func (d *draft) addDirtyLocked(batch *logBatch) error {
	if d.cutTo < batch.length {
		// Before any data: what the cut took away must not come back below it.
		if err := batch.add(d.cutTo, nil, nil, 0); err != nil {
			return err
		}
	}
	var err error
	if d.flat != nil {
		err = d.addFlatLocked(batch)
	} else {
		err = d.addPagesLocked(batch, func(b *block) uint16 { return b.dirty })
	}
	if err == nil && batch.length != d.length {
		err = batch.add(d.length, nil, nil, 0)
	}
	return err
}

// addFlatLocked stages what the flat buffer holds beyond what is logged.
func (d *draft) addFlatLocked(batch *logBatch) error {
	data := d.flatDataLocked()
	for off := d.flat.logged &^ (pageSize - 1); off < d.flat.filled; {
		n := min(blockSize-off%blockSize, d.flat.filled-off)
		b := d.pages.entry(uint32(off / blockSize))
		first := int(off % blockSize / pageSize)
		mask := pageMask(first, int((n+pageSize-1)/pageSize))
		if err := batch.add(off, data[off:off+n], b, mask); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// addPagesLocked stages the pages that choose picks, a run a record.
func (d *draft) addPagesLocked(batch *logBatch, choose func(*block) uint16) error {
	scratch := d.s.bufs.plainSized(blockSize)
	defer d.s.bufs.putPlain(scratch)
	for _, key := range d.pages.keys() {
		b := d.pages.blocks[key]
		want := choose(b)
		for i := 0; want>>i != 0; {
			if want>>i&1 == 0 {
				i++
				continue
			}
			count := 1
			for i+count < blockPages && want>>(i+count)&1 != 0 {
				count++
			}
			off := int64(key)*blockSize + int64(i)*pageSize
			n := min(int64(count)*pageSize, d.length-off)
			mask := pageMask(i, count)
			data, err := d.pageRunLocked(b, mask, off, scratch.b[:n])
			if err != nil {
				return err
			}
			if err := batch.add(off, data, b, mask); err != nil {
				return err
			}
			i += count
		}
	}
	return nil
}

// pageRunLocked gives the bytes of a run of pages: where they are if all are
// in RAM, else read into scratch.
func (d *draft) pageRunLocked(b *block, mask uint16, off int64, scratch []byte) ([]byte, error) {
	if b.have&mask == mask {
		in := off % blockSize
		return b.mem[in : in+int64(len(scratch))], nil
	}
	return scratch, d.readLocked(scratch, off)
}

// tidyLogLocked bounds the log on disk and its index in RAM.
func (d *draft) tidyLogLocked() error {
	live := int64(d.pages.logged) * pageSize
	if dead := d.log.end - live; dead > d.s.limits.LogDead && dead > live {
		return d.compactLocked()
	}
	if int64(len(d.pages.blocks))*110+int64(len(d.log.offs))*8 > d.s.limits.DraftIndex {
		return d.foldLocked()
	}
	return nil
}

// compactLocked writes the live pages to a new log under a new key. The old
// one stays while the draft's row may name it. An error leaves all as it was.
func (d *draft) compactLocked() error {
	l, err := d.s.newDraftLog(d.length, d.lower.shown)
	if err != nil {
		return err
	}
	var all []stagedPages
	batch := d.newBatch(l, func(p []stagedPages) { all = append(all, p...) })
	defer batch.close()
	if d.flat != nil {
		d.flat.logged = 0
		err = d.addFlatLocked(batch)
	} else {
		err = d.addPagesLocked(batch, func(b *block) uint16 { return b.dirty | b.loggedMask() })
	}
	if err == nil {
		err = batch.flush()
	}
	if err != nil {
		l.f.Close()
		d.s.removeFile(logName(l.id))
		return diskError(err)
	}
	d.dropLogLocked()
	d.log = l
	d.stagedIn(all)
	if d.flat != nil {
		d.flat.logged = d.flat.filled
	}
	return nil
}

// dropLogLocked lets go of the log: nothing in it is needed any more.
func (d *draft) dropLogLocked() {
	if d.log == nil {
		return
	}
	d.log.f.Close()
	d.obsoleteLocked(logName(d.log.id))
	d.log.sk.Wipe()
	d.log = nil
	d.pages.forgetLog()
}
