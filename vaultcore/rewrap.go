package vaultcore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// rewrapBatch is how many rows share a transaction; the namespace is held
// that long (about 20 ms).
const rewrapBatch = 1000

// rewrapState says how far a change of password has come. mu lets one run
// at a time.
type rewrapState struct {
	mu       sync.Mutex
	progress atomic.Pointer[rewrapCount] // nil: nothing to do
}

// rewrapCount is shown by status.
type rewrapCount struct {
	Done  int `json:"done"`
	Total int `json:"total"`
}

// metaOwnEpoch is the last epoch begun here: wrapping all keys anew in it, and
// telling the others, is this device's part.
const metaOwnEpoch = "own_epoch"

// ChangePassword begins a new epoch under newPassword and wraps every file
// key anew; no content is touched. The header is the commit: from then on
// only the new password opens the vault, and if this stops half-way the rest
// is done at the next unlock. progress may be nil. A vault that is synced needs
// ProposePassword instead. Errors: ErrWrongPassword, seal.ErrWeakPassword,
// ErrReadOnly, ErrNewEpoch, ErrNeedsRemote, ErrUnlisted.
func (v *Vault) ChangePassword(ctx context.Context, oldPassword, newPassword []byte, p seal.KDFParams, progress func(done, total int)) error {
	return v.changePassword(ctx, withPassword(oldPassword), newPassword, p, progress)
}

func (v *Vault) changePassword(ctx context.Context, open opener, newPassword []byte, p seal.KDFParams, progress func(done, total int)) error {
	if err := errors.Join(v.writable(), v.syncable(), v.withoutRemote(ctx)); err != nil {
		return err
	}
	cut, err := v.headsForCut(ctx)
	if err != nil {
		return err
	}
	if err := changePassword(ctx, v.home, v.keys, open, newPassword, v.opt.KDF, p, cutAt(cut)); err != nil {
		return err
	}
	if err := errors.Join(v.recordNewHeader(), v.noteOwnEpoch()); err != nil {
		return err
	}
	v.event("password", "the password was changed")
	if err := v.afterEpoch(ctx); err != nil {
		return err
	}
	return v.rewrapRows(ctx, progress)
}

// withoutRemote refuses what a vault that is synced does together with its
// remote. One that came back from a backup may have a remote that has gone on: a
// header made here would be another history than the one there.
func (v *Vault) withoutRemote(ctx context.Context) error {
	r, known, err := v.Remote(ctx)
	switch {
	case err != nil:
		return err
	case known && r.Enabled:
		return ErrNeedsRemote
	}
	if _, listed, err := v.OwnDevice(); err != nil || !listed {
		return cmp.Or(err, ErrUnlisted)
	}
	return nil
}

func (v *Vault) noteOwnEpoch() error {
	_, err := v.com.do(func(t *txn) error { return t.setMeta(metaOwnEpoch, int64(v.keys.epoch())) })
	return err
}

// FinishRewrap wraps every key of an earlier epoch anew that is left: after a
// change of password here, and, once all that others have said is applied, what
// the device that changed it did not get to. progress may be nil.
func (v *Vault) FinishRewrap(ctx context.Context, progress func(done, total int)) error {
	if err := v.writable(); err != nil {
		return err
	}
	return v.rewrapRows(ctx, progress)
}

// CreateKit makes a recovery kit in place of an earlier one and gives the
// sheet to print. A vault that is synced needs ProposeKit instead.
func (v *Vault) CreateKit(ctx context.Context, password []byte) (sheet string, err error) {
	if err := errors.Join(v.writable(), v.syncable(), v.withoutRemote(ctx)); err != nil {
		return "", err
	}
	kit, err := createKit(ctx, v.home, v.keys, password, v.opt.KDF, "")
	if err != nil {
		return "", err
	}
	defer kit.Wipe()
	if err := v.recordNewHeader(); err != nil {
		return "", err
	}
	v.event("kit", "a recovery kit was made")
	return kit.Sheet(v.home.Label()), nil
}

// Enroll lets a device key open the vault without the password and gives
// that key. Unenroll takes it back.
func (v *Vault) Enroll() (seal.Key, error) {
	if err := v.writable(); err != nil {
		return seal.Key{}, err
	}
	return enrollDevice(v.home, v.keys)
}

