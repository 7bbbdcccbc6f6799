package metadb

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// Account is one vault's account.
type Account struct {
	ID       int64
	Vault    string
	DID      string
	Remote   string // 32 hex digits
	Plan     string
	Disabled bool
	Created  int64 // ms since 1970
	api.Quota
	Reserved, Trash, Log int64 // bytes
	Head                 int64 // of the feed
}

const accountColumns = "account,vault,did,remote,plan,disabled,created,quota,used,reserved,trash,log,head"

func (a *Account) dest(disabled *int64) []any {
	return []any{&a.ID, &a.Vault, &a.DID, &a.Remote, &a.Plan, disabled, &a.Created, &a.Limit, &a.Usage, &a.Reserved, &a.Trash, &a.Log, &a.Head}
}

func (a *Account) finish(disabled int64) {
	a.Disabled = disabled != 0
	a.Remaining = max(0, a.Limit-a.Usage-a.Reserved)
}

func (q *querier) account(where string, args ...any) (Account, error) {
	var a Account
	disabled := int64(0)
	dest := a.dest(&disabled)
	if err := q.settle(); err != nil {
		return a, err
	}
	err := q.one("SELECT "+accountColumns+" FROM accounts WHERE "+where, args, dest...)
	a.finish(disabled)
	return a, err
}

// AccountByVault finds the account of a vault. Error: ErrNotFound.
func (db *DB) AccountByVault(ctx context.Context, vault string) (a Account, err error) {
	err = db.view(ctx, everyone, func(q *querier) error { a, err = q.account("vault=$1", vault); return err })
	return a, err
}

// AccountByDID finds the account of an identity. Error: ErrNotFound.
func (db *DB) AccountByDID(ctx context.Context, did string) (a Account, err error) {
	err = db.view(ctx, everyone, func(q *querier) error { a, err = q.account("did=$1", did); return err })
	return a, err
}

// AccountByID reads an account anew. Error: ErrNotFound.
func (db *DB) AccountByID(ctx context.Context, id int64) (a Account, err error) {
	err = db.view(ctx, id, func(q *querier) error { a, err = q.account("account=$1", id); return err })
	return a, err
}

// Accounts lists all, by vault.
func (db *DB) Accounts(ctx context.Context) (out []Account, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		var a Account
		disabled := int64(0)
		return q.each("SELECT "+accountColumns+" FROM accounts ORDER BY vault", nil, func() error {
			a.finish(disabled)
			out = append(out, a)
			return nil
		}, a.dest(&disabled)...)
	})
	return out, err
}

// Registration makes an account.
type Registration struct {
	Header *api.ClearHeader // number 1
	Body   []byte           // its envelope
	Boot   string           // SHA-256 of the boot token, hex
	Remote string
	Plan   string
	Quota  int64
	Invite string // SHA-256 of the invitation, hex; "" where none is needed
}

// Register makes an account, or says that it is there with the same header
// already. Errors: api's seq_taken for a vault or identity that is registered
// otherwise, invite_invalid.
func (db *DB) Register(ctx context.Context, r Registration) (a Account, made bool, err error) {
	err = db.update(ctx, func(q *querier) error {
		made = false
		q.as(everyone) // it is not known yet whose vault and identity they are
		a, err = q.account("vault=$1 OR did=$2", r.Header.Vault, r.Header.DID)
		if err == nil {
			return q.registered(a, r)
		}
		if err != ErrNotFound {
			return err
		}
		if err := q.register(r); err != nil {
			return err
		}
		a, err = q.account("vault=$1", r.Header.Vault)
		made = true
		return err
	})
	return a, made, err
}

// registered says whether an account is what a registration would have made.
func (q *querier) registered(a Account, r Registration) error {
	var hash string
	err := q.one("SELECT hash FROM headers WHERE account=$1 AND seq=1", []any{a.ID}, &hash)
	if err != nil {
		return err
	}
	if a.Vault != r.Header.Vault || a.DID != r.Header.DID || hash != hex.EncodeToString(r.Header.Hash[:]) {
		return api.Errorf(api.CodeSeqTaken, "this vault or identity is registered already")
	}
	return nil
}

