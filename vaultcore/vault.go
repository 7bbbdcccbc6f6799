// Package vaultcore is the local vault: the tree of assets and attachments,
// the reading and writing of their contents, the SQLite index of sealed
// records and the durability of every closed file. It knows nothing of the
// kernel, of HTTP, of the server, nor of when to sync.
package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/cache"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Options say how a vault is opened. Zero values are the defaults.
type Options struct {
	ReadOnly bool             // nothing is written, not even recovery
	KDF      KDF              // nil: in this process
	Log      *slog.Logger     // ids only; nil: discarded
	Now      func() time.Time // nil: time.Now
	Strict   bool             // close waits for the barrier (--durability strict)
	Scratch  []string         // patterns of local-only names; nil: the defaults
	Limits   Limits           // zero fields: the defaults

	// Marks knows of a later state of this device than an old copy of the
	// directory; nil: nobody does.
	Marks Marks

	// Overlay finds contents that lie elsewhere than in the vault's directory of
	// them, by the name they would have there; nil: there are none.
	Overlay func(name string) (blob.Section, bool)

	// Unlocking is called at the end of Close, when all is stored and no other process
	// can have opened the vault yet; nil: nothing is.
	Unlocking func()
}

// Vault is an open, unlocked vault. All methods are safe for concurrent use.
//
// Lock order: a gate, then openState.mu, then ns, then tree, then the
// committer's queue.
// tree is held for memory work only. ns is held, shared, from the making of
// a row until its transaction is in, and exclusively by every change of the
// namespace until its transaction is in: what fails there has changed
// nothing. No lock is held while change callbacks run.
type Vault struct {
	// Set at construction.
	home         *Home
	keys         *keyring
	opt          Options
	log          *slog.Logger
	now          func() time.Time
	store        *store
	com          *committer
	bar          *barrier
	fileKeys     *cache.FileKeys
	attachments  *blob.Dir
	scratchDir   *blob.Dir
	scratchNames []string
	root         *Node
	onCorrupt    atomic.Pointer[func(seal.ID)]
	nextRow      atomic.Int64

	shelf    *shelf
	adopting sync.Mutex // one thing at a time is taken over, or refused

	ns   sync.RWMutex
	tree sync.RWMutex

	// Guarded by tree.
	stored map[*Node]string
	// displaced are those shown under another name than the history gives them.
	displaced map[*Node]displaced
	trash     map[seal.ID]*trashItem
	// leaving are those whose content a change from elsewhere is dropping: they are
	// opened when it is through, and ns free, as what has the name then.
	leaving map[*Node]struct{}
	rows    rowIndex
	opens   map[*openState]struct{}
	counts  counts

	// gates are held, shared, by every Still; see there.
	gates [stillGates]sync.RWMutex

	// reader is the connection for contents in rows, check and rescue.
	readMu sync.Mutex
	reader *conn

	attrs    attrQueue
	fresh    freshQueue
	retired  retiredContents
	arrivals idLocks // of blobs that come in
	landings landings
	pins     pinSet
	cache    cacheKeeper
	// othersBusy says whether something else has work to do; nil: never.
	othersBusy atomic.Pointer[func() bool]
	// confirmer looks for contents on the remote; nil: nobody does.
	confirmer  atomic.Pointer[func(context.Context, []WantedBlob) ([]seal.ID, error)]
	oldFiles   oldFiles
	events     eventLog
	rewrap     rewrapState
	ledger     atomic.Pointer[ledgerSession] // nil while it is off
	pending    atomic.Pointer[pendingChain]  // headers that are not accepted; written under keys.change
	mark       markState
	clockAhead atomic.Int64              // ns that the true time is ahead of now
	moved      atomic.Bool               // the home has become another device; it has to be opened anew
	frozen     atomic.Bool               // two histories were seen: nothing is written until the user decides
	far        atomic.Pointer[farLimits] // what the remote takes; nil: not known

	changeMu sync.Mutex
	onChange func([]Change)

	wasClean    bool // the last session ended cleanly
	announced   atomic.Bool
	leftoversMu sync.Mutex
	leftovers   []string // files found at unlock and not looked at yet

	// Background work: owned by Open, waited for by Close.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
	closed    atomic.Bool
}

type counts struct {
	assets, files, folders int
	bytes                  int64
}

