package vaultcore

import (
	"github.com/vaultdrive/vaultdrive/vaultcore/history"
)

// The base of a row is what its next change is made on: the tips merged in its
// file, that of its content first, or the digest alone where base is nil. A file whose newest
// content is pending shows an earlier one. Behind its tips then come a zero
// digest and the record that is shown, if there is one: a save was made on that,
// and the row knows it whatever becomes of the pending content before the save
// is sealed, be it minutes and a kill later.

// baseOf gives the base of a row that shows a file, nil if its digest says it.
func baseOf(f *history.File) (base []byte) {
	if len(f.Base) == 1 && !f.Pending {
		return nil
	}
	for _, d := range f.Base {
		base = append(base, d[:]...)
	}
	if !f.Pending {
		return base
	}
	base = append(base, make([]byte, 32)...)
	for _, d := range f.ContentBase() {
		base = append(base, d[:]...)
	}
	return base
}

// tips gives what a change of the row is made on. unseen: its content is pending,
// and a save was made on what is seen, none if nothing is.
func (r *attRow) tips() (tips, seen []history.Digest, unseen bool) {
	b := r.base
	if b == nil {
		b = r.digest
	}
	for ; len(b) >= 32; b = b[32:] {
		switch d := history.Digest(b[:32]); {
		case d == (history.Digest{}):
			unseen = true
		case unseen:
			seen = append(seen, d)
		default:
			tips = append(tips, d)
		}
	}
	return tips, seen, unseen
}

// movedBase gives the base of a row whose content was moved over another file.
// What was pending has not moved with it, so it is not ended.
func (r *attRow) movedBase() (base []byte) {
	_, seen, _ := r.tips()
	if len(seen) == 0 {
		return r.base
	}
	for _, d := range seen {
		base = append(base, d[:]...)
	}
	return base
}

// putBase gives the base of the record that publishes a row's change, and the
// rest of the base that outlives it: of a file that goes on showing an earlier
// content.
func (s *sealing) putBase(r *attRow) (base []history.Digest, shown []byte) {
	tips, seen, unseen := r.tips()
	switch {
	case !unseen:
		return tips, nil
	case r.dirty&dirtyContent == 0:
		return tips, r.base[32*len(tips):]
	case len(seen) == 0 && len(s.l.h.Attachment(r.id, nil).Live) == 0:
		return tips, nil // a first record of an id that died meanwhile would be refused
	}
	return seen, nil
}

// carry makes r, of a file that shows an earlier content, what the record of a
// new name, place or mode says: the content that is pending, which the change is
// not to take back.
func (s *sealing) carry(r *attRow, tip history.Digest) (*attRow, error) {
	v := s.l.v
	put, err := s.l.findPut(tip)
	if err != nil {
		return nil, err
	}
	key, err := v.keys.unwrap(put.Epoch, put.WK)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	c := *r
	c.version, c.epoch, c.size, c.wrapped = put.Version, put.Epoch, int64(put.Size), put.WK
	c.blob, c.blobLen, c.sha, c.hdr = put.Blob.ID, int64(put.Blob.Len), put.Blob.SHA256[:], put.Blob.Hdr
	if err := v.rewrapRow(&c, &key); err != nil {
		return nil, err
	}
	return &c, v.sealWire(&c, &key)
}