// Unenroll removes the device slot.
func (v *Vault) Unenroll() error {
	if err := v.writable(); err != nil {
		return err
	}
	return unenrollDevice(v.home, v.keys)
}

// rewrapLoop finishes what an earlier session left of a password change. Of one
// made elsewhere only the keys that wait here are its part: the others
// come from the device that made it.
func (v *Vault) rewrapLoop() {
	own, err := v.metaNumber(metaOwnEpoch)
	switch {
	case err != nil:
	case v.LedgerOn() && own != int64(v.keys.epoch()):
		err = v.rewrapOwn()
	default:
		err = v.rewrapRows(v.ctx, nil)
	}
	if err != nil && v.ctx.Err() == nil {
		v.alarm("rewrap", "file keys are not all under the new password yet: "+err.Error())
	}
}

// rewrapTables: undo holds the same rows.
var rewrapTables = []string{"asset_attachments", "undo"}

// rewrapRows wraps every row of an older epoch anew. It is done when there is
// none left, so it can be stopped and begun at any time.
func (v *Vault) rewrapRows(ctx context.Context, progress func(done, total int)) error {
	v.rewrap.mu.Lock()
	defer v.rewrap.mu.Unlock()
	epoch := v.keys.epoch()
	if done, err := v.rewrappedTo(); err != nil || done == epoch {
		return err
	}
	total, err := v.rewrapLeft()
	if err != nil {
		return err
	}
	done := 0
	report := func(n int) {
		done += n
		v.rewrap.progress.Store(&rewrapCount{done, max(total, done)})
		if progress != nil {
			progress(done, max(total, done))
		}
	}
	report(0)
	if err := v.rewrapAssets(rowFilter{}, report); err != nil {
		return err
	}
	for _, table := range rewrapTables {
		if err := v.rewrapTable(ctx, table, rowFilter{}, report); err != nil {
			return err
		}
	}
	v.rewrap.progress.Store(nil)
	if _, err := v.com.do(func(t *txn) error { return t.setMeta("rewrapped", int64(epoch)) }); err != nil {
		return err
	}
	v.bar.commit()
	return nil
}

// rewrapOwn wraps the keys of what waits here anew, so that what others are told
// from now on is of the current epoch, and of what this device sealed in an
// earlier one after the cut, which nobody else knows of.
func (v *Vault) rewrapOwn() error {
	v.rewrap.mu.Lock()
	defer v.rewrap.mu.Unlock()
	device := v.keys.deviceID()
	only := rowFilter{" AND (dirty<>0 OR digest IN (SELECT digest FROM ops WHERE device=? AND seq>?))",
		[]dbValue{device[:], int64(v.keys.header().Cut[device].Seq)}}
	none := func(int) {}
	if err := v.rewrapAssets(only, none); err != nil {
		return err
	}
	return v.rewrapTable(v.ctx, tableAttachments, only, none)
}

// rowFilter narrows a rewrap to some of the rows.
type rowFilter struct {
	sql  string
	args []dbValue
}

func (v *Vault) rewrapTable(ctx context.Context, table string, only rowFilter, report func(int)) error {
	for after := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, last, err := v.rewrapSome(table, only, after)
		if err != nil || n == 0 {
			return err
		}
		after = last
		report(n)
	}
}

// rewrappedTo gives the epoch that all rows are known to have, so that an
// unlock need not look at each of them.
func (v *Vault) rewrappedTo() (uint32, error) {
	n, err := v.metaNumber("rewrapped")
	return uint32(n), err
}

func (v *Vault) metaNumber(key string) (int64, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return 0, ErrClosed
	}
	value, err := v.reader.one("SELECT value FROM meta WHERE key=?", key)
	n, _ := value.(int64)
	return n, err
}

func (v *Vault) rewrapLeft() (total int, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return 0, ErrClosed
	}
	for _, table := range append([]string{"assets"}, rewrapTables...) {
		n, err := v.reader.one("SELECT count(*) FROM "+table+" WHERE epoch<?", int64(v.keys.epoch()))
		if err != nil {
			return 0, err
		}
		total += int(n.(int64))
	}
	return total, nil
}

