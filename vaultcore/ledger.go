package vaultcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Failures of the ledger. Those of a chain stop that chain, and the error names
// device and batch.
var (
	// ErrLedgerOff: synchronisation was never turned on for this vault.
	ErrLedgerOff = errors.New("synchronisation is off")
	// ErrUnknownDevice: a batch of a device that is not in the roster; a newer
	// header may know it.
	ErrUnknownDevice = errors.New("unknown device")
	// ErrStaleEpoch: a batch of an epoch its author had left, or of a revoked
	// device beyond its cut. It never counts.
	ErrStaleEpoch = errors.New("batch of an epoch that is over")
	// ErrNewEpoch: a batch or header of an epoch whose key is not here; the
	// new password has to be given once.
	ErrNewEpoch = errors.New("the password was changed on another device, or a device was revoked")
	// ErrRevoked: this device was shut out of the vault.
	ErrRevoked = errors.New("this device was revoked")
	// ErrClock: a batch not after its author's last, or far in the future.
	ErrClock = errors.New("clock of a device")
	// ErrWithheld: a batch names others that nobody has delivered.
	ErrWithheld = errors.New("batches are withheld")
	// ErrLocalRollback: others know batches of this device that it does not.
	ErrLocalRollback = errors.New("this vault was put back to an older state")
	// ErrFork: two histories of one device were seen. The vault is read-only
	// until the user decides.
	ErrFork = seal.ErrFork
	// ErrGap: batches in between are missing; they are fetched first.
	ErrGap = seal.ErrGap
)

// ledgerSession is the ledger of an open vault; it loads in the background.
type ledgerSession struct {
	ready chan struct{}
	l     *ledger // once ready is closed
	err   error
}

// ledger is what a vault keeps for synchronisation while it is open: the
// history of all accepted ops, and where every device's chain stands. It knows
// no network.
type ledger struct {
	v      *Vault
	signer *seal.DeviceSigner

	// mu is taken before every other lock of the vault and guards the rest.
	mu    sync.Mutex
	h     *history.History
	peers map[seal.ID]*peer
	held  map[seal.ID][]*heldBatch // verified and waiting, in order
	sent  map[seal.ID]bool         // blobs known to be on the remote
	// remote is the id of the vault's remote, zero for none: a content that was
	// sent to another one is not there.
	remote seal.ID
	// pending: contents neither here nor there.
	pending pendingSet
	// coming: contents that follow the log of a vault that is being rebuilt.
	coming map[seal.ID]bool
	clock  seal.HLC // the greatest own or accepted one
	lastOp int64
	bodies map[[32]byte]*seal.Body // of batches opened lately, by hash
	broken bool                    // memory is ahead of the database: load again
	late   bool                    // rows and tree lag behind until what changed here may be sealed

	rowsDue dueRows // rows of a server that have to be looked at

	strangers map[[32]byte]bool // frames of devices that no header names

	base   baseCheckpoint
	part   []seal.PlacedOp // of the base, opened last
	partNo int             // its number, 0 for none
	takes  int             // counts when ops were taken back, or dropped

	snapshots int // open ones: what they are made of stays

	patience int   // tries left at hashing a large content before an exclusive section
	turn     int64 // row up to which the last batch went, while more remain; 0: the next begins at the first
}

// peer is where a device's chain stands.
type peer struct {
	head  seal.Head
	epoch uint32
	hlc   seal.HLC
	seen  map[seal.ID]seal.Head // everything its batches have named
}

// Keys of meta.
const (
	metaLedger = "ledger"        // the name of this device, sealed; there when the ledger is on
	metaBehind = "ledger_behind" // what rows and tree lag behind
)

// Values of metaBehind; 0 and none: rows and tree are as the history says.
const (
	behindBatch      = 1 // a batch that is sealed
	behindRevoked    = 2 // a revocation
	behindCheckpoint = 3 // one that was loaded
)

// fallBehind says what rows and tree lag behind; what they lagged behind already
// and asks for more stays.
func (t *txn) fallBehind(what int64) error {
	return t.exec("INSERT INTO meta(key,value) VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=max(value,excluded.value)", metaBehind, what)
}

