package vaultcore

import (
	"bytes"
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// keep appends to the log what is not in it yet, and a mark that ends the save, or
// brings the whole chunks of a stream into its file, and with sync makes that
// durable. state is what the draft's row must hold for recoverDraft; changed says
// that it differs from the state given last, so that the row has to be written; a
// caller who cannot says so with notRecorded. Files that the old row names stay
// until recorded. A row that takes the place of another names only what is durable:
// the one before may have been. On error the last state still holds.
// Errors: ErrNoSpace, else the disk's.
func (d *draft) keep(sync bool) (state []byte, changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil, false, ErrClosed
	}
	defer d.settleLocked()
	if err := d.unsealFlatLocked(); err != nil {
		return nil, false, err
	}
	if err := d.keepLocked(sync); err != nil {
		return nil, false, diskError(err)
	}
	state = d.stateLocked()
	changed = d.rowFailed || !bytes.Equal(state, d.rowState)
	if changed {
		if d.isKept && !sync {
			if err := d.syncKeptLocked(); err != nil {
				return nil, false, diskError(err)
			}
			sync = true
		}
		d.rowLoose, d.rowCount = !sync, d.recordsLocked()
		state = d.stateLocked()
		d.rowFailed = false
		d.rowState = state
		d.rowFiles = append(d.rowFiles, stateFiles(state)...)
		d.isKept = true
	}
	return state, changed, nil
}

func (d *draft) keepLocked(sync bool) error {
	if d.flat.isShed() {
		if err := d.toStreamLocked(); err != nil {
			return err
		}
	}
	if d.stream != nil && d.stream.outgrown() {
		if err := d.breakStreamLocked(d.stream.filled); err != nil {
			return err
		}
	}
	if st := d.stream; st != nil {
		if err := st.w.flush(); err != nil {
			return errors.Join(err, d.breakStreamLocked(st.filled))
		}
	} else {
		if d.unloggedLocked() {
			if err := d.appendDirtyLocked(); err != nil {
				return err
			}
		}
		if err := d.markLocked(); err != nil {
			return err
		}
	}
	if p := d.lower.part; sync || p != nil && p.done { // a barrier would look for its name as a part
		return d.syncKeptLocked()
	}
	return nil
}

func (d *draft) syncKeptLocked() error {
	if d.stream != nil {
		return d.stream.w.sync()
	}
	return d.syncLocked()
}

// recordsLocked is how many records the log has.
func (d *draft) recordsLocked() uint32 {
	if d.log == nil {
		return 0
	}
	return uint32(len(d.log.offs))
}

// unloggedLocked says whether the log lacks anything.
func (d *draft) unloggedLocked() bool {
	if d.log != nil && (d.log.broken || d.cutTo < d.log.length || d.log.length != d.length) {
		return true
	}
	if d.flat != nil {
		return d.flat.logged < d.flat.filled
	}
	for _, b := range d.pages.blocks {
		if b.dirty != 0 {
			return true
		}
	}
	return false
}

// syncLocked makes log and part durable.
func (d *draft) syncLocked() error {
	if p := d.lower.part; p != nil && !p.synced {
		if err := errors.Join(datasync(p.r.f.File), d.s.attachments.Sync()); err != nil {
			return err
		}
		p.synced = true
	}
	if f := d.lower.frozen; f != nil { // a kill may have left it unsynced
		f.mu.Lock()
		defer f.mu.Unlock()
		if err := f.syncLocked(); err != nil {
			return err
		}
	}
	if d.log != nil {
		return d.log.sync(d.s)
	}
	return nil
}

// sync makes what was written durable, and the file's name the first time.
func (w *partWriter) sync() error {
	if w.synced == w.handed && w.handed > 0 {
		return nil
	}
	if err := datasync(w.f.File); err != nil {
		return err
	}
	if w.synced == 0 {
		if err := w.s.attachments.Sync(); err != nil {
			return err
		}
	}
	w.synced = w.handed
	return nil
}

// outgrown says that a stream is kept again and again with little added, which
// costs its head and tail each time: as pages it costs what was added.
func (st *stream) outgrown() bool {
	if st.kept > 0 && st.filled-st.kept < littleKept {
		st.keeps++
	} else {
		st.keeps = 0
	}
	st.kept = st.filled
	return st.keeps > keepsOfStream
}

// kept says that the caller was given a state for a row.
func (d *draft) kept() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.isKept
}

// notRecorded says that the row could not be written with the state given
// last, so that the next keep gives it again as changed.
func (d *draft) notRecorded() {
	d.mu.Lock()
	d.rowFailed = true
	d.mu.Unlock()
}

// recorded says that the state given last is durable in its row. The files
// that only older states named are removed.
func (d *draft) recorded() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isKept || d.ended {
		return
	}
	obsolete := d.obsolete
	d.rowFiles, d.obsolete = stateFiles(d.rowState), nil
	for _, name := range obsolete {
		d.obsoleteLocked(name)
	}
}

// files are the names of what the row's last state needs: at most a log and a
// stream's part, more only for a draft found after a crash. A barrier that
// covers a row whose keep was not with sync must sync them. A part may have
// become a .bin meanwhile, when its stream was finished and the row of that
// content did not get in, so nobody may remove x.bin while a draft's row names
// x.part.
func (d *draft) files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return stateFiles(d.rowState)
}

// filesLocked are the files the draft stands on now.
func (d *draft) filesLocked() (names []string) {
	if d.log != nil {
		names = append(names, logName(d.log.id))
	}
	if d.stream != nil {
		names = append(names, d.stream.w.name())
	}
	if d.lower.part != nil {
		names = append(names, d.lower.part.name())
	}
	if d.lower.frozen != nil {
		names = append(names, d.lower.frozen.filesLocked()...)
	}
	return names
}

// stateLocked encodes what the row must hold.
func (d *draft) stateLocked() []byte {
	var st draftState
	st.size, st.shown = d.length, d.lower.shown
	if d.log != nil {
		st.flags |= stateLog
		st.log, st.sk = d.log.id, d.log.sk
		st.size, st.shown = d.log.startSize, d.log.startShown
		if d.rowCount > 0 {
			st.flags |= stateCount
			st.count = d.rowCount
		}
	}
	if d.rowLoose {
		st.flags |= stateLoose
	}
	switch low := &d.lower; {
	case d.stream != nil:
		d.stream.describe(&st)
	case low.content != nil && st.shown > 0:
		st.flags |= stateBase
		st.base = low.content.ref.blob
	case low.part != nil:
		st.flags |= statePart
		st.blob, st.fk, st.from, st.partSize = low.part.blob, low.part.fk, low.part.from, low.part.size
		copy(st.header[:], low.part.r.chunks.Header())
	case low.frozen != nil:
		st.flags |= stateBelow
		st.below = low.frozen.rowState
	}
	return st.encode()
}

func (st *stream) describe(s *draftState) {
	s.flags |= statePart | stateHead | stateTail
	s.blob, s.fk, s.from = st.w.blob, st.w.fk, int64(st.headCap)
	copy(s.header[:], st.w.chunks.Header())
	s.partSize = int64(st.w.next) * seal.ChunkSize
	s.shown = min(s.partSize, st.filled)
	s.head, s.tail = st.head, st.tail
}
