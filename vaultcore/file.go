package vaultcore

import (
	"context"
	"fmt"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// openState is the state of a file that somebody has open, shared by all its
// handles: one draft, whose size, times and bytes are what every handle and
// stat see. It lives from the first Open to the last Release, or until its
// draft is committed.
type openState struct {
	node *Node

	// mu guards the fields below. Readers of an undrafted file share it.
	mu      sync.RWMutex
	content *content // acquired; nil for an empty new file
	draft   *draft
	wrote   bool  // the draft holds written bytes
	cut     bool  // the draft was truncated or extended
	settled bool  // a content was committed since the file was opened last
	flushed int64 // when a close said that the draft is saved, which is kept only; 0: none did
	keeps   int   // how often the row of the draft was written
	// waits: what the draft stands on is elsewhere and is being fetched for it.
	waits bool

	// Guarded by Vault.tree.
	handles, writers int
}

func (o *openState) dirty() bool { return o.draft != nil && (o.wrote || o.cut) }

// Open counts a handle on a file; truncate empties it first, without
// fetching what it held. Nothing is read, unwrapped or opened here. Errors:
// ErrIsDir, ErrReadOnly, ErrNoSpace, ErrStale.
func (v *Vault) Open(n *Node, write, truncate bool) error {
	if n.isDir() {
		return ErrIsDir
	}
	if write || truncate {
		if err := v.writable(); err != nil {
			return err
		}
		if v.nodeDamaged(n) && n.lost() {
			return fmt.Errorf("%w: nothing is written over a damaged row", ErrDamaged)
		}
	}
	if !write && !truncate {
		return v.openRead(n)
	}
	o, err := v.openNamed(n, write)
	if err != nil {
		return err
	}
	v.AwaitStill(n)
	o.beginSave()
	if !truncate {
		return nil
	}
	if err = v.resize(Caller{}, o, 0); err != nil {
		v.Release(n, write)
	}
	return err
}

// beginSave has the next close commit, as the first since the file was opened does,
// whoever had it open before and has not let go of it yet.
func (o *openState) beginSave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.dirty() {
		o.settled = false
	}
}

// lockToOpen locks tree for the opening of a file. One that a change from elsewhere
// is taking out of the tree has left it then. The caller holds no lock.
func (v *Vault) lockToOpen(n *Node) {
	for {
		v.tree.Lock()
		if _, leaving := v.leaving[n]; !leaving {
			return
		}
		v.tree.Unlock()
		v.ns.RLock()
		v.ns.RUnlock() //nolint:staticcheck // all there is to do is to wait
	}
}

// openRead opens a file, also a deleted one, to be read. The content of one that was
// replaced goes with the next barrier. Error: ErrStale.
func (v *Vault) openRead(n *Node) error {
	v.lockToOpen(n)
	defer v.tree.Unlock()
	if n.stale() && v.buriedAs(n) == nil {
		return ErrStale
	}
	v.openLocked(n, false)
	return nil
}

// openNamed opens a file to be changed. One that somebody had looked up, and that a
// change from elsewhere took out of the tree before it was opened, has no place where a
// save could go to; who had it open before keeps it. Error: ErrStale.
func (v *Vault) openNamed(n *Node, write bool) (*openState, error) {
	v.lockToOpen(n)
	defer v.tree.Unlock()
	if n.stale() {
		return nil, ErrStale
	}
	return v.openLocked(n, write), nil
}

func (v *Vault) openNode(n *Node, write bool) *openState {
	v.tree.Lock()
	defer v.tree.Unlock()
	return v.openLocked(n, write)
}

// openLocked counts a handle; tree is held.
func (v *Vault) openLocked(n *Node, write bool) *openState {
	o := n.open.Load()
	if o == nil {
		o = &openState{node: n, content: n.content}
		if o.content != nil {
			o.content.acquire()
		}
		n.open.Store(o)
		v.opens[o] = struct{}{}
	}
	o.handles++
	if write {
		o.writers++
	}
	if n.content != nil {
		v.cache.opened(n.content, v.now)
	}
	return o
}

