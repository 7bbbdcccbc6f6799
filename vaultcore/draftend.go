package vaultcore

import (
	"slices"
	"strings"
)

// unfinishLocked takes back what finish made, since the file is written again.
func (d *draft) unfinishLocked() error {
	if err := d.unsealFlatLocked(); err != nil || d.done == nil {
		return err
	}
	blob := d.done.ref.blob
	if p := d.lower.part; d.done.fresh == nil && (p == nil || p.blob != blob) {
		d.s.removeFile(binName(blob))
	}
	d.s.keys.Remove(blob)
	d.done = nil
	return nil
}

// committed ends a draft whose finished content is in its row: RAM and base
// are let go. It returns the files that the draft's row may still name; they
// must stay until a barrier has passed the commit, and then be given to
// removeFile.
func (d *draft) committed() (files []string) {
	d.mu.Lock()
	bin := ""
	if d.done != nil && d.done.fresh == nil {
		bin = binName(d.done.ref.blob)
	}
	d.mu.Unlock()
	return d.end(bin)
}

// dropped ends a draft without a content, as discard does, but leaves the
// files its row may still name: they are returned, for removeFile once the
// row's deletion is durable.
func (d *draft) dropped() (files []string) {
	d.mu.Lock()
	if !d.ended {
		if d.flat.isShed() {
			d.emptyLocked() // or a stream would be made of it
		}
		_ = d.unfinishLocked() // at worst a file stays that no row names
	}
	d.mu.Unlock()
	return d.end("")
}

// discard ends a draft of which nothing is to remain.
func (d *draft) discard() {
	for _, name := range d.dropped() {
		d.s.removeFile(name)
	}
}

// end lets everything go; bin is the file that belongs to a row now.
func (d *draft) end(bin string) (keep []string) {
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		return nil
	}
	if d.stream != nil {
		d.dropStreamLocked()
	}
	if p := d.lower.part; p != nil && p.name() == bin {
		p.r.close()
		d.lower = lower{}
	}
	d.dropLogLocked()
	d.dropLowerLocked()
	d.emptyLocked()
	d.ended, d.done, d.length = true, nil, 0
	d.changed = false
	d.settleLocked()
	clear(d.rowState)
	keep = d.obsolete
	d.obsolete = nil
	base := d.base
	d.mu.Unlock()
	if base != nil {
		base.release()
	}
	return keep
}

// obsoleteLocked removes a file of the draft, or lists it while the row may
// name it. A stream that was finished meanwhile is named as it was before.
func (d *draft) obsoleteLocked(name string) {
	named := name
	if stem, ok := strings.CutSuffix(name, binExt); ok {
		named = stem + partExt
	}
	if d.isKept && (slices.Contains(d.rowFiles, name) || slices.Contains(d.rowFiles, named)) {
		d.obsolete = append(d.obsolete, name)
		return
	}
	d.s.removeFile(name)
}

// removeFile removes a draft's or a blob's file by its name.
func (s *store) removeFile(name string) {
	dir := s.attachments
	if strings.HasSuffix(name, logExt) {
		dir = s.scratch
	}
	if err := dir.Remove(name); err != nil {
		s.log.Warn("file not removed", "file", name, "err", err)
	}
}

// dropLowerLocked lets go of a lower content of which nothing shows any more.
func (d *draft) dropLowerLocked() {
	if p := d.lower.part; p != nil {
		p.r.close()
		d.obsoleteLocked(p.name())
	}
	if f := d.lower.frozen; f != nil {
		for _, name := range f.letGo() {
			d.obsoleteLocked(name)
		}
	}
	d.lower = lower{}
}