// EnableLedger turns the ledger on, for good; name is what other devices call
// this one. On an enabled vault it changes nothing. Errors: ErrReadOnly,
// ErrInvalid for an impossible name, those of the database.
func (v *Vault) EnableLedger(ctx context.Context, name string) error {
	if err := v.writable(); err != nil {
		return err
	}
	if v.ledger.Load() == nil {
		if name == "" || len(name) > seal.MaxDeviceName {
			return fmt.Errorf("%w: device name of %d bytes", ErrInvalid, len(name))
		}
		sealed := v.sealName(name)
		_, err := v.com.do(func(t *txn) error {
			if err := ledgerIndexes(t.conn); err != nil {
				return err
			}
			return t.setMeta(metaLedger, sealed)
		})
		if err != nil {
			return err
		}
		v.startLedger()
	}
	_, err := v.useLedger(ctx)
	return err
}

// ledgerIndexes makes the indexes that only the ledger needs. The partial ones
// are tiny while little waits to be sealed and most is here, which is why a
// vault without synchronisation, where everything waits, has none.
func ledgerIndexes(c *conn) error {
	for _, sql := range []string{
		"assets_dirty ON assets (n) WHERE dirty<>0",
		"asset_attachments_dirty ON asset_attachments (n) WHERE dirty<>0",
		"asset_attachments_away ON asset_attachments (n) WHERE place=0 AND deleted=0",
		"attachments_blob ON asset_attachments (blob)",
		"server_rows_open ON server_rows (state) WHERE state>2",
	} {
		if err := c.exec("CREATE INDEX IF NOT EXISTS " + sql); err != nil {
			return err
		}
	}
	return nil
}

// LedgerOn says whether synchronisation was turned on.
func (v *Vault) LedgerOn() bool { return v.ledger.Load() != nil }

// findLedger notes whether the ledger is on, before the first content can be
// replaced.
func (v *Vault) findLedger() error {
	on, err := v.com.c.one("SELECT 1 FROM meta WHERE key=?", metaLedger)
	if err != nil || on == nil {
		return err
	}
	v.com.synced.Store(true)
	return ledgerIndexes(v.com.c)
}

// resumeLedger starts the ledger of a vault where it is on. The barrier is at
// work already, so the committer's connection is not ours.
func (v *Vault) resumeLedger() error {
	v.readMu.Lock()
	fork, err := v.reader.one("SELECT 1 FROM alarms WHERE kind='fork'")
	v.readMu.Unlock()
	if err != nil {
		return err
	}
	v.frozen.Store(fork != nil)
	if v.com.synced.Load() {
		v.startLedger()
	}
	return nil
}

func (v *Vault) startLedger() {
	s := &ledgerSession{ready: make(chan struct{})}
	if !v.ledger.CompareAndSwap(nil, s) {
		return
	}
	v.com.synced.Store(true)
	v.recallMark()
	v.tree.Lock()
	v.rows.mapAll()
	v.tree.Unlock()
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		defer close(s.ready)
		l := &ledger{v: v, signer: v.keys.signer(), strangers: make(map[[32]byte]bool)}
		if s.err = l.reload(); s.err != nil {
			v.log.Error("ledger not loaded", "err", s.err)
		}
		s.l = l
	}()
}

// useLedger waits until the ledger is loaded. Errors: ErrLedgerOff, ErrClosed.
func (v *Vault) useLedger(ctx context.Context) (*ledger, error) {
	s := v.ledger.Load()
	if s == nil {
		return nil, ErrLedgerOff
	}
	select {
	case <-s.ready:
		return s.l, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-v.ctx.Done():
		return nil, ErrClosed
	}
}