// Release gives a handle back. The last one that could write commits what a
// mapping wrote after the last Flush, and truncations. A failure keeps the
// draft and raises an event; it is tried again while the vault is open.
func (v *Vault) Release(n *Node, write bool) {
	o := n.open.Load()
	if o == nil {
		return
	}
	v.tree.Lock()
	o.handles--
	if write {
		o.writers--
	}
	last := o.writers == 0
	v.tree.Unlock()
	if last {
		o.mu.Lock()
		if err := v.commitOpen(o, true); err != nil {
			v.keepFailed(o, err)
		}
		o.mu.Unlock()
	}
	v.closeOpen(o)
}

// keepFailed keeps a draft that could not be committed for the next unlock,
// if the disk lets it, and tells the user; o.mu is held.
func (v *Vault) keepFailed(o *openState, err error) {
	if o.dirty() && !v.nameless(o.node) {
		if kerr := v.keepDraft(o, true); kerr != nil {
			v.log.Error("draft not kept", "err", kerr)
		}
	}
	v.raise("save-failed", o.node, err)
}

// closeOpen ends the open state once no handle and no draft needs it.
func (v *Vault) closeOpen(o *openState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v.tree.Lock()
	defer v.tree.Unlock()
	if o.handles > 0 || o.node.open.Load() != o {
		return
	}
	if o.node.has(flagUnlinked) || o.node.has(flagTmp) {
		v.dropDraft(o)
		if c := o.node.content; c != nil {
			o.node.size = c.ref.size // in the trash lies what was saved
		}
	}
	if o.draft != nil {
		return // its commit failed; retryDrafts goes on
	}
	o.node.open.Store(nil)
	delete(v.opens, o)
	if o.node.has(flagOrphan) {
		v.forgetOrphan(o.node)
	}
	if o.content != nil {
		o.content.release()
	}
}

// lost says that not even the row of a damaged file can be read.
func (n *Node) lost() bool { return n.n != 0 && n.content == nil }

func (v *Vault) nodeDamaged(n *Node) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	return n.has(flagDamaged)
}

// keepAbove: a file larger than this that is written again after a commit is
// only kept at Flush, because sealing it whole each time is quadratic.
const keepAbove = 32 << 10

// Flush is what close waits for. A clean file costs nothing, a new one gets
// its row, a written one is committed: sealed content in place and row in.
// Its error is close's error, and the draft stays for another try.
func (v *Vault) Flush(n *Node) error {
	o := n.open.Load()
	if o == nil || v.opt.ReadOnly {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.settled && o.wrote && o.draft.size() > keepAbove && !v.nameless(n) {
		err := v.keepDraft(o, false)
		if err == nil {
			o.flushed = v.nowNS()
		}
		return err
	}
	return v.commitOpen(o, false)
}

// commitFlushed commits what a close before a time has said is saved and only kept,
// since the file is, or was until just now, open elsewhere too: a child of a program
// that writes has it until it runs another one. Files larger than most stay.
func (v *Vault) commitFlushed(before, most int64) {
	for _, o := range v.openStates() {
		o.mu.Lock()
		if o.flushed != 0 && o.flushed <= before && o.dirty() && o.draft.size() <= most {
			if err := v.commitOpen(o, false); err != nil {
				v.log.Warn("a kept save is not committed yet", "id", o.node.id.UUID(), "err", err)
			}
		}
		o.mu.Unlock()
	}
}

// restedMost: nobody has asked, so those who have the file open must not notice.
const restedMost = 64 << 20

// commitRested commits for other devices what nobody has written to for a while since
// a close, however long somebody has it open. So that costs what it is sealed with once
// in that while, not with every close.
func (v *Vault) commitRested() {
	if v.LedgerOn() {
		v.commitFlushed(v.nowNS()-int64(retryDraftsEvery), restedMost)
	}
}

// uncommitted gives the files that a close has said are saved, with no content of that
// yet: kept ones, those that wait for the rest of theirs, and those that failed.
func (v *Vault) uncommitted() (ids []seal.ID) {
	for _, o := range v.openStates() {
		o.mu.RLock()
		if v.promised(o) {
			ids = append(ids, o.node.id)
		}
		o.mu.RUnlock()
	}
	return ids
}

// SavesWaiting counts the files that a close has said are saved and that are in no row
// yet. It waits for nobody: one that is just being worked on is not counted.
func (v *Vault) SavesWaiting() (count int) {
	for _, o := range v.openStates() {
		if !o.mu.TryRLock() {
			continue
		}
		if v.promised(o) {
			count++
		}
		o.mu.RUnlock()
	}
	return count
}

// promised says that a close has said the draft of o is saved, and other devices are
// to get it; o.mu is held.
func (v *Vault) promised(o *openState) bool {
	v.tree.RLock()
	idle, local := o.handles == 0, o.node.has(flagScratch)
	v.tree.RUnlock()
	return o.dirty() && !local && (idle || o.flushed != 0 || o.waits) && !v.nameless(o.node)
}

// nameless says that no name leads to the file (any more, or not yet).
func (v *Vault) nameless(n *Node) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	return n.has(flagUnlinked) || n.has(flagTmp)
}

