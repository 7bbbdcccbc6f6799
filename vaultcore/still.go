package vaultcore

import (
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Still is a file whose bytes cannot change before End: whoever opens it for
// writing waits for that. The kernel layer hands bytes to the kernel under it
// that nobody has asked for, which must never be older than what a writer has
// written meanwhile. It is a value, so that taking one costs no memory.
//
// Between Still and End nothing may be waited for that could wait for a
// writer; readers wait for no Still.
type Still struct {
	store   *store
	gate    *sync.RWMutex
	content *content
	alone   bool
}

// stillGates is the number of gates. Files share them by inode number.
const stillGates = 64

func (v *Vault) gate(n *Node) *sync.RWMutex { return &v.gates[n.ino%stillGates] }

// AwaitStill returns once every Still of the file that began before has ended.
// The caller holds no lock.
func (v *Vault) AwaitStill(n *Node) {
	g := v.gate(n)
	g.Lock()
	g.Unlock() //nolint:staticcheck // all there is to do is to wait
}

// Still keeps an open file from being written until End. It never waits for
// a writer: false if there is one, if one is coming, if something written
// could not be committed yet, or if the file is empty or not open.
func (v *Vault) Still(n *Node) (Still, bool) {
	g := v.gate(n)
	if !g.TryRLock() {
		return Still{}, false
	}
	if c, alone := v.settledContent(n); c != nil {
		return Still{v.store, g, c, alone}, true
	}
	g.RUnlock()
	return Still{}, false
}

func (v *Vault) settledContent(n *Node) (c *content, alone bool) {
	v.tree.RLock()
	o := n.open.Load()
	quiet := o != nil && o.writers == 0
	alone = quiet && o.handles == 1
	v.tree.RUnlock()
	if !quiet {
		return nil, false
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.draft != nil {
		return nil, false
	}
	return o.content, alone
}

// Alone says that the file had one handle when it was made still, so that
// whoever holds it knows that nobody is reading.
func (s Still) Alone() bool { return s.alone }

// Small fills dst with all of the file, for a caller who has it open. It does
// so for a file that fits and whose sealed bytes are on this device. What
// keeps it from being read is not told: whoever reads it will hear.
func (s Still) Small(dst []byte) (n int, ok bool) {
	c := s.content
	if c.ref.size > int64(len(dst)) || c.place.Load() == placeElsewhere {
		return 0, false
	}
	dst = dst[:c.ref.size]
	if s.store.plain.peek(c, dst, 0) {
		return len(dst), true
	}
	buf, data, err := c.openWhole(s.store)
	if err != nil {
		return 0, false
	}
	copy(dst, data)
	s.store.bufs.putPlain(buf)
	return len(dst), true
}

// Warm decrypts a file of at most most bytes and keeps it in memory for a
// while, for a caller who has it open; false as for Small.
func (s Still) Warm(most int64) bool {
	c := s.content
	if c.ref.size > most || c.place.Load() == placeElsewhere {
		return false
	}
	return s.store.plain.readAt(s.store, c, nil, 0) == nil
}

// End lets writers come.
func (s Still) End() { s.gate.RUnlock() }

// Opened copies what is decrypted already around plaintext offset off, at most
// a chunk, into dst, and says how much that is and where it begins. It reads
// and decrypts nothing. dst has room for OpenedMax bytes.
func (s Still) Opened(dst []byte, off int64) (n int, at int64) {
	c := s.content
	if off < 0 || off >= c.ref.size {
		return 0, 0
	}
	at = off &^ (seal.ChunkSize - 1)
	dst = dst[:min(seal.ChunkSize, c.ref.size-at)]
	if !c.opened(s.store, dst, at) {
		return 0, 0
	}
	return len(dst), at
}

// OpenedMax is the most that Opened gives.
const OpenedMax = seal.ChunkSize

// opened copies the chunk at off, if it is in memory.
func (c *content) opened(s *store, dst []byte, off int64) bool {
	if c.whole() {
		return s.plain.peek(c, dst, off)
	}
	r := c.v4.Load()
	return r != nil && s.chunks.get(r.id, uint64(off/seal.ChunkSize), dst, 0)
}
