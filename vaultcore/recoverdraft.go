package vaultcore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// recoverDraft makes a draft of what a crash left: state is what the draft's
// row holds, base the content that row names, if any. Reading stops at the
// first record that does not open, an append cut short. The result stands over
// what was found, which is only read: it is sealed under new keys, and what is
// written to it goes to files of its own.
// Errors: ErrDamaged for a state, base or file that does not fit, else the disk's.
func (s *store) recoverDraft(id seal.ID, state []byte, base *content) (*draft, error) {
	found, err := s.readDraft(state, base, 0)
	if err != nil {
		return nil, fmt.Errorf("draft %s: %w", id.Hex(), err)
	}
	d := &draft{
		s: s, base: found.base, length: found.length, changed: true, short: found.short, cutTo: noCut, pages: pageSet{bufs: s.bufs},
		lower:  lower{frozen: found, shown: found.length},
		isKept: true, rowState: slices.Clone(state), rowFiles: stateFiles(state),
	}
	found.base = nil // one owner
	return d, nil
}

// readDraft builds the frozen draft a state describes.
func (s *store) readDraft(state []byte, base *content, depth int) (_ *draft, err error) {
	st, err := parseState(state)
	if err != nil {
		return nil, err
	}
	if depth >= maxStateDepth {
		return nil, fmt.Errorf("%w: drafts below drafts", ErrDamaged)
	}
	d := &draft{s: s, length: st.size, changed: true, frozen: true, cutTo: noCut, pages: pageSet{bufs: s.bufs}}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if err != nil {
			d.closeLocked()
		}
	}()
	if base != nil {
		base.acquire()
		d.base = base
	}
	d.rowState = append(d.rowState, state...)
	if err := d.findLowerLocked(st, base, depth); err != nil {
		return nil, err
	}
	d.lower.shown = st.shown
	if st.flags&(stateHead|stateTail) != 0 {
		d.pages.write(st.head, 0)
		d.pages.write(st.tail, st.partSize)
	}
	if st.flags&stateLog != 0 {
		if err := d.readLogLocked(st); err != nil {
			return nil, err
		}
	}
	d.settleLocked()
	return d, nil
}

