package vaultcore

import (
	"errors"
	"math"
)

// ReadAt fills dst from off; it is short only at the end of the file. What is
// elsewhere is waited for as long as Limits.FetchWait says, with no lock held.
// Errors: ErrDamaged, never a part of what could not be authenticated;
// ErrTimeout when the content is not here and does not come.
func (v *Vault) ReadAt(n *Node, dst []byte, off int64) (int, error) {
	return v.ReadAtUntil(Caller{}, n, dst, off)
}

// ReadAtUntil is ReadAt for a caller that may not wait to the end. Further
// error: ErrInterrupted.
func (v *Vault) ReadAtUntil(who Caller, n *Node, dst []byte, off int64) (int, error) {
	got, err := v.tryRead(n, dst, off)
	if err == nil {
		return got, nil
	}
	if got, err = v.readAgain(err, who, n, dst, off); errors.Is(err, ErrDamaged) {
		v.tellDamaged(n)
	}
	return got, err
}

// tellDamaged raises an alarm about a file whose copy on this device cannot be read.
// What is wrong at the remote has its own.
func (v *Vault) tellDamaged(n *Node) {
	o := n.open.Load()
	if o == nil {
		return
	}
	o.mu.RLock()
	here := o.content != nil && o.content.place.Load() != placeElsewhere
	o.mu.RUnlock()
	if !here {
		return
	}
	v.tree.RLock()
	path := shownPath(n)
	v.tree.RUnlock()
	hint := "copy the file over it from a backup; `vaultdrive rescue` writes what can still be read"
	if v.LedgerOn() {
		hint = "`vaultdrive evict` of the file gives that copy up if the remote has the content, and reading fetches it from there; else copy the file over it from a backup"
	}
	v.alarm("damaged", path+": the copy on this device is damaged, and nothing of it was shown; "+hint)
}

func (v *Vault) readAgain(err error, who Caller, n *Node, dst []byte, off int64) (got int, _ error) {
	err = v.store.again(err, who, func() (err error) {
		got, err = v.tryRead(n, dst, off)
		return err
	})
	return got, err
}

// tryRead reads what is here. Error: *awayError for what is not.
func (v *Vault) tryRead(n *Node, dst []byte, off int64) (int, error) {
	o := n.open.Load()
	if o == nil {
		return 0, ErrInvalid
	}
	o.mu.RLock()
	if o.draft == nil {
		defer o.mu.RUnlock()
		if o.content == nil {
			if n.kind == KindFile && v.nodeDamaged(n) {
				return 0, ErrDamaged
			}
			return 0, nil
		}
		return o.content.readAt(v.store, dst, off)
	}
	o.mu.RUnlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.draft != nil {
		return o.draft.readAt(dst, off)
	}
	if o.content == nil {
		return 0, nil
	}
	return o.content.readAt(v.store, dst, off)
}

// Prepare makes the content of an open file ready for its first read: file and
// key are opened, and what is authenticated as a whole is decrypted. It fetches
// nothing. What goes wrong is not told; whoever reads the file will hear.
func (v *Vault) Prepare(n *Node) {
	o := n.open.Load()
	if o == nil {
		return
	}
	o.mu.RLock()
	c := o.content
	if o.draft != nil || c == nil || c.place.Load() == placeElsewhere {
		o.mu.RUnlock()
		return
	}
	c.acquire()
	o.mu.RUnlock()
	defer c.release()
	if c.whole() {
		_ = v.store.plain.readAt(v.store, c, nil, 0)
		return
	}
	_ = c.readV4(v.store, nil, 0)
}

// WriteAt writes all of src at off into the file's draft. Errors: ErrNoSpace,
// ErrTooLarge, ErrQuota, ErrReadOnly; limits are told here because many programs do
// not look at what close says. ErrTimeout when the rest of a page that src fills
// in part is not here and does not come; then nothing of src was written.
func (v *Vault) WriteAt(n *Node, src []byte, off int64) (int, error) {
	return v.WriteAtUntil(Caller{}, n, src, off)
}

// WriteAtUntil is to WriteAt what ReadAtUntil is to ReadAt.
func (v *Vault) WriteAtUntil(who Caller, n *Node, src []byte, off int64) (int, error) {
	if err := v.writable(); err != nil {
		return 0, err
	}
	written, err := v.tryWrite(n, src, off)
	if err != nil {
		return v.writeAgain(err, who, n, src, off)
	}
	return written, nil
}

