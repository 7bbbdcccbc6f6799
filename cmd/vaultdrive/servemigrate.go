package main

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	vaultserver "github.com/vaultdrive/vaultdrive/remote/server"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/move"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// migrateCommand moves a server's data.
type migrateCommand struct {
	from, to                          serveStores
	skipDamaged, verify, undo, asJSON bool
}

func serveMigrateCLI(u *ui) *cli.Command {
	c := &migrateCommand{from: serveStores{ui: u}, to: serveStores{ui: u}}
	return &cli.Command{
		Name:  "migrate",
		Usage: "move a server's data, from SQLite and a directory to PostgreSQL and a bucket or any other way",
		Description: "End the server first. The source is named as for serve, the destination by --to-data, --to-database and --to-blobs.\n" +
			"Every blob is compared with its length and hash, every account's rows with what was written. Cut short, the same\n" +
			"command goes on. At the end the source is as it was, but marked, so that nobody starts it by mistake; --undo takes\n" +
			"the mark away. Start the server on the destination at the same address: devices and pages go on.",
		Flags: c.from.flags(
			blobsFlag(&c.from),
			&cli.StringFlag{Name: "to-data", Destination: &c.to.data, Usage: "`DIR` of the destination, for what --to-database and --to-blobs do not take"},
			&cli.StringFlag{Name: "to-database", Destination: &c.to.database, Usage: "postgres://… `URL`"},
			&cli.StringFlag{Name: "to-blobs", Destination: &c.to.blobs, Usage: "s3://BUCKET/PREFIX?… `URL`; that of the source: they stay there"},
			&cli.BoolFlag{Name: "skip-damaged", Destination: &c.skipDamaged, Usage: "leave out blobs that are missing or damaged; devices that hold them bring them again"},
			&cli.BoolFlag{Name: "verify", Destination: &c.verify, Usage: "read every blob back from the destination"},
			&cli.BoolFlag{Name: "undo", Destination: &c.undo, Usage: "take the mark of a move away from the source"},
			&cli.BoolFlag{Name: "json", Destination: &c.asJSON, Usage: "print JSON with a stable schema"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("serve migrate takes no operands")
			}
			if c.undo {
				return c.Undo(cx.Context)
			}
			return c.Run(cx.Context)
		},
	}
}

// Run moves.
func (c *migrateCommand) Run(ctx context.Context) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	from, closeFrom, err := c.from.place(ctx, true)
	if err != nil {
		return sided("source", err)
	}
	defer func() { err = errors.Join(err, closeFrom()) }()
	if err := from.DB.MayServe(ctx); err != nil {
		return sided("source", err)
	}
	to, closeTo, err := c.to.place(ctx, false)
	if err != nil {
		return sided("destination", err)
	}
	defer func() { err = errors.Join(err, closeTo()) }()
	blobs, accounts := c.from.ui.progress("blobs", true), c.from.ui.progress("accounts", false)
	report, err := move.Run(ctx, move.Options{From: from, To: to, Kept: c.kept(), SkipDamaged: c.skipDamaged, Verify: c.verify,
		Fresh: vaultserver.NewServerID, Now: time.Now, Blobs: blobs.set,
		Accounts: func(done, all int) { blobs.finish(); accounts.set(int64(done), int64(all)) }})
	blobs.finish()
	accounts.finish()
	switch {
	case errors.Is(err, blob.ErrUnavailable) && !errors.Is(err, blob.ErrNoStore), errors.Is(err, metadb.ErrUnavailable):
		return hinted(err, "run the same command again when it answers: it goes on")
	case errors.Is(err, metadb.ErrFull):
		return hinted(err, "make room on the database's disk and run it again: it goes on")
	case err != nil:
		return err
	}
	return c.show(report, to)
}

// kept: the blobs stay where they are.
func (c *migrateCommand) kept() bool { return c.to.blobs != "" && c.to.blobs == c.from.blobs }

func (c *migrateCommand) check() error {
	switch {
	case c.from.data == "" && (c.from.database == "" || c.from.blobs == ""):
		return usage("--data DIR names the server to move")
	case c.to.data == "" && c.to.database == "" && c.to.blobs == "":
		return usage("where to: --to-database and --to-blobs, or --to-data DIR")
	case c.to.data == "" && (c.to.database == "" || c.to.blobs == ""):
		return usage("--to-data DIR, for what --to-database and --to-blobs do not take")
	case c.to.data != "" && c.from.data != "" && sameDirectory(c.to.data, c.from.data):
		return usage("--to-data is the directory of the source: name another")
	case c.to.database != "" && c.to.database == c.from.database:
		return usage("--to-database is the database of the source: name another")
	}
	return nil
}

