package vaultcore

import (
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// pendingChain is what is known of the header and not accepted. It is either
// the headers of others from the first of an epoch whose password has not been
// given here, or one header made here that the remote is not known to have. A
// chain is never changed; its successor takes its place.
type pendingChain struct {
	headers []*seal.SignedHeader // ascending; the first follows the accepted one
	own     bool
	vk      *seal.Key // of the last one's epoch, in the arena; nil while unknown
	// busy: the call that made it still waits for the remote's answer.
	busy bool
}

func (p *pendingChain) last() *seal.SignedHeader { return p.headers[len(p.headers)-1] }

// foreign says whether headers of others wait for their password.
func (p *pendingChain) foreign() bool { return p != nil && !p.own }

// find gives the header of that number, nil if it is none of the chain.
func (p *pendingChain) find(seq uint64) *seal.SignedHeader {
	if p == nil || seq < p.headers[0].Seq || seq > p.last().Seq {
		return nil
	}
	return p.headers[seq-p.headers[0].Seq]
}

// readDatabase takes from the database what unlocking needs: the newest header
// ever accepted, so that one of another vault, or an older one, is refused before
// the password is tried; those that wait; and the key file of a new identity.
func (c *Credentials) readDatabase(home *Home) error {
	conn, err := openReadOnly(home.Path(dbName))
	if err != nil {
		return err
	}
	return errors.Join(c.readFrom(conn, home), conn.close())
}

func (c *Credentials) readFrom(conn *conn, home *Home) (err error) {
	if c.Known, err = newestHeader(conn); err != nil {
		return err
	}
	key, err := conn.one("SELECT value FROM meta WHERE key=?", metaDeviceKey)
	if err != nil {
		return err
	}
	file, _ := key.([]byte)
	if err := adoptDeviceKey(home, file); err != nil {
		return err
	}
	if header, herr := home.ReadHeader(); herr == nil { // unlock says what is wrong with it
		c.pending, err = loadPending(conn, header)
	}
	return err
}

// loadPending reads what an earlier session left, as far as it follows the
// header on disk: what came in between was accepted, or lost its race.
func loadPending(c *conn, header *seal.SignedHeader) (*pendingChain, error) {
	there, err := c.one("SELECT 1 FROM sqlite_master WHERE name='pending_headers'")
	if err != nil || there == nil {
		return nil, err
	}
	p, last := &pendingChain{}, header
	err = c.query("SELECT payload,sig,own FROM pending_headers WHERE seq>? ORDER BY seq", func(r []dbValue) error {
		s := rowScanner{c: r}
		h, err := seal.ParseStored(s.blob(), s.blob())
		if err != nil {
			return fmt.Errorf("%w: recorded header: %w", ErrDamaged, err)
		}
		if h.VerifyNext(last) == nil {
			p.headers, p.own, last = append(p.headers, h), s.num() == 1, h
		}
		return nil
	}, int64(header.Seq))
	if err != nil || len(p.headers) == 0 {
		return nil, err
	}
	return p, nil
}

// setPending makes a chain the one that waits, durably; nil forgets it. The
// keyring's change is held.
func (v *Vault) setPending(p *pendingChain) error {
	_, err := v.com.do(func(t *txn) error {
		if err := t.exec("DELETE FROM pending_headers"); err != nil || p == nil {
			return err
		}
		own := int64(0)
		if p.own {
			own = 1
		}
		for _, h := range p.headers {
			if err := t.exec("INSERT INTO pending_headers(seq,payload,sig,own) VALUES(?,?,?,?)", int64(h.Seq), h.Payload, h.Sig[:], own); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.bar.commit()
	v.pending.Store(p)
	return nil
}

// recordHeader writes the rows of header.json and of what was pending before
// it (its rename was the commit), and refuses a header older than the table.
func (v *Vault) recordHeader(c *conn) error {
	h, err := v.home.ReadHeader()
	if err != nil {
		return err
	}
	known, err := newestHeader(c)
	if err != nil {
		return err
	}
	switch {
	case known != nil && known.Seq > h.Seq:
		return fmt.Errorf("%w: header.json is number %d, number %d was seen before", ErrRollback, h.Seq, known.Seq)
	case known != nil && known.Seq == h.Seq:
		if known.Hash() != h.Hash() {
			return fmt.Errorf("%w: two different headers have number %d", ErrRollback, h.Seq)
		}
		return nil
	case known != nil:
		if err := recordBetween(c, known, h); err != nil {
			return err
		}
	}
	if err := insertHeader(c, h); err != nil {
		return err
	}
	return c.exec("DELETE FROM pending_headers WHERE seq<=?", int64(h.Seq))
}

// recordBetween records the headers that lie between two, which were pending.
func recordBetween(c *conn, known, h *seal.SignedHeader) error {
	p, err := loadPending(c, known)
	if err != nil {
		return err
	}
	for seq := known.Seq + 1; seq < h.Seq; seq++ {
		between := p.find(seq)
		if between == nil {
			return nil // put there by hand; its own links are checked
		}
		if err := insertHeader(c, between); err != nil {
			return err
		}
	}
	return nil
}

func insertHeader(c *conn, h *seal.SignedHeader) error {
	return c.exec("INSERT INTO headers(seq,payload,sig) VALUES(?,?,?)", int64(h.Seq), h.Payload, h.Sig[:])
}

// newestHeader reads the newest header ever accepted, nil when there is none.
func newestHeader(c *conn) (*seal.SignedHeader, error) {
	var payload, sig []byte
	err := c.query("SELECT payload,sig FROM headers ORDER BY seq DESC LIMIT 1", func(r []dbValue) error {
		s := rowScanner{c: r}
		payload, sig = s.blob(), s.blob()
		return nil
	})
	if err != nil || payload == nil {
		return nil, err
	}
	h, err := seal.ParseStored(payload, sig)
	if err != nil {
		return nil, fmt.Errorf("%w: recorded header: %w", ErrDamaged, err)
	}
	return h, nil
}
