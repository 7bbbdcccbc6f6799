package vaultcore

import (
	"encoding/binary"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// The state of a kept draft, which its row holds sealed:
//
//	u8 1 (version) ‖ u8 flags ‖ u64 size ‖ u64 shown, then what the flags say:
//	log    16 id ‖ 32 key
//	count  u32 n, of a log: whoever wrote the row had brought n records into it
//	base   16 blob
//	part   16 blob ‖ 32 key ‖ 64 header ‖ u64 from ‖ u64 size
//	head   u32 n ‖ n bytes at offset 0
//	tail   u32 n ‖ n bytes behind the part's last byte
//	below  u32 n ‖ the state of the draft below, found after an earlier crash
//	loose  nothing more: what the row names was perhaps not on the disk when it was written
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
	stateCount = 1 << 6
	stateLoose = 1 << 7

	maxStateDepth = 8       // of drafts below drafts
	maxStatePiece = 1 << 20 // of head and tail, and of all that is below
)

// draftState is a decoded state.
type draftState struct {
	flags          uint8
	size, shown    int64
	log            seal.ID
	sk             seal.Key
	count          uint32
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
	if s.flags&stateCount != 0 {
		b = be.AppendUint32(b, s.count)
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
	if s.flags&stateCount != 0 {
		s.count = binary.BigEndian.Uint32(r.take(4))
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
	badCount := s.flags&stateCount != 0 && (s.flags&stateLog == 0 || s.count == 0)
	if r.bad || len(r.b) > 0 || badCount || lowers&(lowers-1) != 0 || s.shown > s.size {
		return nil, fmt.Errorf("%w: state of a draft", ErrDamaged)
	}
	return s, nil
}

// isLoose says that what a state names was perhaps not durable when its row was
// written.
func isLoose(state []byte) bool {
	s, err := parseState(state)
	return err == nil && s.flags&stateLoose != 0
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
