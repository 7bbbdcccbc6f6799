package vaultcore

import (
	"bytes"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
)

// commitNumbers gives the newest commit number any row carries and the
// highest one known to be durable.
func commitNumbers(c *conn) (last, durable uint64, err error) {
	v, err := c.one("SELECT value FROM meta WHERE key='barrier'")
	if err != nil {
		return 0, 0, err
	}
	n, _ := v.(int64)
	durable, last = uint64(n), uint64(n)
	for _, table := range []string{"assets", "asset_attachments", "doomed", "drafts", "undo"} {
		v, err := c.one("SELECT max(commit_no) FROM " + table)
		if err != nil {
			return 0, 0, err
		}
		if n, ok := v.(int64); ok {
			last = max(last, uint64(n))
		}
	}
	return last, durable, nil
}

// checkMeta holds the database against the files beside it: same vault, same
// device, no header older than one already accepted.
func (v *Vault) checkMeta(c *conn) error {
	for key, want := range map[string][]byte{"vault": idBytes(v.keys.vaultID()), "device": idBytes(v.keys.deviceID())} {
		got, err := c.one("SELECT value FROM meta WHERE key=?", key)
		if err != nil {
			return err
		}
		if b, _ := got.([]byte); !bytes.Equal(b, want) {
			return fmt.Errorf("%w: vault.db belongs to another %s", ErrForeignHeader, key)
		}
	}
	return v.recordHeader(c)
}

func idBytes(id [16]byte) []byte { return append([]byte(nil), id[:]...) }

// setMeta writes one value within t.
func (t *txn) setMeta(key string, value driver.Value) error {
	return t.exec("INSERT INTO meta(key,value) VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=excluded.value", key, value)
}

// lastSession tells whether the last opener ended cleanly, and whether the
// kernel has been started anew since.
func lastSession(c *conn) (clean, sameBoot bool, err error) {
	v, err := c.one("SELECT value FROM meta WHERE key='clean'")
	if err != nil {
		return false, false, err
	}
	n, _ := v.(int64)
	boot, err := c.one("SELECT value FROM meta WHERE key='boot'")
	if err != nil {
		return false, false, err
	}
	s, _ := boot.(string)
	return n == 1, s == bootID(), nil
}

// markOpen notes, with the first commit of the session and not before, that
// a session is under way: a vault that is only read writes nothing, and can
// be opened on a disk that has no room for a page.
func (v *Vault) markOpen() {
	v.com.begin = func(t *txn) error {
		return errors.Join(t.setMeta("clean", int64(0)), t.setMeta("boot", bootID()))
	}
}

// announce is markOpen's commit for a session whose first deed is a file: a
// kill before its row would leave the file in a vault that counts as clean,
// where nobody looks for it.
func (v *Vault) announce() error {
	if v.announced.Load() {
		return nil
	}
	if _, err := v.com.do(func(*txn) error { return nil }); err != nil {
		return err
	}
	v.announced.Store(true)
	return nil
}

// markClean notes, durably, that everything is behind the barrier.
func (v *Vault) markClean() error {
	if _, err := v.com.free(func(t *txn) error { return t.setMeta("clean", int64(1)) }); err != nil {
		return err
	}
	return v.bar.syncLog()
}

// openReadOnly opens the database for reading. On a disk that cannot be
// written SQLite needs the log to be empty; what a crash left in it can be
// read only where recovery can run.
func openReadOnly(path string) (*conn, error) {
	c, err := openConn(path, true, false)
	if err == nil {
		if _, err = schemaVersion(c); err == nil {
			if _, err = c.one("SELECT count(*) FROM meta"); err == nil {
				return c, nil
			}
		}
		c.close()
	}
	if fi, serr := os.Stat(path + "-wal"); serr == nil && fi.Size() > 0 {
		return nil, fmt.Errorf("%w: the last session did not end cleanly, and a disk that cannot be written cannot be recovered: %w", ErrReadOnlyDisk, err)
	}
	return openConn(path, true, true)
}
