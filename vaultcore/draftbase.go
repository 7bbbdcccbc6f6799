package vaultcore

import (
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// drafts gives those over rows that get a new record, with the tips they are made on
// from now on: a draft that comes back after a kill is a change of that record. ns is
// held, so no draft begins or ends meanwhile.
func (s *sealing) drafts() map[seal.ID][]byte {
	v := s.l.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	bases := make(map[seal.ID][]byte)
	for _, r := range s.atts {
		if n := v.rows.get(r.n); n != nil && !n.draftID.IsZero() {
			bases[n.draftID] = (&syncFields{digest: r.digest, base: r.base}).tips()
		}
	}
	return bases
}

// rebaseDrafts writes the tips that kept drafts are made on.
func (t *txn) rebaseDrafts(bases map[seal.ID][]byte) (err error) {
	for id, base := range bases {
		err = errors.Join(err, t.exec("UPDATE drafts SET base=? WHERE id=?", nilBytes(base), id[:]))
	}
	return err
}
