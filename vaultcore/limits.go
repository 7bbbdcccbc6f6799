package vaultcore

import (
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Limits are the bounds of what a vault holds in memory and on disk. A zero
// field is its default. Sizes are bytes.
type Limits struct {
	// FileKeys is how many unwrapped file keys are kept. Default 16,384.
	FileKeys int

	// OpenPlain bounds the plaintext of contents that are opened whole
	// (version 3, and those that lie in their row): what is in use and what
	// was lately. One content larger than that is opened alone. Default 128 MiB.
	OpenPlain int64
	// IdlePlain is how much of OpenPlain contents that nobody has open may
	// keep. Small, because the kernel's page cache has what was read of them,
	// and their buffers serve the next file. Default 1 MiB.
	IdlePlain int64
	// IdleBuffers bounds the memory that free buffers of plaintext, up to
	// 25 MiB each, keep for the next file. Default 32 MiB.
	IdleBuffers int64

	// DraftFile and DraftTotal bound what drafts hold in RAM, each and all
	// together, before they spill to their logs. A single request is never
	// split, and every draft may hold its last request and 256 KiB beside the
	// total. Defaults 64 and 128 MiB.
	DraftFile, DraftTotal int64
	// DraftIndex bounds the memory of one draft's index of its log: 7 bytes
	// for each 4 KiB logged in order, 15 for those logged one by one, 118 for
	// one without a neighbour in its 64 KiB. When it is passed the draft is sealed to a base of its own and its log
	// begins anew. Default 64 MiB.
	DraftIndex int64
	// LogDead is how many superseded bytes a draft log may hold, if they are
	// also more than the live ones, before it is written anew. Default 64 MiB.
	LogDead int64

	// V3Max is the largest content sealed in version 3 while the vault's
	// write setting is auto. Default and maximum 25 MiB.
	V3Max int64
	// StreamHead is how much of the start of a stream stays in RAM until it
	// is finished, so that a program may go back to its header; with the
	// setting v4 a sequential writer becomes a stream beyond it. A multiple
	// of 16 KiB, at most 256 KiB and V3Max. Default 256 KiB.
	StreamHead int64
	// SealAhead is how much of a new file that is written in order is sealed at
	// a time, and goes to the disk, before the file is closed; nothing of one
	// that has not twice as much. A multiple of 4 KiB. Default 1 MiB.
	SealAhead int64
	// FreshMax is the largest sealed content that lies in its row. Default
	// 32 KiB, maximum 64 KiB.
	FreshMax int64
	// MaxFile is the largest file. Default and maximum 2^40.
	MaxFile int64
	// Reserve is how much of the disk writes leave free; on a file system of
	// less than 16 times as much, a sixteenth of it, but at least 1 MiB.
	// Default 64 MiB.
	Reserve int64

	// FetchWait is how long one operation on a file waits for a network. Default
	// 10 s.
	FetchWait time.Duration

	// TrashAge and TrashShare say how long trash is kept and how many
	// hundredths of the file system it may fill. Defaults 30 days, 10.
	TrashAge   time.Duration
	TrashShare int
}

const mib = 1 << 20

// withDefaults fills in the zero fields.
func (l Limits) withDefaults() Limits {
	setInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	setSize := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	setInt(&l.FileKeys, 16384)
	setSize(&l.OpenPlain, 128*mib)
	setSize(&l.IdlePlain, 1*mib)
	setSize(&l.IdleBuffers, 32*mib)
	setSize(&l.DraftFile, 64*mib)
	setSize(&l.DraftTotal, 128*mib)
	setSize(&l.DraftIndex, 64*mib)
	setSize(&l.LogDead, 64*mib)
	setSize(&l.V3Max, seal.MaxV3)
	setSize(&l.StreamHead, min(256<<10, l.V3Max&^(seal.ChunkSize-1)))
	setSize(&l.SealAhead, mib)
	setSize(&l.FreshMax, 32<<10)
	setSize(&l.MaxFile, seal.MaxV4)
	setSize(&l.Reserve, 64*mib)
	setInt(&l.TrashShare, 10)
	if l.FetchWait == 0 {
		l.FetchWait = 10 * time.Second
	}
	if l.TrashAge == 0 {
		l.TrashAge = 30 * 24 * time.Hour
	}
	return l
}

// check refuses limits that the formats or the engine cannot keep; the zero
// fields must have been filled in. Error: ErrInvalid.
func (l Limits) check() error {
	bound := func(name string, v, lo, hi int64) error {
		if v < lo || v > hi {
			return fmt.Errorf("%w: limit %s is %d, not in %d…%d", ErrInvalid, name, v, lo, hi)
		}
		return nil
	}
	const most = 1 << 50
	for _, err := range []error{
		bound("FileKeys", int64(l.FileKeys), 1, 1<<24),
		bound("OpenPlain", l.OpenPlain, 1, most),
		bound("IdlePlain", l.IdlePlain, 1, most),
		bound("IdleBuffers", l.IdleBuffers, 1, most),
		bound("DraftFile", l.DraftFile, pageSize, most),
		bound("DraftTotal", l.DraftTotal, pageSize, most),
		bound("DraftIndex", l.DraftIndex, 1, most),
		bound("LogDead", l.LogDead, 1, most),
		bound("V3Max", l.V3Max, seal.ChunkSize, seal.MaxV3),
		bound("StreamHead", l.StreamHead, seal.ChunkSize, min(256<<10, l.V3Max)),
		bound("StreamHead in its last chunk", l.StreamHead%seal.ChunkSize, 0, 0),
		bound("SealAhead", l.SealAhead, pageSize, most),
		bound("SealAhead in its last page", l.SealAhead%pageSize, 0, 0),
		bound("FreshMax", l.FreshMax, 1, 64<<10),
		bound("MaxFile", l.MaxFile, 1, seal.MaxV4),
		bound("Reserve", l.Reserve, 1, most),
		bound("TrashShare", int64(l.TrashShare), 1, 100),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