func sameDirectory(a, b string) bool {
	if one, err := os.Stat(a); err == nil {
		if other, err := os.Stat(b); err == nil {
			return os.SameFile(one, other)
		}
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

// Undo lets the source serve again.
func (c *migrateCommand) Undo(ctx context.Context) (err error) {
	if c.from.data == "" && c.from.database == "" {
		return usage("--data DIR names the server that was moved")
	}
	db, end, err := c.from.alone(ctx, true)
	if err != nil {
		return sided("source", err)
	}
	defer func() { err = errors.Join(err, end()) }()
	to, err := db.Unmove(ctx)
	if errors.Is(err, metadb.ErrNotFound) {
		c.from.ui.note("it was not moved: there is nothing to undo")
		return nil
	}
	if err != nil {
		return err
	}
	c.from.ui.warn("what was stored at %s since %s is not here: devices that have seen it will say that the server went back", to.Database, to.Time)
	c.from.ui.note("the server may be started here again; empty the destination before another move")
	return nil
}

// place opens database and blobs, and keeps everybody else away from them.
func (s *serveStores) place(ctx context.Context, source bool) (p move.Place, end func() error, err error) {
	db, endDB, err := s.alone(ctx, source)
	if err != nil {
		return p, nil, err
	}
	blobs, closeBlobs, err := s.openBlobs()
	if err != nil {
		return p, nil, errors.Join(err, endDB())
	}
	p = move.Place{DB: db, Blobs: blobs, Database: s.shownDatabase(), Store: s.blobs}
	if s.blobs == "" {
		p.Store = filepath.Join(s.data, "blobs")
	}
	return p, func() error { return errors.Join(closeBlobs(), endDB()) }, nil
}

// alone opens the database for this process alone. That of a source is there.
func (s *serveStores) alone(ctx context.Context, source bool) (db *metadb.DB, end func() error, err error) {
	if source {
		if err := s.there(); err != nil {
			return nil, nil, err
		}
	}
	unlock := func() error { return nil }
	if s.data != "" {
		lock, err := s.lock()
		if errors.Is(err, metadb.ErrInUse) {
			return nil, nil, err
		}
		if err != nil {
			return nil, nil, hinted(err, "end the server first: it must not change anything meanwhile")
		}
		moving, err := lockFile(filepath.Join(s.data, movingLock), unix.LOCK_EX)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fail(metadb.ErrInUse, "end serve account and serve invite first: nothing must change meanwhile", "%s: a command changes it", s.data)
		}
		if err != nil {
			return nil, nil, errors.Join(err, lock.Close())
		}
		unlock = func() error { return errors.Join(moving.Close(), lock.Close()) }
	}
	if db, err = s.openAny(ctx); err != nil {
		return nil, nil, errors.Join(err, unlock())
	}
	release, err := db.Hold(ctx, true)
	if err != nil {
		return nil, nil, errors.Join(hinted(err, "end every server on it first: nothing must change meanwhile"), db.Close(), unlock())
	}
	return db, func() error { release(); return errors.Join(db.Close(), unlock()) }, nil
}

// there says whether a server has its data at the place, so that a mistyped one is
// not taken for a server without accounts. Error: fs.ErrNotExist.
func (s *serveStores) there() error {
	if s.data == "" || s.database != "" {
		return nil
	}
	if _, err := os.Stat(s.metaFile()); err != nil {
		return fail(fs.ErrNotExist, "--data names the directory that vaultdrive serve was given", "%s: no server has its data there", s.data)
	}
	return nil
}

func (s *serveStores) metaFile() string { return filepath.Join(s.data, "meta.db") }

// shownDatabase is its address without user, password and settings.
func (s *serveStores) shownDatabase() string {
	if s.database == "" {
		return s.metaFile()
	}
	u, err := url.Parse(s.database)
	if err != nil {
		return "postgres"
	}
	return (&url.URL{Scheme: "postgres", Host: u.Host, Path: u.Path}).String()
}

// sided says which of the two is meant.
func sided(side string, err error) error {
	return &failure{cause: err, text: side + ": " + oneLine(err), hint: hintOf(err)}
}

// migrateView is what --json prints.
type migrateView struct {
	move.Report
	Database string `json:"database"`
	Store    string `json:"store"`
}

func (c *migrateCommand) show(r move.Report, to move.Place) error {
	u := c.from.ui
	for _, d := range r.Damaged {
		u.warn("%s was left out (%s): a device that holds it brings it again", d.Key, d.Reason)
	}
	if c.asJSON {
		return u.writeJSON(migrateView{r, to.Database, to.Store})
	}
	u.printf("%s with %d rows, %s of %s (%d of them now)\n", plural(r.Accounts, "account"), r.Rows, plural(int(r.Blobs), "blob"), humanSize(r.Bytes), r.CopiedBlobs)
	u.printf("database %s\nblobs    %s\n", to.Database, to.Store)
	u.note("start the server there, at the address it had; the source is kept, and no server starts on it")
	return nil
}
