package vaultcore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// The state of a kept draft, which its row holds sealed:
//
//	u8 1 (version) ‖ u8 flags ‖ u64 size ‖ u64 shown, then what the flags say:
//	log    16 id ‖ 32 key
//	base   16 blob
//	part   16 blob ‖ 32 key ‖ 64 header ‖ u64 from ‖ u64 size
//	head   u32 n ‖ n bytes at offset 0
//	tail   u32 n ‖ n bytes behind the part's last byte
//	below  u32 n ‖ the state of the draft below, found after an earlier crash
//
// size and shown are those the log is read from, or the file's where there is
// none; base, part and below exclude each other.
const (
	stateVersion = 1

	stateLog   = 1 << 0
	stateBase  = 1 << 1
	statePart  = 1 << 2
	stateHead  = 1 << 3
	stateTail  = 1 << 4
	stateBelow = 1 << 5

	maxStateDepth = 8       // of drafts below drafts
	maxStatePiece = 1 << 20 // of head and tail, and of all that is below
)

// keep appends to the log what is not in it yet, or brings the whole chunks of
// a stream into its file, and with sync makes that durable. state is what the
// draft's row must hold for recoverDraft; changed says that it differs from
// the state given last, so that the row has to be written; a caller who cannot
// says so with notRecorded. Files that the old row names stay until recorded.
// On error the last state still holds.
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
		if sync {
			return st.w.sync()
		}
		return nil
	}
	if d.unloggedLocked() {
		if err := d.appendDirtyLocked(); err != nil {
			return err
		}
	}
	if p := d.lower.part; sync || p != nil && p.done { // a barrier would look for its name as a part
		return d.syncLocked()
	}
	return nil
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

// draftState is a decoded state.
type draftState struct {
	flags          uint8
	size, shown    int64
	log            seal.ID
	sk             seal.Key
	base           seal.ID
	blob           seal.ID
	fk             seal.Key
	header         [seal.HeaderV4]byte
	from, partSize int64
	head, tail     []byte
	below          []byte
}

func (s *draftState) encode() []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, 256+len(s.head)+len(s.tail)+len(s.below)), stateVersion, s.flags)
	b = be.AppendUint64(b, uint64(s.size))
	b = be.AppendUint64(b, uint64(s.shown))
	if s.flags&stateLog != 0 {
		b = append(append(b, s.log[:]...), s.sk.Bytes()...)
	}
	if s.flags&stateBase != 0 {
		b = append(b, s.base[:]...)
	}
	if s.flags&statePart != 0 {
		b = append(append(append(b, s.blob[:]...), s.fk.Bytes()...), s.header[:]...)
		b = be.AppendUint64(b, uint64(s.from))
		b = be.AppendUint64(b, uint64(s.partSize))
	}
	for _, piece := range s.pieces() {
		if s.flags&piece.flag != 0 {
			b = be.AppendUint32(b, uint32(len(*piece.data)))
			b = append(b, *piece.data...)
		}
	}
	return b
}

type statePiece struct {
	flag uint8
	data *[]byte
}

func (s *draftState) pieces() [3]statePiece {
	return [3]statePiece{{stateHead, &s.head}, {stateTail, &s.tail}, {stateBelow, &s.below}}
}

// parseState decodes a state strictly. Error: ErrDamaged.
func parseState(b []byte) (*draftState, error) {
	r := stateReader{b: b}
	if v := r.take(1); r.bad || v[0] != stateVersion {
		return nil, fmt.Errorf("%w: state of a draft", ErrDamaged)
	}
	s := &draftState{flags: r.take(1)[0], size: r.int(), shown: r.int()}
	if s.flags&stateLog != 0 {
		copy(s.log[:], r.take(len(s.log)))
		copy(s.sk.Bytes(), r.take(len(s.sk.Bytes())))
	}
	if s.flags&stateBase != 0 {
		copy(s.base[:], r.take(len(s.base)))
	}
	if s.flags&statePart != 0 {
		copy(s.blob[:], r.take(len(s.blob)))
		copy(s.fk.Bytes(), r.take(len(s.fk.Bytes())))
		copy(s.header[:], r.take(len(s.header)))
		s.from, s.partSize = r.int(), r.int()
	}
	for _, piece := range s.pieces() {
		if s.flags&piece.flag != 0 {
			*piece.data = r.piece()
		}
	}
	lowers := s.flags & (stateBase | statePart | stateBelow)
	if r.bad || len(r.b) > 0 || s.flags >= stateBelow<<1 || lowers&(lowers-1) != 0 || s.shown > s.size {
		return nil, fmt.Errorf("%w: state of a draft", ErrDamaged)
	}
	return s, nil
}

// stateBlob gives the content that a state stands on, zero if it needs none.
func stateBlob(state []byte) (blob seal.ID) {
	for depth := 0; len(state) > 0 && depth < maxStateDepth; depth++ {
		s, err := parseState(state)
		if err != nil {
			return seal.ID{}
		}
		blob, state = s.base, s.below
	}
	return blob
}

// stateReader takes a state apart. What is missing reads as zeros and sets bad.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *stateReader) int() int64 {
	v := binary.BigEndian.Uint64(r.take(8))
	if v > seal.MaxV4 {
		r.bad = true
		return 0
	}
	return int64(v)
}

func (r *stateReader) piece() []byte {
	n := binary.BigEndian.Uint32(r.take(4))
	if n > maxStatePiece {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// stateFiles are the names of the files a state needs.
func stateFiles(state []byte) (names []string) {
	for depth := 0; len(state) > 0 && depth < maxStateDepth; depth++ {
		s, err := parseState(state)
		if err != nil {
			return names
		}
		if s.flags&stateLog != 0 {
			names = append(names, logName(s.log))
		}
		if s.flags&statePart != 0 {
			names = append(names, partName(s.blob))
		}
		state = s.below
	}
	return names
}
