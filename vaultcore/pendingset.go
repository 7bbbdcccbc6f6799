package vaultcore

import (
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// pendingSet holds the contents that are neither here nor known to be on the
// remote, with the attachments that wait for them: more than one where a content
// was given another id. About 150 bytes each.
type pendingSet struct {
	byBlob map[seal.ID][]seal.ID
	byAtt  map[seal.ID][]seal.ID
}

func newPendingSet() pendingSet {
	return pendingSet{byBlob: make(map[seal.ID][]seal.ID), byAtt: make(map[seal.ID][]seal.ID)}
}

// clear forgets what an attachment waits for.
func (p *pendingSet) clear(att seal.ID) {
	for _, blob := range p.byAtt[att] {
		left := slices.DeleteFunc(p.byBlob[blob], func(id seal.ID) bool { return id == att })
		if p.byBlob[blob] = left; len(left) == 0 {
			delete(p.byBlob, blob)
		}
	}
	delete(p.byAtt, att)
}

func (p *pendingSet) add(blob, att seal.ID) {
	if slices.Contains(p.byAtt[att], blob) {
		return
	}
	p.byAtt[att] = append(p.byAtt[att], blob)
	p.byBlob[blob] = append(p.byBlob[blob], att)
}
