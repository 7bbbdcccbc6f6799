package vaultcore

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
	"github.com/vaultdrive/vaultdrive/vaultcore/walvfs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// dbValue is one column as the driver gives or takes it.
type dbValue = driver.Value

// conn is one SQLite connection used by one goroutine at a time. The driver
// is called directly: database/sql would add a pool, locks and two
// allocations to every statement of a close.
type conn struct {
	c     *sqlite3.SQLiteConn
	stmts map[string]*sqlite3.SQLiteStmt
	args  []driver.NamedValue // of the statement being started
}

// openConn opens the database. readOnly never writes a byte; immutable also
// takes no lock and reads no log (for a disk that cannot be written). One that
// writes takes the database for this process, whose vault.lock says so already.
func openConn(path string, readOnly, immutable bool) (*conn, error) {
	vfs, err := walvfs.Name()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	q := url.Values{}
	q.Set("vfs", vfs)
	q.Set("_mutex", "no")
	q.Set("_busy_timeout", "10000")
	switch {
	case immutable:
		q.Set("mode", "ro")
		q.Set("immutable", "1")
	case readOnly:
		q.Set("mode", "ro")
	default:
		q.Set("mode", "rw")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	dc, err := (&sqlite3.SQLiteDriver{}).Open(u.String())
	if err != nil {
		return nil, dbErr("open", err)
	}
	c := &conn{c: dc.(*sqlite3.SQLiteConn), stmts: make(map[string]*sqlite3.SQLiteStmt)}
	// temp_store: no temporary table may reach the disk in clear.
	if !readOnly && !immutable {
		// Log and index stay between sessions: their directory entries are
		// durable once, and a disk that became read-only can still be read.
		if err := c.c.SetFileControlInt("main", sqlite3.SQLITE_FCNTL_PERSIST_WAL, 1); err != nil {
			c.close()
			return nil, dbErr("open", err)
		}
	}
	pragmas := []string{"PRAGMA temp_store=MEMORY", "PRAGMA cache_size=-4096"}
	if !readOnly && !immutable {
		// NORMAL without automatic checkpoint: a commit is a write to the log
		// and nothing else; durability is the barrier's work.
		pragmas = append(pragmas, "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA wal_autocheckpoint=0", "PRAGMA secure_delete=OFF")
	}
	for _, p := range pragmas {
		// Not kept as a statement: one that gave a row stays in progress.
		if err := c.script(p); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *conn) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	c.stmts = nil
	return c.c.Close()
}

func (c *conn) prepare(sql string) (*sqlite3.SQLiteStmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	s, err := c.c.Prepare(sql)
	if err != nil {
		return nil, dbErr("prepare", err)
	}
	stmt := s.(*sqlite3.SQLiteStmt)
	c.stmts[sql] = stmt
	return stmt, nil
}

// named gives arguments the form the driver takes; it has copied them when
// the statement has begun.
func (c *conn) named(args []driver.Value) []driver.NamedValue {
	c.args = c.args[:0]
	for i, v := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.args
}

// exec runs a prepared statement.
func (c *conn) exec(sql string, args ...driver.Value) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	// A context that cannot be cancelled starts no goroutine.
	if _, err = s.ExecContext(context.Background(), c.named(args)); err != nil {
		return dbErr("exec", err)
	}
	return nil
}

// script runs several statements once, without keeping them.
func (c *conn) script(sql string) error {
	if _, err := c.c.ExecContext(context.Background(), sql, nil); err != nil {
		return dbErr("script", err)
	}
	return nil
}

// query calls fn with each row; the slice is reused, blobs are copies.
func (c *conn) query(sql string, fn func([]driver.Value) error, args ...driver.Value) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), c.named(args))
	if err != nil {
		return dbErr("query", err)
	}
	defer rows.Close()
	dest := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(dest); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return dbErr("read", err)
		}
		if err := fn(dest); err != nil {
			return err
		}
	}
}

// one gives the single value of a query, nil if there is no row.
func (c *conn) one(sql string, args ...driver.Value) (v driver.Value, err error) {
	err = c.query(sql, func(r []driver.Value) error { v = r[0]; return nil }, args...)
	return v, err
}