// Open unlocks the vault whose home is path, recovers what the last session
// left unfinished, and loads the tree. Errors: ErrNoVault, ErrInUse,
// ErrWrongPassword, ErrForeignHeader, ErrRollback, ErrNewerSchema,
// ErrDamaged, ErrReadOnlyDisk.
func Open(ctx context.Context, path string, c Credentials, o Options) (*Vault, error) {
	home, err := OpenHome(path, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	v, err := openVault(ctx, home, c, o)
	if err != nil {
		return nil, errors.Join(err, home.Close())
	}
	return v, nil
}

func openVault(ctx context.Context, home *Home, c Credentials, o Options) (_ *Vault, err error) {
	if err := checkSchema(home.Path(dbName)); err != nil {
		return nil, err
	}
	if o.KDF == nil {
		o.KDF = InProcessKDF
	}
	if err = c.readDatabase(home); err != nil {
		return nil, err
	}
	keys, err := unlock(ctx, home, c, o.KDF)
	if err != nil {
		return nil, err
	}
	v := newVault(home, keys, o)
	v.pending.Store(keys.pending)
	defer func() {
		if err != nil {
			v.release()
		}
	}()
	if err = v.openStores(); err != nil {
		return nil, err
	}
	if err = v.openIndex(); err != nil {
		return nil, err
	}
	if err = v.load(); err != nil {
		return nil, err
	}
	if err = v.loadPins(); err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if err = v.findLedger(); err != nil {
			return nil, err
		}
		if err = v.recover(ctx); err != nil {
			return nil, err
		}
		if err = v.resumeLedger(); err != nil {
			return nil, err
		}
		v.startBackground()
	}
	return v, nil
}