func (v *Vault) writeAgain(err error, who Caller, n *Node, src []byte, off int64) (written int, _ error) {
	err = v.store.again(err, who, func() (err error) {
		written, err = v.tryWrite(n, src, off)
		return err
	})
	return written, err
}

func (v *Vault) tryWrite(n *Node, src []byte, off int64) (int, error) {
	o := n.open.Load()
	if o == nil {
		return 0, ErrInvalid
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := v.fitsRemote(o, off+int64(len(src))); err != nil {
		return 0, err
	}
	v.beginDraft(o)
	if err := o.draft.writeAt(src, off); err != nil {
		v.dropIdleDraft(o)
		return 0, err
	}
	o.wrote, o.flushed = true, 0
	v.publishDraft(o)
	return len(src), nil
}

// beginDraft makes sure that the file has a draft; o.mu is held.
func (v *Vault) beginDraft(o *openState) {
	if o.draft != nil {
		return
	}
	var size int64
	if o.content != nil {
		size = o.content.ref.size
	}
	o.draft = v.store.newDraft(o.content, size)
}

// dropIdleDraft gives up a draft that holds no change.
func (v *Vault) dropIdleDraft(o *openState) {
	if !o.dirty() {
		o.draft.discard()
		o.draft = nil
	}
}

// publishDraft shows the draft's size and a new modification time.
func (v *Vault) publishDraft(o *openState) {
	size, now := o.draft.size(), v.nowNS()
	n := o.node
	v.tree.Lock()
	if n.flags&(flagUnlinked|flagTmp|flagOrphan) == 0 {
		v.counts.bytes += size - n.size // else it is not counted at all
	}
	n.size, n.mtime, n.ctime = size, now, now
	v.tree.Unlock()
}

// resize truncates or extends the file through its draft.
func (v *Vault) resize(who Caller, o *openState, size int64) error {
	try := func() error { return v.tryResize(o, size) }
	return v.store.again(try(), who, try)
}

func (v *Vault) tryResize(o *openState, size int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var have int64
	switch {
	case o.draft != nil:
		have = o.draft.size()
	case o.content != nil:
		have = o.content.ref.size
	}
	if have == size {
		return nil
	}
	if err := v.fitsRemote(o, size); err != nil {
		return err
	}
	if size == 0 && o.draft == nil {
		// Nothing of the old content is needed: no base, nothing to fetch.
		o.draft = v.store.newDraft(nil, 0)
	} else {
		v.beginDraft(o)
		if err := o.draft.truncate(size); err != nil {
			v.dropIdleDraft(o)
			return err
		}
	}
	o.cut, o.flushed = true, 0
	v.publishDraft(o)
	return nil
}

// Truncate sets the size of a file, open or not; growth reads as zeros and
// needs its space. Errors: ErrIsDir, ErrTooLarge, ErrQuota, ErrNoSpace, ErrReadOnly,
// ErrStale.
func (v *Vault) Truncate(n *Node, size int64) error { return v.truncate(Caller{}, n, size) }

func (v *Vault) truncate(who Caller, n *Node, size int64) error {
	if n.isDir() {
		return ErrIsDir
	}
	if n.kind != KindFile || size < 0 {
		return ErrInvalid
	}
	if err := v.writable(); err != nil {
		return err
	}
	o, err := v.openNamed(n, true)
	if err != nil {
		return err
	}
	v.AwaitStill(n)
	err = v.resize(who, o, size)
	if err == nil {
		// Nobody will close this handle and look at an error later.
		v.tree.RLock()
		alone := o.writers == 1
		v.tree.RUnlock()
		if alone {
			o.mu.Lock()
			err = v.commitOpen(o, true)
			o.mu.Unlock()
		}
	}
	v.Release(n, true)
	return err
}

// Allocate makes room as fallocate does: mode 0 extends, keepSize only
// checks. Errors: ErrNoSpace, ErrTooLarge, ErrQuota, ErrReadOnly.
func (v *Vault) Allocate(n *Node, off, length int64, keepSize bool) error {
	if err := v.writable(); err != nil {
		return err
	}
	o := n.open.Load()
	if o == nil || off < 0 || length <= 0 {
		return ErrInvalid
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if off <= math.MaxInt64-length {
		if err := v.fitsRemote(o, off+length); err != nil {
			return err
		}
	}
	v.beginDraft(o)
	before := o.draft.size()
	err := o.draft.allocate(off, length, keepSize)
	if err == nil && o.draft.size() != before {
		o.cut, o.flushed = true, 0
		v.publishDraft(o)
		return nil
	}
	v.dropIdleDraft(o)
	return err
}
