package vaultcore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const tableRemotes = "remotes"

// RemoteSettings are what this device keeps of its vault's remote. All of it is
// sealed on disk.
type RemoteSettings struct {
	URL    string          `json:"url"`
	Boot   string          `json:"boot,omitempty"`   // token of the vault's address, 32 hex digits
	ID     seal.ID         `json:"-"`                // the number in the remote's marker
	Shared bool            `json:"shared,omitempty"` // others used it before this device: contents may be there already
	Caps   json.RawMessage `json:"caps,omitempty"`   // as probed
	Access json.RawMessage `json:"access,omitempty"` // credentials, opaque; nothing for those from the environment

	Prefetch  string `json:"prefetch,omitempty"`   // all, pinned or none; "" is all
	UpLimit   int64  `json:"up_limit,omitempty"`   // bytes a second; 0: none
	DownLimit int64  `json:"down_limit,omitempty"` // bytes a second; 0: none
	Metered   bool   `json:"metered,omitempty"`
	CacheSize int64  `json:"cache_size,omitempty"` // bytes of contents on this device; 0: all
	Enabled   bool   `json:"enabled"`              // false: kept, but not used
}

// SetRemote makes r the vault's remote, the only one. Under another id than
// before, what is known of the old one is forgotten: nothing is there yet, so
// all our batches count as not pushed and no content as sent. Errors:
// ErrInvalid without an id, ErrLedgerOff, ErrReadOnly, those of the database.
func (v *Vault) SetRemote(ctx context.Context, r RemoteSettings) error {
	if err := v.writable(); err != nil {
		return err
	}
	if r.ID.IsZero() {
		return fmt.Errorf("%w: a remote without its id", ErrInvalid)
	}
	old, known, err := v.Remote(ctx)
	if err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	plain, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%w: settings of the remote: %w", ErrInvalid, err)
	}
	var a seal.RowAAD
	sealed := v.keys.local().SealRow(nil, plain, remoteAAD(&a, r.ID, "settings"))
	clear(plain)
	fresh := !known || old.ID != r.ID
	_, err = v.com.do(func(t *txn) error {
		if fresh {
			if err := errors.Join(v.forgetRemote(t), t.queueAll(l.peer(v.keys.deviceID()).head.Seq)); err != nil {
				return err
			}
		}
		return t.exec("INSERT INTO remotes(id,sealed) VALUES(?,?) ON CONFLICT(id) DO UPDATE SET sealed=excluded.sealed", r.ID[:], sealed)
	})
	if err != nil {
		return err
	}
	if l.remote = r.ID; !r.Enabled {
		v.far.Store(nil)
	}
	if fresh {
		v.far.Store(nil)
		clear(l.sent)
		l.rowsDue = dueRows{}
	}
	return v.Barrier(ctx)
}

// forgetRemote makes the vault one that no remote has heard of.
func (v *Vault) forgetRemote(t *txn) error {
	device := v.keys.deviceID()
	for _, sql := range []string{"DELETE FROM remotes", "DELETE FROM blob_presence", "DELETE FROM transfer_jobs", "DELETE FROM server_rows"} {
		if err := t.exec(sql); err != nil {
			return err
		}
	}
	return t.exec("UPDATE batches SET state=? WHERE device=? AND state=?", int64(batchSealed), device[:], int64(batchPushed))
}

// Remote gives the vault's remote; false if it has none. Error: ErrDamaged for
// settings that cannot be authenticated, those of the database.
func (v *Vault) Remote(context.Context) (r RemoteSettings, ok bool, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return RemoteSettings{}, false, ErrClosed
	}
	err = v.reader.query("SELECT id,sealed FROM remotes LIMIT 1", func(c []dbValue) error {
		s := rowScanner{c: c}
		id, sealed := s.id(), s.blob()
		var a seal.RowAAD
		plain, err := v.keys.local().OpenRow(nil, sealed, remoteAAD(&a, id, "settings"))
		if err == nil {
			err = json.Unmarshal(plain, &r)
			clear(plain)
		}
		if err != nil {
			return fmt.Errorf("%w: settings of the remote: %w", ErrDamaged, err)
		}
		r.ID, ok = id, true
		return nil
	})
	return r, ok, err
}

// RemoveRemote forgets the vault's remote. What changes from now on waits as
// what changed before.
func (v *Vault) RemoveRemote(ctx context.Context) error {
	if err := v.writable(); err != nil {
		return err
	}
	v.far.Store(nil)
	_, err := v.com.do(func(t *txn) error { return t.exec("DELETE FROM remotes") })
	return err
}

// Cursor gives how far the remote's changes are applied; nil for not at all.
// One that cannot be authenticated is none: everything is reported again.
func (v *Vault) Cursor(context.Context) (cursor []byte, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT id,cursor FROM remotes LIMIT 1", func(c []dbValue) error {
		s := rowScanner{c: c}
		id, sealed := s.id(), s.blob()
		if sealed == nil {
			return nil
		}
		var a seal.RowAAD
		if plain, err := v.keys.local().OpenRow(nil, sealed, remoteAAD(&a, id, "cursor")); err == nil {
			cursor = plain
		}
		return nil
	})
	return cursor, err
}

// SetCursor keeps how far the changes of remote id are applied; what it covers
// must be in the database. For a remote that is not the vault's it does nothing.
func (v *Vault) SetCursor(_ context.Context, id seal.ID, cursor []byte) error {
	if err := v.writable(); err != nil {
		return err
	}
	var a seal.RowAAD
	sealed := v.keys.local().SealRow(nil, cursor, remoteAAD(&a, id, "cursor"))
	_, err := v.com.do(func(t *txn) error {
		return t.exec("UPDATE remotes SET cursor=? WHERE id=?", sealed, id[:])
	})
	return err
}

func remoteAAD(a *seal.RowAAD, id seal.ID, what string) []byte {
	a.Reset(tableRemotes)
	a.Bytes(id[:])
	a.Bytes([]byte(what))
	return a.Sum()
}
