package vaultcore

import (
	"context"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// errRowChanged: what is taken over is what was seen, or nothing.
var errRowChanged = fmt.Errorf("%w: the server has just changed it; look at it again", ErrBusy)

// Adopted says what became of something unverified.
type Adopted struct {
	ID    string `json:"id"`
	From  string `json:"from"`           // its path as Unverified has it
	State string `json:"state"`          // as there
	Path  string `json:"path,omitempty"` // on the drive, of what is there now
	Done  string `json:"done"`
}

// What can have been done.
const (
	DoneSigned   = "signed"   // an op says what the row says, byte for byte
	DoneResealed = "resealed" // its content has a new key
	DoneRestored = "restored" // back from the trash
	DoneDeleted  = "deleted"  // the file that somebody asked to delete is in the trash
	DoneRefused  = "refused"  // the server deletes it
	DoneKept     = "kept"     // the file that somebody asked to delete stays
)

// ErrNoItem: the asset that an unverified file belongs to is deleted for good.
var ErrNoItem = errors.New("the item it belongs to was deleted")

// Adopt takes over what Unverified lists: a row by an op over exactly the bytes
// seen where its key opens under the current epoch, else sealed anew, since an
// older key may be in wrong hands; a deletion by deleting the file; what a
// revocation took back by restoring it. What has been settled meanwhile is
// ErrNotFound. Other errors: ErrDamaged for what does not open, ErrTimeout for
// what the server does not give, ErrNoItem, those of a write.
func (v *Vault) Adopt(ctx context.Context, u Unverified) (Adopted, error) {
	done := Adopted{ID: u.ID, From: u.Path, State: u.State}
	id, err := v.beginAdopting(u)
	if err != nil {
		return done, err
	}
	defer v.adopting.Unlock()
	switch u.State {
	case UnverifiedDeletion:
		done.Path, done.Done = u.Path, DoneDeleted
		return done, v.adoptDeletion(id, u.Path)
	case UnverifiedRevoked:
		done.Done = DoneRestored
		if !v.isTakenBack(id) {
			return done, fmt.Errorf("%w among what is unverified: %s", ErrNotFound, u.Path)
		}
		done.Path, err = v.RestoreTrash(u.ID)
		return done, err
	}
	done.Path, done.Done, err = v.adoptRow(ctx, id, u.version)
	return done, err
}

// beginAdopting takes the turn; the caller gives it back unless there is an error.
func (v *Vault) beginAdopting(u Unverified) (seal.ID, error) {
	if err := v.writable(); err != nil {
		return seal.ID{}, err
	}
	if !v.LedgerOn() {
		return seal.ID{}, ErrLedgerOff
	}
	id, err := seal.ParseUUID(u.ID)
	if err != nil {
		return id, fmt.Errorf("%w: %s", ErrNotFound, u.ID)
	}
	v.adopting.Lock()
	return id, nil
}

// adoptDeletion deletes what a client asked to delete; the next batch signs it.
func (v *Vault) adoptDeletion(id seal.ID, at string) error {
	f, err := v.rowOfID(id)
	if err != nil {
		return err
	}
	n, err := v.Find(at)
	if err != nil {
		return err
	}
	v.tree.RLock()
	same := f.state == serverAsked && n == v.liveNode(id)
	v.tree.RUnlock()
	if !same {
		return fmt.Errorf("%w: %s is another file now", ErrNotFound, at)
	}
	return v.Remove(at, false)
}

// adoptRow takes over a row, if it is still the one that was listed.
func (v *Vault) adoptRow(ctx context.Context, id seal.ID, version string) (at, done string, err error) {
	f, err := v.rowOfID(id)
	switch {
	case err != nil:
		return "", "", err
	case f.state != serverUnnamed:
		return "", "", fmt.Errorf("%w among what is unverified: %s", ErrNotFound, id.UUID())
	case version != "" && version != f.row.version():
		return "", "", errRowChanged
	}
	u := v.openRow(f.row)
	switch {
	case u.err != nil:
		return "", "", u.err
	case v.inTrash(id):
		at, err = v.RestoreTrash(id.UUID()) // taken over, and deleted before others heard of it
		return at, DoneRestored, err
	case u.row.Asset, u.kind() == KindFolder:
		at, err = v.adoptDirectory(ctx, &u)
		return at, DoneSigned, err
	case u.exact(v) && !v.blobNamed(u.row.Blob):
		at, err = v.adoptExact(ctx, &u)
		return at, DoneSigned, err
	}
	at, err = v.adoptAnew(ctx, &u)
	return at, DoneResealed, err
}

func (v *Vault) inTrash(id seal.ID) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	_, there := v.rows.byID.one[id]
	return there
}

// blobNamed says whether a row of ours has a blob: no two share one by somebody
// else's word.
func (v *Vault) blobNamed(blob seal.ID) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	_, named := v.rows.byBlob.one[blob]
	return named
}

// mtime is that of the file: the same on every device that takes the row over, so
// that two who do say the same.
func (u *unattested) mtime(now int64) int64 {
	if u.row.Created > 0 && u.row.Created <= now {
		return u.row.Created
	}
	return now
}
