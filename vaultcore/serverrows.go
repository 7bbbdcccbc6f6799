package vaultcore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// ServerRow is what a server of ours says of an attachment, or of an asset, to
// clients that read no log. Everything in it but ids, sizes and numbers is
// ciphertext, and nothing in it is ever believed.
type ServerRow struct {
	ID    seal.ID
	Asset bool  // then Type, Name, Epoch and Deleted are all there is
	Type  uint8 // of the asset, or of the one that the attachment lies in: password 1, note 2, item 3

	Parent          seal.ID
	Name, MIME, Key []byte // IV ‖ ciphertext; Name is the title of an asset
	Version         uint8  // of the encryption
	Epoch           uint32 // of the key, or of the title; 0 if a client did not say
	Size, Len       int64  // bytes of plaintext, of the blob
	Blob            seal.ID
	SHA256          [32]byte

	Created int64 // when the server first had it, by its own word: ns since 1970; 0 if it does not say
	Number  int64 // the server's counter for the row, 0 for one it does not have
	Deleted bool  // then id, parent, type and number are all that counts
	Client  bool  // the last to write it was no device
}

// States of server_rows.
const (
	serverLive    = 1
	serverDeleted = 2
	serverAsked   = 3
	serverUnnamed = 4
	serverRefused = 5 // as 4, and to be deleted there
)

// rowKey names a row of the server.
type rowKey struct {
	asset bool
	id    seal.ID
}

func (k rowKey) kind() int64 { return b2i(k.asset) }

func (r *ServerRow) key() rowKey { return rowKey{r.Asset, r.ID} }

// NoteServerRows takes rows as the server gave them. They are compared with the
// log later, by ServerWork: when all that came with them has been applied.
func (v *Vault) NoteServerRows(ctx context.Context, rows []ServerRow) error {
	if len(rows) == 0 {
		return nil
	}
	if err := v.writable(); err != nil {
		return err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	var news []rowKey
	_, err = v.com.do(func(t *txn) error {
		news = news[:0]
		for i := range rows {
			fresh, err := t.noteServerRow(&rows[i])
			if err != nil {
				return err
			}
			if fresh {
				news = append(news, rows[i].key())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range news {
		l.rowsDue.add(k, dueSeen)
	}
	return nil
}

// noteServerRow stores a row; false for one that is known as it is.
func (t *txn) noteServerRow(r *ServerRow) (fresh bool, err error) {
	k := r.key()
	known, err := t.one("SELECT number FROM server_rows WHERE kind=? AND id=?", k.kind(), k.id[:])
	if n, ok := known.(int64); err != nil || ok && !k.asset && n == r.Number {
		return false, err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	return true, t.exec(`INSERT INTO server_rows(kind,id,number,state,row) VALUES(?,?,?,?,?)
		ON CONFLICT(kind,id) DO UPDATE SET number=excluded.number,state=excluded.state,row=excluded.row`,
		k.kind(), k.id[:], r.Number, int64(serverLive), raw)
}

// ServerRowsPut notes rows that the server has taken from us, with the numbers it
// gave them. What changed here meanwhile is found again by the next look.
func (v *Vault) ServerRowsPut(ctx context.Context, rows []ServerRow) error {
	if len(rows) == 0 {
		return nil
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, err = v.com.do(func(t *txn) error {
		for i := range rows {
			r := &rows[i]
			state := int64(serverLive)
			if r.Deleted {
				state = serverDeleted
			}
			k := r.key()
			if err := t.exec("INSERT OR REPLACE INTO server_rows(kind,id,number,state,print) VALUES(?,?,?,?,?)",
				k.kind(), k.id[:], r.Number, state, nilBytes(l.rowsDue.prints[k])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range rows {
		l.rowsDue.done(rows[i].key())
	}
	return nil
}

// ServerAssetsLost notes that the server does not know assets after all.
func (v *Vault) ServerAssetsLost(ctx context.Context, assets []seal.ID) error {
	if len(assets) == 0 {
		return nil
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, err = v.com.do(func(t *txn) error {
		for _, id := range assets {
			if err := t.exec("DELETE FROM server_rows WHERE kind=1 AND id=?", id[:]); err != nil {
				return err
			}
		}
		return nil
	})
	for _, id := range assets {
		l.rowsDue.add(rowKey{true, id}, dueMine)
	}
	return err
}

// ForgetServerRows forgets what the server was known to say, so that its whole
// feed is compared anew.
func (v *Vault) ForgetServerRows(ctx context.Context) error {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	_, err = v.com.do(func(t *txn) error { return t.exec("DELETE FROM server_rows") })
	l.rowsDue = dueRows{}
	return err
}

// knownRow is an entry of server_rows.
type knownRow struct {
	there  bool
	number int64
	state  int64
	print  []byte
	row    *ServerRow // not compared yet, or named by no record
}

func (l *ledger) knownRow(k rowKey) (e knownRow, err error) {
	var raw []byte
	err = l.read("SELECT number,state,print,row FROM server_rows WHERE kind=? AND id=?", func(s *rowScanner) {
		e.there, e.number, e.state, e.print, raw = true, s.num(), s.num(), s.blob(), s.blob()
	}, k.kind(), k.id[:])
	if err != nil || raw == nil {
		return e, err
	}
	e.row = &ServerRow{}
	if json.Unmarshal(raw, e.row) != nil || e.row.key() != k {
		e.row = &ServerRow{ID: k.id, Asset: k.asset, Number: e.number} // whatever it says, it is not what the log says
	}
	return e, nil
}

// store keeps what a comparison found.
func (t *txn) store(k rowKey, e *knownRow) error {
	var raw []byte
	if e.row != nil {
		var err error
		if raw, err = json.Marshal(e.row); err != nil {
			return err
		}
	}
	return t.exec("UPDATE server_rows SET state=?,print=?,row=? WHERE kind=? AND id=?", e.state, nilBytes(e.print), nilBytes(raw), k.kind(), k.id[:])
}

// RowFault is a row of the server that does not say what the log says. What the
// log says stays in use.
type RowFault struct {
	// Asked: a client without the log asked to delete the file. The log has no
	// such thing, so it is there as before.
	Asked bool
	// Altered: no device can have written it. Else it may be an older state that a
	// device left behind.
	Altered bool
	What    string // what differs
	Path    string // of the file, or its id
}

func (f RowFault) String() string {
	if f.Asked {
		return "somebody asked the server to delete " + f.Path
	}
	return fmt.Sprintf("the server's row of %s differs from the log: %s", f.Path, f.What)
}

// errNoRow: the log says nothing that a row could say, at the moment.
var errNoRow = errors.New("no row to write")