func newVault(home *Home, keys *keyring, o Options) *Vault {
	v := &Vault{
		home: home, keys: keys, opt: o, log: o.Log, now: o.Now,
		stored: make(map[*Node]string), displaced: make(map[*Node]displaced), trash: make(map[seal.ID]*trashItem), rows: newRowIndex(),
		opens: make(map[*openState]struct{}), scratchNames: o.Scratch,
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.scratchNames == nil {
		v.scratchNames = defaultScratch
	}
	v.retired.idle.L = &v.retired.mu
	v.fresh.init()
	v.attrs.wake = make(chan struct{}, 1)
	v.cache.init()
	v.ctx, v.cancel = context.WithCancel(context.Background())
	now := v.nowNS()
	v.root = &Node{kind: KindRoot, ino: 1, mode: 0o700, mtime: now, ctime: now, btime: now, dir: newDirEntries()}
	v.root.parent = v.root
	return v
}

func (v *Vault) nowNS() int64 { return v.now().UnixNano() }

// openStores opens the two directories of ciphertext and the engine on them.
func (v *Vault) openStores() (err error) {
	if v.attachments, err = blob.OpenDir(v.home.Path("attachments")); err != nil {
		return fmt.Errorf("%w: attachments: %w", ErrNoVault, err)
	}
	v.attachments.Overlay(v.opt.Overlay)
	if v.scratchDir, err = blob.OpenDir(v.home.Path("scratch")); err != nil {
		return fmt.Errorf("%w: scratch: %w", ErrNoVault, err)
	}
	limits := v.opt.Limits.withDefaults()
	v.fileKeys = cache.NewFileKeys(limits.FileKeys)
	v.store = newStore(storeConfig{
		vault: v.keys.vaultID(), attachments: v.attachments, scratch: v.scratchDir, keys: v.fileKeys,
		wrap: v.keys.wrap, unwrap: v.keys.unwrap, loadFresh: v.loadFresh, writeV4: v.keys.writeV4,
		onLowSpace: v.makeRoom, beforeFile: v.announce, limits: limits, log: v.log,
	})
	f := v.store.fetches
	v.shelf = newShelf(f)
	f.fits, f.named = v.cache.fits, v.stillNamed
	f.elsewhere = func(id seal.ID) bool {
		away, err := v.namedElsewhere(id)
		return err == nil && away
	}
	f.adopt, f.grown, f.closed, f.found, f.corrupt = v.adoptSparse, v.cache.look, v.dropDeadSparse, v.fetched, v.corrupt
	return nil
}

// openIndex opens the connections, brings the schema up to date and takes
// stock of the last session. In a read-only vault nothing is written.
func (v *Vault) openIndex() error {
	path := v.home.Path(dbName)
	if v.opt.ReadOnly {
		c, err := openReadOnly(path)
		if err != nil {
			return err
		}
		v.reader = c
		return nil
	}
	c, err := openConn(path, false, false)
	if err != nil {
		return err
	}
	if err := migrate(c); err != nil {
		return errors.Join(err, c.close())
	}
	last, durable, err := commitNumbers(c)
	if err != nil {
		return errors.Join(err, c.close())
	}
	v.com = newCommitter(c, last, durable)
	v.com.now = v.now
	if v.com.ballast, err = openBallast(v.home.Path(fileBallast), v.attachments.Free); err != nil {
		v.log.Warn("no room is set aside for deleting on a full disk", "err", err)
	}
	if v.reader, err = openConn(path, true, false); err != nil {
		return err
	}
	return v.checkMeta(c)
}

// release lets go of everything without committing anything; for an open
// that failed half-way and for the end of Close.
func (v *Vault) release() error {
	v.cancel()
	if v.store != nil {
		v.store.fetches.end() // before what its downloads stand on
	}
	var errs []error
	if v.bar != nil {
		errs = append(errs, v.bar.close())
	}
	if v.reader != nil {
		errs = append(errs, v.reader.close())
	}
	if v.com != nil {
		v.com.close()
		errs = append(errs, v.com.c.close(), v.com.ballast.close())
	}
	if v.store != nil {
		v.store.close()
	}
	for _, d := range []*blob.Dir{v.attachments, v.scratchDir} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	if v.fileKeys != nil {
		v.fileKeys.Purge()
	}
	v.keys.wipe()
	return errors.Join(errs...)
}

// Close commits what is still open, makes everything durable, wipes the keys
// and gives the vault free. It may be called twice. An error says what could
// not be made durable; the drafts concerned are kept for the next unlock.
func (v *Vault) Close(ctx context.Context) error {
	v.closeOnce.Do(func() { v.closeErr = v.shutdown(ctx) })
	return v.closeErr
}

func (v *Vault) shutdown(ctx context.Context) error {
	var errs []error
	if !v.opt.ReadOnly {
		errs = append(errs, v.CommitAll(ctx))
	}
	v.closed.Store(true)
	v.cancel()
	v.store.fetches.end()
	v.shelf.wipe()
	v.wg.Wait()
	v.stopLedger()
	if !v.opt.ReadOnly {
		v.settleForUnmount(ctx)
		err := errors.Join(v.removeLeftovers(), v.Barrier(ctx))
		if err == nil && !v.untouched() {
			err = v.markClean()
		}
		errs = append(errs, err)
	}
	errs = append(errs, v.release())
	if v.opt.Unlocking != nil {
		v.opt.Unlocking()
	}
	return errors.Join(append(errs, v.home.Close())...)
}

// ReadOnly says whether the vault was opened for reading only.
func (v *Vault) ReadOnly() bool { return v.opt.ReadOnly }

// Root is the directory of all assets.
func (v *Vault) Root() *Node { return v.root }

// ChangeKind says what changed.
type ChangeKind uint8

// What a change callback is told.
const (
	// ChangeEntry: Dir has Name now, has it no more, or it is another node.
	ChangeEntry ChangeKind = iota + 1
	// ChangeAttr: mode, times or size of Node.
	ChangeAttr
	// ChangeContent: the bytes of the same Node are others now.
	ChangeContent
	// ChangeRemovedDir: the directory Node, Name in Dir, is gone.
	ChangeRemovedDir
)

// Change is one change made beside the kernel.
type Change struct {
	Kind ChangeKind
	Dir  *Node
	Name string
	Node *Node
}

// OnChange sets the callback for changes that did not come through the node
// API. It is called after the new state is published and with no lock held.
func (v *Vault) OnChange(fn func([]Change)) {
	v.changeMu.Lock()
	v.onChange = fn
	v.changeMu.Unlock()
}

func (v *Vault) changed(c ...Change) {
	v.changeMu.Lock()
	fn := v.onChange
	v.changeMu.Unlock()
	if fn != nil && len(c) > 0 {
		fn(c)
	}
}

// writable is the first check of everything that writes.
func (v *Vault) writable() error {
	if v.opt.ReadOnly {
		return ErrReadOnly
	}
	if v.closed.Load() {
		return ErrClosed
	}
	if v.frozen.Load() {
		return fmt.Errorf("%w: %w", ErrReadOnly, seal.ErrFork)
	}
	return nil
}
