package seal

import (
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// check holds the rules that concern more than one field.
func (m *Manifest) check() error {
	if _, err := didkey.Parse(m.DID); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if m.Vault.IsZero() || m.Device.IsZero() || m.Created < 0 || m.Created > maxCreated || m.Epoch < 1 {
		return fmt.Errorf("%w: manifest", ErrFormat)
	}
	if err := checkHeads(m.Heads); err != nil {
		return err
	}
	for i, id := range m.Missing {
		if i > 0 && compareIDs(m.Missing[i-1], id) >= 0 {
			return fmt.Errorf("%w: order of missing contents", ErrFormat)
		}
	}
	return m.checkFiles()
}

// checkFiles checks that the members are all there are, in their order.
func (m *Manifest) checkFiles() error {
	o := fileOrder{log: map[ID]uint64{}}
	for i := range m.Files {
		if err := o.next(&m.Files[i]); err != nil {
			return fmt.Errorf("%w at member %d", err, i)
		}
	}
	if o.headers == 0 || o.last.Kind == FileCheckpoint && o.last.Part > 0 {
		return fmt.Errorf("%w: members are left out", ErrFormat)
	}
	for id, seq := range o.log {
		if m.Heads[id].Seq != seq {
			return fmt.Errorf("%w: log of device %s ends early", ErrFormat, id)
		}
	}
	if len(o.log) != len(m.Heads) && !o.checkpoint {
		return fmt.Errorf("%w: log of a device is left out", ErrFormat)
	}
	return m.checkMissing()
}

// checkMissing: what is missing is no member. Both lists ascend.
func (m *Manifest) checkMissing() error {
	missing := m.Missing
	for i := range m.Files {
		if m.Files[i].Kind != FileBlob {
			continue
		}
		for len(missing) > 0 && compareIDs(missing[0], m.Files[i].ID) < 0 {
			missing = missing[1:]
		}
		if len(missing) > 0 && missing[0] == m.Files[i].ID {
			return fmt.Errorf("%w: a member is called missing", ErrFormat)
		}
	}
	return nil
}

// fileOrder walks through the members.
type fileOrder struct {
	last       BackupFile
	headers    int64 // bytes
	checkpoint bool
	log        map[ID]uint64 // last number of each device
}

func (o *fileOrder) next(f *BackupFile) error {
	ok := f.Kind >= o.last.Kind && f.Seq <= maxJSONInt && f.Size > 0
	switch f.Kind {
	case FileHeader:
		o.headers += f.Size
		ok = ok && f.Seq == o.last.Seq+1 && f.Size <= maxEnvelope && o.headers <= MaxHeaders
	case FileCheckpoint:
		ok = ok && o.nextPart(f)
		o.checkpoint = true
	case FileBatch:
		ok = ok && !f.ID.IsZero() && f.Size >= int64(minBatch) && f.Size <= MaxBatch && o.nextBatch(f)
	case FileBlob:
		ok = ok && f.Size >= OverheadV3 && f.Size <= maxSealedV4 &&
			(o.last.Kind != FileBlob || compareIDs(o.last.ID, f.ID) < 0)
	default:
		ok = false
	}
	if !ok || o.headers == 0 || o.last.Kind == FileCheckpoint && o.last.Part > 0 && f.Kind != FileCheckpoint {
		return fmt.Errorf("%w: order or size", ErrFormat)
	}
	o.last = *f
	return nil
}

// nextPart: parts of one checkpoint, from 1, and m behind them.
func (o *fileOrder) nextPart(f *BackupFile) bool {
	if f.Size < int64(minBatch) || f.Size > MaxBatch || f.Seq < 1 || f.ID.IsZero() {
		return false
	}
	if o.last.Kind != FileCheckpoint {
		return f.Part <= 1
	}
	same := f.Seq == o.last.Seq && f.ID == o.last.ID
	return same && o.last.Part > 0 && (f.Part == o.last.Part+1 || f.Part == 0)
}

// nextBatch: without gaps, from the first, or where a checkpoint ends.
func (o *fileOrder) nextBatch(f *BackupFile) bool {
	last, known := o.log[f.ID]
	if !known && (f.Seq < 1 || f.Seq > 1 && !o.checkpoint || len(o.log) == maxDevices) {
		return false
	}
	if known && f.Seq != last+1 {
		return false
	}
	o.log[f.ID] = f.Seq
	return true
}