// lockLedger gives the ledger, locked and whole. The caller unlocks mu.
func (v *Vault) lockLedger(ctx context.Context) (*ledger, error) {
	l, err := v.useLedger(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	if v.closed.Load() {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	if l.broken {
		if err := l.reload(); err != nil {
			l.mu.Unlock()
			return nil, err
		}
	}
	if l.late && v.sealable() == nil {
		if err := l.catchUp(); err != nil {
			l.mu.Unlock()
			return nil, err
		}
	}
	return l, nil
}

// stopLedger waits for who uses the ledger; nobody gets it any more.
func (v *Vault) stopLedger() {
	if s := v.ledger.Load(); s != nil {
		<-s.ready
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		if s.l.signer != nil {
			s.l.signer.Wipe()
		}
	}
}

// reload makes memory what the database says; mu is held, or nobody has l yet.
func (l *ledger) reload() error {
	if err := l.load(); err != nil {
		return err
	}
	if err := l.afterLoad(); err != nil {
		l.broken = true
		return err
	}
	return nil
}

// load builds the history from the database.
func (l *ledger) load() error {
	l.h = history.New()
	l.peers, l.held = make(map[seal.ID]*peer), make(map[seal.ID][]*heldBatch)
	l.sent, l.pending = make(map[seal.ID]bool), newPendingSet()
	l.bodies = make(map[[32]byte]*seal.Body)
	l.clock, l.lastOp, l.remote, l.rowsDue = 0, 0, seal.ID{}, dueRows{}
	l.late = false
	c, err := openConn(l.v.home.Path(dbName), true, false)
	if err != nil {
		return err
	}
	defer c.close()
	for _, step := range []func(*conn) error{l.loadBase, l.loadPeers, l.loadSent, l.loadOps} {
		if err := step(c); err != nil {
			return fmt.Errorf("load ledger: %w", err)
		}
	}
	l.broken = false
	return nil
}

func (l *ledger) loadPeers(c *conn) error {
	return c.query("SELECT device,seq,hash,epoch,hlc,seen FROM peers", func(cols []dbValue) error {
		s := rowScanner{c: cols}
		id, p := s.id(), &peer{}
		p.head.Seq = uint64(s.num())
		copy(p.head.Hash[:], s.blob())
		p.epoch, p.hlc = uint32(s.num()), seal.HLC(s.num())
		seen, err := decodeSeen(s.blob())
		if err != nil {
			return err
		}
		p.seen = seen
		l.peers[id] = p
		l.clock = max(l.clock, p.hlc)
		return nil
	})
}

func (l *ledger) loadSent(c *conn) error {
	err := c.query("SELECT id FROM remotes LIMIT 1", func(cols []dbValue) error {
		s := rowScanner{c: cols}
		l.remote = s.id()
		return nil
	})
	if err != nil {
		return err
	}
	return c.query("SELECT blob FROM blob_presence", func(cols []dbValue) error {
		s := rowScanner{c: cols}
		l.sent[s.id()] = true
		return nil
	})
}

func (l *ledger) loadOps(c *conn) error {
	var ops history.Ops
	count := 0
	err := c.query("SELECT n,device,seq,idx,kind,digest,sealed FROM ops ORDER BY n", func(cols []dbValue) error {
		s := rowScanner{c: cols}
		o := opRow{n: s.num(), device: s.id(), seq: uint64(s.num()), idx: int(s.num()), kind: opKind(s.num()), digest: s.blob()}
		if err := l.v.openOp(&o, s.blob()); err != nil {
			return err
		}
		l.lastOp = o.n
		o.addTo(&ops)
		if count++; count%512 == 0 {
			l.h.Add(ops)
			ops = history.Ops{}
		}
		return nil
	})
	l.h.Add(ops)
	return err
}

// afterLoad takes back what a revocation that came meanwhile has cut off, and
// puts right what a kill between a batch and its tree left.
func (l *ledger) afterLoad() error {
	l.notePending()
	if err := l.catchUp(); err != nil {
		return err
	}
	if err := l.revokeCut(); err != nil {
		return err
	}
	return l.vouchOwn()
}

// catchUp brings rows and tree to what the history says where a kill came
// between a batch and them.
func (l *ledger) catchUp() error {
	v := l.v
	v.readMu.Lock()
	behind, err := v.reader.one("SELECT value FROM meta WHERE key=?", metaBehind)
	v.readMu.Unlock()
	how, _ := behind.(int64)
	if err != nil || how == 0 {
		l.late = l.late && err != nil
		return err
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	if err := l.sealFirst(&incoming{}); errors.Is(err, errStalled) {
		l.late = true
		return nil
	} else if err != nil {
		return err
	}
	changes, err := l.applyAll(how, nil)
	l.late = err != nil
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		v.changed(changes...)
	}()
	return err
}

// applyLater leaves rows and tree behind what the history says until what changed
// here may be sealed, be it after a restart.
func (l *ledger) applyLater(in *incoming) error {
	_, err := l.v.com.do(func(t *txn) error {
		return errors.Join(in.write(l, t), t.fallBehind(behindBatch))
	})
	if err == nil {
		l.late = true
		l.markSent(in.found, true)
	}
	return err
}

// peer gives the state of a device's chain, an empty one for a new device.
func (l *ledger) peer(id seal.ID) *peer {
	p := l.peers[id]
	if p == nil {
		p = &peer{seen: make(map[seal.ID]seal.Head)}
		l.peers[id] = p
	}
	return p
}

func (p *peer) clone() *peer {
	c := *p
	c.seen = maps.Clone(p.seen)
	return &c
}

func (t *txn) putPeer(id seal.ID, p *peer) error {
	return t.exec(`INSERT INTO peers(device,seq,hash,epoch,hlc,seen) VALUES(?,?,?,?,?,?)
		ON CONFLICT(device) DO UPDATE SET seq=excluded.seq,hash=excluded.hash,epoch=excluded.epoch,hlc=excluded.hlc,seen=excluded.seen`,
		id[:], int64(p.head.Seq), p.head.Hash[:], int64(p.epoch), int64(p.hlc), encodeSeen(p.seen))
}

// encodeSeen writes device ‖ u64 seq ‖ hash for each entry, by device.
func encodeSeen(seen map[seal.ID]seal.Head) []byte {
	b := make([]byte, 0, len(seen)*seenSize)
	ids := slices.SortedFunc(maps.Keys(seen), func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		b = append(b, id[:]...)
		b = binary.BigEndian.AppendUint64(b, seen[id].Seq)
		h := seen[id].Hash
		b = append(b, h[:]...)
	}
	return b
}

const seenSize = 16 + 8 + 32

func decodeSeen(b []byte) (map[seal.ID]seal.Head, error) {
	seen := make(map[seal.ID]seal.Head)
	if len(b)%seenSize != 0 {
		return nil, fmt.Errorf("%w: heads of a peer", ErrDamaged)
	}
	for ; len(b) > 0; b = b[seenSize:] {
		seen[seal.ID(b[:16])] = seal.Head{Seq: binary.BigEndian.Uint64(b[16:]), Hash: [32]byte(b[24:])}
	}
	return seen, nil
}

// signer signs as this device.
func (k *keyring) signer() *seal.DeviceSigner {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.dsk == nil {
		return nil
	}
	return seal.NewDeviceSigner(k.device, k.dsk)
}

// DeviceID is this device's id in the vault.
func (v *Vault) DeviceID() seal.ID { return v.keys.deviceID() }

// Roster lists the devices of the newest header.
func (v *Vault) Roster() []seal.Device { return slices.Clone(v.keys.header().Devices) }

// Heads gives the last applied batch of every device, our own last one too.
func (v *Vault) Heads(ctx context.Context) (map[seal.ID]seal.Head, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return l.headsOf(), nil
}

// State is the hash over all tips, for comparing devices and checkpoints.
func (v *Vault) State(ctx context.Context) ([32]byte, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return [32]byte{}, err
	}
	defer l.mu.Unlock()
	return l.state(nil), nil
}

// state is that of the batches that in says, nil for all.
func (l *ledger) state(in func(history.At) bool) [32]byte {
	return seal.State(slices.Collect(l.h.Tips(in)))
}