// verifyLower reads what a found draft stands on: sealed chunks, or a content that is
// here.
func (d *draft) verifyLower() error {
	for f := d.lower.frozen; f != nil; f = f.lower.frozen {
		if c := f.lower.content; c != nil && c.place.Load() != placeElsewhere {
			if err := d.s.verify(c, true); err != nil {
				return err
			}
		}
		p := f.lower.part
		if p == nil {
			continue
		}
		for off := p.from; off < p.size; off += seal.ChunkSize {
			if err := p.r.verifyChunk(uint64(off / seal.ChunkSize)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *draft) findLowerLocked(st *draftState, base *content, depth int) error {
	switch {
	case st.flags&stateBase != 0:
		if base == nil || base.ref.blob != st.base || base.ref.size < st.shown {
			return fmt.Errorf("%w: the draft is of another content", ErrDamaged)
		}
		d.lower.content = base
	case st.flags&statePart != 0:
		p, err := d.s.findPart(st)
		if err != nil {
			return err
		}
		d.lower.part = p
	case st.flags&stateBelow != 0:
		below, err := d.s.readDraft(st.below, base, depth+1)
		if err != nil {
			return err
		}
		d.lower.frozen, d.short = below, below.short
	}
	return nil
}

// findPart opens the sealed chunks a state counts. Whoever finished the stream
// before the crash had renamed the file.
func (s *store) findPart(st *draftState) (*part, error) {
	p := &part{blob: st.blob, fk: st.fk, from: st.from, size: st.partSize}
	f, err := s.attachments.OpenFile(partName(p.blob))
	if errors.Is(err, blob.ErrNotFound) {
		p.done = true
		f, err = s.attachments.OpenFile(binName(p.blob))
	}
	if err != nil {
		return nil, damaged(err)
	}
	chunks, err := seal.OpenHeaderV4(&p.fk, s.vault, p.blob, st.header[:])
	if err != nil {
		f.Close()
		return nil, damaged(err)
	}
	sealedLen := seal.SealedSizeV4(p.size)
	if p.size%seal.ChunkSize == 0 {
		sealedLen = seal.SealedOffV4(uint64(p.size / seal.ChunkSize)) // the end mark may not be there
	}
	p.r = s.newV4Reader(f, chunks, p.size, sealedLen)
	return p, nil
}

// readLogLocked replays a log into the index, of one whose row counts its records
// up to the last mark.
func (d *draft) readLogLocked(st *draftState) error {
	f, err := d.s.scratch.Open(logName(st.log))
	if err != nil {
		return damaged(err)
	}
	l := &draftLog{
		f: f, id: st.log, sk: st.sk, log: seal.NewDraftLog(&st.sk, d.s.vault, st.log),
		startSize: st.size, startShown: st.shown, length: st.size,
	}
	d.log = l
	most := seal.MaxDraftRecords
	if st.flags&stateCount != 0 {
		if most, err = l.lastMark(); err != nil {
			return err
		}
		d.short = d.short || most < int(st.count)
	}
	return l.eachRecord(most, func(used int, off int64, data []byte) error {
		l.offs = append(l.offs, l.end)
		l.end += int64(used)
		return d.replayLocked(off, data)
	})
}

// lastMark finds the record that ended the last save, and counts up to it.
func (l *draftLog) lastMark() (records int, err error) {
	length, n := l.startSize, 0
	err = l.eachRecord(seal.MaxDraftRecords, func(_ int, off int64, data []byte) error {
		n++
		switch {
		case len(data) > 0:
			length = max(length, off+int64(len(data)))
		case off == length:
			records = n
		default:
			length = off
		}
		return nil
	})
	return records, err
}

// eachRecord calls fn with the first records of the log, most at most. used is what
// one takes in the file. An append that was cut short ends it.
func (l *draftLog) eachRecord(most int, fn func(used int, off int64, data []byte) error) error {
	r := logReader{f: l.f, buf: make([]byte, 0, 2*(seal.MaxDraftData+seal.DraftRecordOverhead))}
	defer clear(r.buf[:cap(r.buf)])
	for n := range most {
		rec, err := r.next()
		if err != nil {
			return err
		}
		off, data, used, err := l.log.OpenRecord(uint64(n), rec)
		if err != nil {
			return nil
		}
		if off > seal.MaxV4-uint64(len(data)) {
			return fmt.Errorf("%w: draft log", ErrDamaged)
		}
		r.used(used)
		if err := fn(used, int64(off), data); err != nil {
			return err
		}
	}
	return nil
}

// replayLocked applies the record read last.
func (d *draft) replayLocked(off int64, data []byte) error {
	if len(data) == 0 {
		if off < d.length {
			if err := d.cutPagesLocked(off); err != nil {
				return err
			}
			d.lower.shown = min(d.lower.shown, off)
		}
		d.length = off
		return nil
	}
	end := off + int64(len(data))
	if off%pageSize != 0 || end%pageSize != 0 && end < d.length {
		// Not as this program writes them; such a piece goes into RAM.
		if err := d.pagesWriteLocked(data, off); err != nil {
			return err
		}
		d.length = max(d.length, end)
		return nil
	}
	d.length = max(d.length, end)
	record := uint32(len(d.log.offs) - 1)
	for page := off / pageSize; page*pageSize < end; {
		i := int(page % blockPages)
		count := int(min(int64(blockPages-i), (end-page*pageSize+pageSize-1)/pageSize))
		b, mask := d.pages.entry(uint32(page/blockPages)), pageMask(i, count)
		d.pages.dropRAM(b, mask)
		d.pages.setRecord(b, mask, record)
		page += int64(count)
	}
	return nil
}

// closeLocked gives back what a frozen draft holds, but for its files.
func (d *draft) closeLocked() {
	if d.log != nil {
		d.log.f.Close()
		d.log.sk.Wipe()
		d.log = nil
	}
	if p := d.lower.part; p != nil {
		p.r.close()
		p.fk.Wipe()
	}
	if f := d.lower.frozen; f != nil {
		f.mu.Lock()
		f.closeLocked()
		f.mu.Unlock()
	}
	d.lower = lower{}
	d.pages.clear()
	clear(d.rowState)
	d.changed, d.ended = false, true
	d.settleLocked()
	if d.base != nil {
		d.base.release()
		d.base = nil
	}
}

// letGo closes a frozen draft and returns the names of its files.
func (d *draft) letGo() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.filesLocked()
	d.closeLocked()
	return names
}

// logReader reads a log from its start, a record at least at a time.
type logReader struct {
	f   *os.File
	buf []byte
	at  int // of buf: consumed
	off int64
	eof bool
}

// next gives what follows, as much as any record is long if there is as much.
func (r *logReader) next() ([]byte, error) {
	const most = seal.MaxDraftData + seal.DraftRecordOverhead
	if len(r.buf)-r.at < most && !r.eof {
		r.buf = r.buf[:copy(r.buf, r.buf[r.at:])]
		r.at = 0
		n, err := r.f.ReadAt(r.buf[len(r.buf):cap(r.buf)], r.off)
		if err != nil && err != io.EOF {
			return nil, err
		}
		r.eof = err == io.EOF
		r.buf = r.buf[:len(r.buf)+n]
		r.off += int64(n)
	}
	return r.buf[r.at:], nil
}

func (r *logReader) used(n int) { r.at += n }
