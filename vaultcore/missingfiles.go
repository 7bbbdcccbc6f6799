package vaultcore

import (
	"context"
	"errors"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// errLost is what the alarm about a content says that is nowhere.
var errLost = errors.New("its content is gone from this device, and no remote is known to have it; look for a backup")

const maxLostAlarms = 100 // a mass of them says no more

// fetchMissing looks, with one listing, for files of contents that have vanished
// behind the vault's back. One that a remote is known to have counts as elsewhere
// from now on and is fetched like any other; about every other one there is an
// alarm, and its row stays as it is, because its file may come back.
func (v *Vault) fetchMissing(ctx context.Context) error {
	suspects, err := v.rowsWithoutFile()
	if err != nil || len(suspects) == 0 {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	v.ns.Lock()
	defer v.ns.Unlock()
	x := v.indexRows(nil, suspects)
	var elsewhere []seal.ID
	lost := 0
	for id := range suspects {
		gone, err := v.isGone(id, x.byBlob[id])
		switch {
		case err != nil:
			return err
		case gone && l.sent[id]:
			elsewhere = append(elsewhere, id)
		case gone:
			if lost++; lost <= maxLostAlarms {
				v.wg.Add(1)
				go func() { // the event needs the queue, which ns is held for
					defer v.wg.Done()
					v.raise("lost", x.byBlob[id][0], errLost)
				}()
			}
		}
	}
	return v.sayElsewhere(elsewhere, x)
}

// rowsWithoutFile gives the contents whose rows say that their file is here, and
// that a listing does not show.
func (v *Vault) rowsWithoutFile() (map[seal.ID]bool, error) {
	out := make(map[seal.ID]bool)
	v.readMu.Lock()
	err := ErrClosed
	if v.reader != nil {
		err = v.reader.query("SELECT blob FROM asset_attachments WHERE place=1", func(c []dbValue) error {
			s := rowScanner{c: c}
			out[s.id()] = true
			return nil
		})
	}
	v.readMu.Unlock()
	if err != nil || len(out) == 0 {
		return nil, err
	}
	err = v.attachments.EachName(func(name string) bool {
		if id, ok := strings.CutSuffix(name, binExt); ok {
			if blob, err := seal.ParseHex(id); err == nil {
				delete(out, blob)
			}
		}
		return true
	})
	return out, err
}

// isGone says whether a file is still missed, now that nothing moves. What
// somebody has open is left alone.
func (v *Vault) isGone(id seal.ID, nodes []*Node) (bool, error) {
	for _, n := range nodes {
		if n.content.place.Load() != placeBin || n.content.users() > 0 {
			return false, nil
		}
	}
	_, err := v.attachments.Stat(binName(id))
	if errors.Is(err, blob.ErrNotFound) {
		return len(nodes) > 0, nil
	}
	return false, err
}

// sayElsewhere writes into rows and tree that contents are to be fetched; ns is
// held.
func (v *Vault) sayElsewhere(blobs []seal.ID, x *nodeIndex) error {
	if len(blobs) == 0 {
		return nil
	}
	_, err := v.com.do(func(t *txn) error {
		for _, id := range blobs {
			for _, table := range []string{tableAttachments, "undo"} {
				if err := t.exec("UPDATE "+table+" SET place=0 WHERE blob=? AND place=1", id[:]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range blobs {
		for _, n := range x.byBlob[id] {
			n.content.place.CompareAndSwap(placeBin, placeElsewhere)
		}
	}
	v.bar.commit()
	v.log.Warn("files of contents were missing and are fetched again", "count", len(blobs))
	return nil
}
