package metadb

import (
	"context"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// Session is a login that holds.
type Session struct {
	Account int64
	Device  string // api.ZeroID: a page
	Expires int64  // ms since 1970
}

// UseNonce spends a nonce for good; false if it was spent before.
func (db *DB) UseNonce(ctx context.Context, nonce string, expires int64) (fresh bool, err error) {
	err = db.update(ctx, func(q *querier) error {
		n, err := q.exec("INSERT INTO nonces(nonce,expires) VALUES($1,$2) ON CONFLICT(nonce) DO NOTHING", nonce, expires)
		fresh = n == 1
		return err
	})
	return fresh, err
}

// AddSession keeps the hash of a token.
func (db *DB) AddSession(ctx context.Context, token string, s Session) error {
	return db.update(ctx, func(q *querier) error {
		q.as(s.Account)
		return q.must("INSERT INTO sessions(token,account,device,expires) VALUES($1,$2,$3,$4)", token, s.Account, s.Device, s.Expires)
	})
}

// Session finds the login of a token's hash, and whose it is. ErrNotFound: none,
// or too old.
func (db *DB) Session(ctx context.Context, token string) (s Session, a Account, err error) {
	err = db.view(ctx, everyone, func(q *querier) error {
		disabled := int64(0)
		err := q.one("SELECT device,expires,"+accountColumns+" FROM (SELECT account AS owner,device,expires FROM sessions WHERE token=$1 AND expires>$2) s"+
			" JOIN accounts ON account=s.owner", []any{token, q.ms}, append([]any{&s.Device, &s.Expires}, a.dest(&disabled)...)...)
		a.finish(disabled)
		s.Account = a.ID
		return err
	})
	return s, a, err
}

// DropSession ends one.
func (db *DB) DropSession(ctx context.Context, token string) error {
	return db.update(ctx, func(q *querier) error {
		q.as(everyone)
		return q.must("DELETE FROM sessions WHERE token=$1", token)
	})
}

// Device is an entry of the roster of an account's newest header.
type Device struct {
	PK      string // hex
	Revoked bool
}

// Device finds one. Error: ErrNotFound.
func (db *DB) Device(ctx context.Context, account int64, device string) (d Device, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		revoked := int64(0)
		err := q.one("SELECT pk,revoked FROM devices WHERE account=$1 AND device=$2", []any{account, device}, &d.PK, &revoked)
		d.Revoked = revoked != 0
		return err
	})
	return d, err
}

// ExpireLogins removes what is too old of nonces, sessions, invitations,
// pairings and remembered uploads.
func (db *DB) ExpireLogins(ctx context.Context) error {
	return db.update(ctx, func(q *querier) error {
		q.as(everyone)
		for _, table := range []string{"nonces", "sessions", "pairings", "idempotency"} {
			if err := q.must("DELETE FROM "+table+" WHERE expires<=$1", q.ms); err != nil {
				return err
			}
		}
		return q.must("DELETE FROM invites WHERE expires<=$1 AND used_by IS NULL", q.ms)
	})
}

// PutPair keeps a message of a pairing; the same again is fine. Error: api's
// other_bytes.
func (db *DB) PutPair(ctx context.Context, account int64, pair, side string, body []byte) error {
	return db.update(ctx, func(q *querier) error {
		q.as(account)
		if err := q.must("DELETE FROM pairings WHERE account=$1 AND expires<=$2", account, q.ms); err != nil {
			return err
		}
		var have []byte
		err := q.one("SELECT body FROM pairings WHERE account=$1 AND pair=$2 AND side=$3", []any{account, pair, side}, &have)
		if err == nil && string(have) == string(body) {
			return nil
		}
		if err == nil {
			return api.Errorf(api.CodeOtherBytes, "that message of the pairing is there already")
		}
		if err != ErrNotFound {
			return err
		}
		return q.must("INSERT INTO pairings(account,pair,side,body,expires) VALUES($1,$2,$3,$4,$5)",
			account, pair, side, body, q.ms+api.PairLife.Milliseconds())
	})
}

// Pair reads one. Error: ErrNotFound.
func (db *DB) Pair(ctx context.Context, account int64, pair, side string) (body []byte, err error) {
	err = db.view(ctx, account, func(q *querier) error {
		return q.one("SELECT body FROM pairings WHERE account=$1 AND pair=$2 AND side=$3 AND expires>$4", []any{account, pair, side, q.ms}, &body)
	})
	return body, err
}