// dbErr maps what SQLite says to the vocabulary of this package.
func dbErr(what string, err error) error {
	var se sqlite3.Error
	if errors.As(err, &se) {
		switch se.Code {
		case sqlite3.ErrFull:
			return fmt.Errorf("%w: %s: %w", ErrNoSpace, what, err)
		case sqlite3.ErrIoErr:
			if se.SystemErrno == unix.ENOSPC || se.SystemErrno == unix.EDQUOT {
				return fmt.Errorf("%w: %s: %w", ErrNoSpace, what, err)
			}
		case sqlite3.ErrReadonly, sqlite3.ErrCantOpen:
			if se.SystemErrno == unix.EROFS {
				return fmt.Errorf("%w: %s: %w", ErrReadOnlyDisk, what, err)
			}
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrDatabase, what, err)
}

// migrationFiles gives the embedded migrations, numbered from 1.
func migrationFiles() ([]string, error) {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	sort.Strings(names)
	for i, n := range names {
		if num, err := strconv.Atoi(strings.SplitN(n, "_", 2)[0]); err != nil || num != i+1 {
			return nil, fmt.Errorf("migration %q is out of sequence", n)
		}
	}
	return names, nil
}

// schemaVersion reads user_version without writing anything.
func schemaVersion(c *conn) (int, error) {
	v, err := c.one("PRAGMA user_version")
	if err != nil {
		return 0, err
	}
	n, _ := v.(int64)
	return int(n), nil
}

// checkSchema refuses a database of a newer version before a byte is written.
func checkSchema(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	known, err := migrationFiles()
	if err != nil {
		return err
	}
	version, err := headerSchema(path)
	if err != nil {
		return err
	}
	if version > len(known) {
		return fmt.Errorf("%w: it has schema %d, this program knows %d", ErrNewerSchema, version, len(known))
	}
	return nil
}

// headerSchema reads user_version from the file's header (SQLite file format,
// offset 60), because opening a database in WAL mode may write beside it.
func headerSchema(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDatabase, err)
	}
	defer f.Close()
	var h [64]byte
	if _, err := io.ReadFull(f, h[:]); err != nil {
		return 0, fmt.Errorf("%w: %s is cut short", ErrDatabase, filepath.Base(path))
	}
	if string(h[:16]) != "SQLite format 3\x00" {
		return 0, fmt.Errorf("%w: %s is not one", ErrDatabase, filepath.Base(path))
	}
	return int(h[60])<<24 | int(h[61])<<16 | int(h[62])<<8 | int(h[63]), nil
}

// migrate brings the schema to the newest version, one transaction a step.
func migrate(c *conn) error {
	files, err := migrationFiles()
	if err != nil {
		return err
	}
	version, err := schemaVersion(c)
	if err != nil {
		return err
	}
	for i := version; i < len(files); i++ {
		text, err := migrations.ReadFile("migrations/" + files[i])
		if err != nil {
			return err
		}
		sql := "BEGIN IMMEDIATE;\n" + string(text) + fmt.Sprintf("\nPRAGMA user_version=%d;\nCOMMIT;", i+1)
		if err := c.script(sql); err != nil {
			return errors.Join(fmt.Errorf("migration %s: %w", files[i], err), c.script("ROLLBACK"))
		}
	}
	return nil
}

// initDB makes the database of a new vault; Create calls it.
func initDB(dir string, vault, device seal.ID) error {
	path := filepath.Join(dir, dbName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	c, err := openConn(path, false, false)
	if err != nil {
		return err
	}
	if err := migrate(c); err != nil {
		return errors.Join(err, c.close())
	}
	for k, val := range map[string][]byte{"vault": vault[:], "device": device[:]} {
		if err := c.exec("INSERT INTO meta(key,value) VALUES(?,?)", k, val); err != nil {
			return errors.Join(err, c.close())
		}
	}
	for k, val := range map[string]int64{"barrier": 0, "clean": 1, "rewrapped": 1} {
		if err := c.exec("INSERT INTO meta(key,value) VALUES(?,?)", k, val); err != nil {
			return errors.Join(err, c.close())
		}
	}
	if err := c.exec("INSERT INTO meta(key,value) VALUES('boot',?)", bootID()); err != nil {
		return errors.Join(err, c.close())
	}
	// Everything goes into the main file, so that Create can sync one file.
	if err := c.script("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return errors.Join(err, c.close())
	}
	return c.close()
}

const dbName = "vault.db"

// bootID names the running kernel's boot; a different one at unlock means
// that the page cache of the last session is gone.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