// Fsync makes the dirty state durable without making a revision: the cost is
// the dirty bytes, never the file's size.
func (v *Vault) Fsync(n *Node) error {
	if v.opt.ReadOnly {
		return nil
	}
	o := n.open.Load()
	if o == nil {
		return v.Barrier(v.ctx)
	}
	o.mu.Lock()
	durable, err := v.fsyncOpen(o)
	draft, keeps := o.draft, o.keeps
	o.mu.Unlock()
	if err != nil || durable {
		return err
	}
	if err := v.Barrier(v.ctx); err != nil {
		return err
	}
	o.mu.Lock()
	if draft != nil && o.draft == draft && o.keeps == keeps {
		draft.recorded() // its row is durable: files of older ones may go
	}
	o.mu.Unlock()
	return nil
}

// fsyncOpen says whether the file is durable already, so that no barrier has
// to be waited for.
func (v *Vault) fsyncOpen(o *openState) (durable bool, err error) {
	v.tree.RLock()
	gone := o.node.has(flagUnlinked) || o.node.has(flagTmp)
	row, no, attrs := o.node.n != 0, o.node.commitNo, o.node.has(flagAttrs)
	v.tree.RUnlock()
	if gone {
		return true, nil // nobody can look it up after a crash
	}
	if o.dirty() {
		before, had := o.keeps, row && o.draft.kept()
		if err := v.keepDraft(o, true); err != nil {
			return false, err
		}
		return had && o.keeps == before && no <= v.com.durable.Load(), nil
	}
	if err := v.commitOpen(o, false); err != nil {
		return false, err
	}
	if attrs {
		v.flushAttrs()
		return false, nil
	}
	return row && no <= v.com.durable.Load(), nil
}

// CommitAll commits every draft, as the end of a session does first, and
// makes it durable.
func (v *Vault) CommitAll(ctx context.Context) error {
	if v.opt.ReadOnly {
		return nil
	}
	v.flushAttrs()
	var first error
	for _, o := range v.openStates() {
		o.mu.Lock()
		err := v.commitOpen(o, true)
		if err != nil {
			v.keepFailed(o, err)
			if first == nil {
				first = err
			}
		}
		o.mu.Unlock()
		v.closeOpen(o)
	}
	if err := v.Barrier(ctx); first == nil {
		first = err
	}
	return first
}

func (v *Vault) openStates() []*openState {
	v.tree.RLock()
	defer v.tree.RUnlock()
	out := make([]*openState, 0, len(v.opens))
	for o := range v.opens {
		out = append(out, o)
	}
	return out
}
