package vaultcore

import (
	"fmt"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// attrDelay is how long a change of mode or times may stay in memory. rsync
// sends three per file; they cost one row.
const attrDelay = 100 * time.Millisecond

// attrQueue holds the nodes whose attributes wait to be written.
type attrQueue struct {
	mu    sync.Mutex
	nodes []*Node
	wake  chan struct{}
}

// SetAttr changes size, mode and times. Size goes through the file's draft;
// the rest is in memory at once and in the row within attrDelay. Errors:
// those of Truncate, ErrReadOnly, ErrStale.
func (v *Vault) SetAttr(n *Node, s SetAttr) (Attr, error) { return v.SetAttrUntil(Caller{}, n, s) }

// SetAttrUntil is SetAttr for a caller that may not wait to the end. Further
// error: ErrInterrupted; nothing has changed then.
func (v *Vault) SetAttrUntil(who Caller, n *Node, s SetAttr) (Attr, error) {
	if err := v.writable(); err != nil {
		return Attr{}, err
	}
	if s.Size != nil {
		if err := v.truncate(who, n, *s.Size); err != nil {
			return Attr{}, err
		}
	}
	if s.Mode == nil && s.Mtime == nil && s.Atime == nil {
		return v.Attr(n), nil
	}
	if n.kind == KindFolder && (s.Mode != nil || s.Mtime != nil) {
		if err := v.needFolderRow(n); err != nil {
			return Attr{}, err
		}
	}
	v.tree.Lock()
	if n.stale() {
		v.tree.Unlock()
		return Attr{}, ErrStale
	}
	if s.Mode != nil {
		n.mode = uint16(*s.Mode & 0o777)
	}
	if s.Mtime != nil {
		n.mtime = *s.Mtime
	}
	if s.Atime != nil {
		n.atime = *s.Atime
	}
	n.ctime = v.nowNS()
	a := n.attr()
	v.tree.Unlock()
	if s.Mode != nil || s.Mtime != nil {
		v.queueAttrs(n)
	}
	return a, nil
}

// queueAttrs has a node's mode and times written behind.
func (v *Vault) queueAttrs(n *Node) {
	v.tree.Lock()
	queue := n.kind != KindRoot && !n.has(flagUnlinked)
	if queue {
		n.set(flagAttrs, true)
		queue = !n.has(flagQueued)
		n.set(flagQueued, true)
	}
	v.tree.Unlock()
	if queue {
		v.attrs.add(n)
	}
}

func (q *attrQueue) add(n *Node) {
	q.mu.Lock()
	q.nodes = append(q.nodes, n)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *attrQueue) take() []*Node {
	q.mu.Lock()
	defer q.mu.Unlock()
	nodes := q.nodes
	q.nodes = nil
	return nodes
}

// attrLoop writes attributes behind, tries failed commits again, and makes those that
// close put off.
func (v *Vault) attrLoop() {
	retry := time.NewTicker(retryDraftsEvery)
	defer retry.Stop()
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-retry.C:
			v.retryDrafts()
			v.commitRested()
		case <-v.attrs.wake:
			select {
			case <-v.ctx.Done():
				return
			case <-time.After(attrDelay):
			}
			v.flushAttrs()
		}
	}
}

const attrBatch = 500

// flushAttrs writes what waits. What fails waits for the next round.
func (v *Vault) flushAttrs() {
	nodes := v.attrs.take()
	for len(nodes) > 0 {
		batch := nodes[:min(len(nodes), attrBatch)]
		nodes = nodes[len(batch):]
		if err := v.writeAttrs(batch); err != nil {
			v.log.Warn("attributes not written yet", "err", err)
			return
		}
	}
}

func (v *Vault) writeAttrs(batch []*Node) error {
	v.ns.RLock()
	defer v.ns.RUnlock()
	v.tree.Lock()
	var due []*Node
	for _, n := range batch {
		n.set(flagQueued, false)
		if n.has(flagAttrs) && n.n != 0 && !n.has(flagUnlinked) {
			due = append(due, n)
		}
	}
	v.tree.Unlock()
	if len(due) == 0 {
		return nil
	}
	no, err := v.com.do(func(t *txn) error {
		for _, n := range due {
			if err := v.putAttrs(t, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, n := range due {
			v.queueAttrs(n)
		}
		return err
	}
	v.tree.Lock()
	for _, n := range due {
		n.commitNo = max(n.commitNo, no)
		if !n.has(flagScratch) {
			n.dirty |= dirtyAttr
		}
	}
	v.tree.Unlock()
	v.bar.commit()
	return nil
}

// putAttrs rewrites one row with the attributes the tree has now. The rest
// comes from the row, since a content may have been committed meanwhile.
func (v *Vault) putAttrs(t *txn, n *Node) error {
	if n.kind == KindAsset {
		v.tree.Lock()
		n.set(flagAttrs, false)
		r := v.assetRowOf(n)
		v.tree.Unlock()
		r.dirty |= dirtyAttr
		if err := v.sealTitle(r); err != nil {
			return err
		}
		return t.updateAsset(r)
	}
	v.tree.RLock()
	row := n.n
	v.tree.RUnlock()
	r, err := t.attRow(row)
	if err != nil {
		return err
	}
	if err := v.openAtt(r); err != nil {
		return nil // damaged: left as it is, check names it
	}
	v.tree.Lock()
	n.set(flagAttrs, false)
	r.f.mode, r.f.mtime, r.f.ctime, r.f.xattrs = n.mode, n.mtime, n.ctime, n.xattrs
	v.tree.Unlock()
	if !r.f.scratch {
		r.dirty |= dirtyAttr
	}
	v.sealAtt(r)
	return t.updateAtt(r)
}

// attRow reads one row, its fresh content left out.
func (c *conn) attRow(n int64) (*attRow, error) {
	r := &attRow{}
	found := false
	err := c.query("SELECT "+attColumns+" FROM asset_attachments WHERE n=?", func(cols []dbValue) error {
		found = true
		return scanAtt(cols, r)
	}, n)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w: row %d", ErrNotFound, n)
	}
	return r, nil
}

// updateAtt writes everything of a row but its content's own columns. A row
// behind a barrier goes to undo first, also when its content stays: what
// replaces the content next must find it there.
func (t *txn) updateAtt(r *attRow) error {
	if r.commitNo <= t.undoMark {
		if err := t.exec(sqlKeepUndo, r.n); err != nil {
			return err
		}
	}
	return t.exec(sqlUpdateAtt, r.n, r.asset[:], int64(r.epoch), r.name, r.mime, r.wrapped, int64(r.dirty), r.deleted, int64(t.no), r.sealed)
}

// needFolderRow gives an implied folder a row of its own.
func (v *Vault) needFolderRow(n *Node) error {
	v.tree.RLock()
	has := n.n != 0
	v.tree.RUnlock()
	if has {
		return nil
	}
	v.ns.Lock()
	defer v.ns.Unlock()
	return v.folderRow(n, v.com.do)
}

// folderRow is needFolderRow with ns held.
func (v *Vault) folderRow(n *Node, commit commitFunc) error {
	sc, err := v.sealInline(nil)
	if err != nil {
		return err
	}
	defer sc.key.Wipe()
	v.tree.Lock()
	if n.n != 0 || n.has(flagUnlinked) {
		v.tree.Unlock()
		return nil
	}
	n.id = seal.NewID()
	r := v.rowOf(n)
	v.tree.Unlock()
	r.dirty = dirtyAttr | dirtyContent
	return v.insertRow(n, r, sc, commit)
}