func (v *Vault) rewrapAssets(only rowFilter, report func(int)) error {
	v.ns.Lock()
	defer v.ns.Unlock()
	count := 0
	_, err := v.com.do(func(t *txn) error {
		count = 0
		var rows []*assetRow
		err := t.query("SELECT "+assetColumns+" FROM assets WHERE epoch<?"+only.sql, func(c []dbValue) error {
			r := &assetRow{}
			if err := scanAsset(c, r); err != nil {
				return err
			}
			rows = append(rows, r)
			return nil
		}, append([]dbValue{int64(v.keys.epoch())}, only.args...)...)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if v.openAsset(r) != nil {
				continue // damaged: left as it is, check names it
			}
			if err := v.sealTitle(r); err != nil {
				return err
			}
			if title, err := v.keys.openTitle(r.epoch, r.id, r.title); err != nil || title != r.f.title {
				return fmt.Errorf("%w: new title of asset %s does not open", ErrDamaged, r.id.UUID())
			}
			r.dirty |= dirtyWrap
			if err := t.updateAsset(r); err != nil {
				return err
			}
			count++
		}
		return nil
	})
	if err == nil {
		report(count)
	}
	return err
}

// rewrapSome wraps up to rewrapBatch rows behind number after. The columns
// but the wrapped key, its epoch and the sealed one that binds them stay.
func (v *Vault) rewrapSome(table string, only rowFilter, after int64) (n int, last int64, err error) {
	key := "n"
	if table == "undo" {
		key = "u"
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	_, err = v.com.do(func(t *txn) error {
		n, last = 0, after
		type item struct {
			k int64
			r *attRow
		}
		var items []item
		sql := "SELECT " + key + "," + attColumns + " FROM " + table + " WHERE epoch<? AND " + key + ">?" + only.sql + " ORDER BY " + key + " LIMIT ?"
		err := t.query(sql, func(c []dbValue) error {
			k, _ := c[0].(int64)
			r := &attRow{}
			if err := scanAtt(c[1:], r); err != nil {
				r = nil
			}
			items = append(items, item{k, r})
			return nil
		}, slices.Concat([]dbValue{int64(v.keys.epoch()), after}, only.args, []dbValue{int64(rewrapBatch)})...)
		if err != nil {
			return err
		}
		for _, it := range items {
			n, last = n+1, it.k
			if it.r == nil || v.openAtt(it.r) != nil {
				continue // damaged: left as it is, check names it
			}
			if err := v.rewrapOne(it.r); err != nil {
				return err
			}
			update := "UPDATE " + table + " SET epoch=?,wrapped_file_key=?,sealed=?,dirty=dirty|? WHERE " + key + "=?"
			dirty := int64(dirtyWrap)
			if it.r.f.scratch {
				dirty = 0
			}
			if err := t.exec(update, int64(it.r.epoch), it.r.wrapped, it.r.sealed, dirty, it.k); err != nil {
				return err
			}
		}
		return nil
	})
	return n, last, err
}

// rewrapOne makes a row's new wrap and opens it before anything is written:
// the old one is the only copy of the key until then.
func (v *Vault) rewrapOne(r *attRow) error {
	fk, err := v.keys.unwrap(r.epoch, r.wrapped)
	if err != nil {
		return fmt.Errorf("%w: key of attachment %s: %w", ErrDamaged, r.id.UUID(), err)
	}
	defer fk.Wipe()
	wrapped, epoch, err := v.keys.wrap(&fk)
	if err != nil {
		return err
	}
	again, err := v.keys.unwrap(epoch, wrapped)
	if err != nil || !again.Equal(&fk) {
		return fmt.Errorf("%w: new wrap of attachment %s does not open", ErrDamaged, r.id.UUID())
	}
	again.Wipe()
	if bytes.Equal(wrapped, r.wrapped) {
		return fmt.Errorf("%w: new wrap of attachment %s is the old one", ErrDamaged, r.id.UUID())
	}
	r.wrapped, r.epoch = wrapped, epoch
	v.sealAtt(r)
	return nil
}