func (q *querier) register(r Registration) error {
	// Registrations come one after another: each takes the next number. Whoever
	// writes this row waits for the one before.
	if err := q.must("INSERT INTO settings(name,value) VALUES('registering','') ON CONFLICT(name) DO UPDATE SET value=excluded.value"); err != nil {
		return err
	}
	var id int64
	if err := q.one("SELECT coalesce(max(account),0)+1 FROM accounts", nil, &id); err != nil {
		return err
	}
	if r.Invite != "" {
		n, err := q.exec("UPDATE invites SET used_by=$1 WHERE code=$2 AND used_by IS NULL AND expires>$3", id, r.Invite, q.ms)
		if err != nil {
			return err
		}
		if n == 0 {
			return api.Errorf(api.CodeInviteInvalid, "the invitation is unknown, used or too old")
		}
	}
	err := q.must("INSERT INTO accounts(account,vault,did,remote,boot,plan,quota,created) VALUES($1,$2,$3,$4,$5,$6,$7,$8)",
		id, r.Header.Vault, r.Header.DID, r.Remote, r.Boot, r.Plan, r.Quota, q.ms)
	if err != nil {
		return err
	}
	if err := q.lock(id); err != nil {
		return err
	}
	_, err = q.putHeader(id, r.Header, r.Body)
	return err
}

// SetAccount changes what an operator may: nil leaves a setting.
func (db *DB) SetAccount(ctx context.Context, id int64, plan *string, quota *int64, disabled *bool) error {
	return db.update(ctx, func(q *querier) error {
		if err := q.lock(id); err != nil {
			return err
		}
		if plan != nil {
			if err := q.must("UPDATE accounts SET plan=$2 WHERE account=$1", id, *plan); err != nil {
				return err
			}
		}
		if quota != nil {
			if err := q.must("UPDATE accounts SET quota=$2 WHERE account=$1", id, *quota); err != nil {
				return err
			}
		}
		if disabled != nil {
			flag := map[bool]int64{true: 1}[*disabled]
			if err := q.must("UPDATE accounts SET disabled=$2 WHERE account=$1", id, flag); err != nil {
				return err
			}
			return q.must("DELETE FROM sessions WHERE account=$1", id)
		}
		return nil
	})
}

// SetBoot replaces the hash of the boot token.
func (db *DB) SetBoot(ctx context.Context, id int64, boot string) error {
	return db.update(ctx, func(q *querier) error {
		q.as(id)
		return q.must("UPDATE accounts SET boot=$2 WHERE account=$1", id, boot)
	})
}

// Boot is the hash of the boot token.
func (db *DB) Boot(ctx context.Context, id int64) (boot string, err error) {
	err = db.view(ctx, id, func(q *querier) error {
		return q.one("SELECT boot FROM accounts WHERE account=$1", []any{id}, &boot)
	})
	return boot, err
}

// AddInvite keeps the hash of an invitation until expires, ms since 1970.
func (db *DB) AddInvite(ctx context.Context, code string, expires int64) error {
	return db.update(ctx, func(q *querier) error {
		return q.must("INSERT INTO invites(code,expires) VALUES($1,$2)", code, expires)
	})
}

// Setting reads a setting of the server, made by fresh the first time.
func (db *DB) Setting(ctx context.Context, name string, fresh func() string) (value string, err error) {
	err = db.update(ctx, func(q *querier) error {
		err := q.one("SELECT value FROM settings WHERE name=$1", []any{name}, &value)
		if err != ErrNotFound {
			return err
		}
		value = fresh()
		if err := q.must("INSERT INTO settings(name,value) VALUES($1,$2) ON CONFLICT(name) DO NOTHING", name, value); err != nil {
			return err
		}
		if err := q.one("SELECT value FROM settings WHERE name=$1", []any{name}, &value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
		return nil
	})
	return value, err
}
