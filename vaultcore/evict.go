package vaultcore

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Evicted is what Evict has done.
type Evicted struct {
	Files int        `json:"files"`
	Bytes int64      `json:"bytes"` // of disk space that is free now, or is within a moment
	Kept  []KeptFile `json:"kept"`  // what stays on this device, and why
}

// KeptFile is a file that was not evicted.
type KeptFile struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Why a content stays.
const (
	whyPinned  = "pinned"
	whyOpen    = "open"
	whyChanged = "changed on this device and not published yet"
	whyUnsent  = "not confirmed on the remote yet"
	whyAsked   = "being transferred"
	whyNoFetch = "nothing could bring it back: synchronisation is not running"
	whyNoRoom  = "the disk has no room to note that it is elsewhere"
	whyDamaged = "damaged"
	whyTrash   = "its content is also in the trash"
	whyHeld    = "somebody asked the server to delete it; vaultdrive adopt settles that"
)

// evictee is a content that may go: all that names it.
type evictee struct {
	blob     seal.ID
	size     int64
	contents []*content
	node     *Node // a live one, for its path
	why      string
}

// Evict takes the contents of attachments, and of all that is in folders and
// assets, off this device; they are fetched again when they are read. A content
// stays unless this device itself has confirmed it on the remote, and while it
// is pinned, open, in the trash or being sent. That it is elsewhere is durable
// before its file is unlinked. Errors: ErrNotFound for an unknown id,
// ErrReadOnly, the disk's.
func (v *Vault) Evict(ctx context.Context, ids []seal.ID) (Evicted, error) {
	out := Evicted{Kept: []KeptFile{}}
	if err := v.writable(); err != nil {
		return out, err
	}
	if _, err := v.useLedger(ctx); err != nil {
		return out, err
	}
	// What a full disk cannot take out of its row stays there, and here.
	if _, err := v.settleDue(true); err != nil && !errors.Is(diskError(err), ErrNoSpace) {
		return out, err
	}
	blobs, err := v.blobsBelow(ids)
	if err != nil {
		return out, err
	}
	for id := range blobs {
		out.Bytes += v.dropSparse(id)
	}
	todo := v.evictees(blobs)
	err = v.evict(ctx, todo)
	for _, e := range todo {
		if e.why == "" {
			out.Files, out.Bytes = out.Files+1, out.Bytes+e.size
			continue
		}
		v.tree.RLock()
		out.Kept = append(out.Kept, KeptFile{ID: e.node.id.UUID(), Path: shownPath(e.node), Why: e.why})
		v.tree.RUnlock()
	}
	return out, err
}

// blobsBelow gives the contents of nodes and of all that is in them.
func (v *Vault) blobsBelow(ids []seal.ID) (map[seal.ID]bool, error) {
	blobs := make(map[seal.ID]bool)
	for _, id := range ids {
		n, err := v.nodeOf(id)
		if err != nil {
			return nil, err
		}
		v.tree.RLock()
		v.walk(n, func(n *Node) {
			if n.content != nil && n.kind != KindFolder {
				blobs[n.content.ref.blob] = true
			}
		})
		v.tree.RUnlock()
	}
	return blobs, nil
}

// evictees describes the contents among blobs that lie in files here.
func (v *Vault) evictees(blobs map[seal.ID]bool) (out []*evictee) {
	x := v.indexNodes(func(n *Node) bool {
		return n.content != nil && n.kind != KindFolder && blobs[n.content.ref.blob] && n.content.place.Load() == placeBin
	})
	held := v.heldFiles()
	v.tree.RLock()
	defer v.tree.RUnlock()
	for blob := range blobs {
		e := &evictee{blob: blob}
		for _, n := range x.byBlob[blob] {
			if e.add(v, n); held[n.id] && e.why == "" {
				e.why = whyHeld
			}
		}
		if e.node != nil {
			out = append(out, e)
		}
	}
	return out
}

// add takes a node into account; tree is held.
func (e *evictee) add(v *Vault, n *Node) {
	e.contents = append(e.contents, n.content)
	e.size = n.content.ref.sealedLen
	switch {
	case n.has(flagUnlinked):
		e.why = whyTrash
		return
	case v.pinned(n):
		e.why = whyPinned
	case n.open.Load() != nil || n.content.users() > 0 || !n.draftID.IsZero():
		e.why = whyOpen
	case n.has(flagDamaged):
		e.why = whyDamaged
	case n.dirty&dirtyContent != 0 || n.rev() == 0:
		e.why = whyChanged
	}
	e.node = n
}

// evict lets contents go that nothing keeps, and notes why others stay.
func (v *Vault) evict(ctx context.Context, todo []*evictee) error {
	back, err := v.comesBack(ctx)
	if err != nil {
		return err
	}
	if !back {
		for _, e := range todo {
			e.keep(whyNoFetch)
		}
		return nil
	}
	if err := v.confirm(ctx, todo); err != nil {
		return err
	}
	for most := len(todo); len(todo) > 0; {
		some := todo[:min(len(todo), most)]
		err := v.evictSome(ctx, some)
		if errors.Is(err, ErrNoSpace) && len(some) > 1 {
			most = (len(some) + 7) / 8
			continue
		}
		if err != nil {
			for _, e := range todo {
				e.keep(whyNoRoom)
			}
			return err
		}
		todo = todo[len(some):]
	}
	return nil
}

// evictSome lets contents go in one transaction, whose barrier unlinks them.
func (v *Vault) evictSome(ctx context.Context, todo []*evictee) error {
	no, err := v.evictRows(todo)
	if err != nil || no == 0 {
		return err
	}
	for _, e := range todo {
		if e.why != "" {
			continue
		}
		for _, c := range e.contents {
			c.place.CompareAndSwap(placeBin, placeElsewhere)
		}
		v.retired.addBlob(e.blob, no)
	}
	v.bar.commit()
	if err := v.Barrier(ctx); err != nil {
		return err
	}
	v.retired.wait()
	return nil
}

// OnConfirm sets what looks which of some contents are on the remote with their
// length. Without it only those are evicted that this device has sent or fetched
// itself.
func (v *Vault) OnConfirm(fn func(ctx context.Context, blobs []WantedBlob) (there []seal.ID, err error)) {
	v.confirmer.Store(&fn)
}

// confirm has those contents looked for on the remote that this device knows to
// be there from others only. A remote that does not answer confirms nothing.
func (v *Vault) confirm(ctx context.Context, todo []*evictee) error {
	fn := v.confirmer.Load()
	if fn == nil {
		return nil
	}
	known, err := v.presentBlobs("state=2")
	if err != nil {
		return err
	}
	var ask []WantedBlob
	for _, e := range todo {
		if e.why == "" && !known[e.blob] {
			ask = append(ask, WantedBlob{Blob: e.blob, Len: e.size})
		}
	}
	for some := range slices.Chunk(ask, confirmBatch) {
		there, err := (*fn)(ctx, some)
		if err != nil {
			v.log.Info("contents not looked for on the remote", "err", err)
			return ctx.Err()
		}
		if len(there) == 0 {
			continue
		}
		if err := v.Found(ctx, there); err != nil && !errors.Is(err, ErrNoSpace) {
			return err
		}
	}
	return nil
}

// confirmBatch is how many contents are looked for at a time.
const confirmBatch = 256

// comesBack says whether something would bring a content back.
func (v *Vault) comesBack(ctx context.Context) (bool, error) {
	f := v.store.fetches
	if f.whole.Load() == nil && f.ranged.Load() == nil {
		return false, nil
	}
	r, ok, err := v.Remote(ctx)
	return ok && r.Enabled, err
}

func (e *evictee) keep(why string) {
	if e.why == "" {
		e.why = why
	}
}

// evictRows says in the rows of contents that they are elsewhere, and dooms
// their files. It gives 0 if none goes.
func (v *Vault) evictRows(todo []*evictee) (no uint64, err error) {
	v.ns.RLock()
	defer v.ns.RUnlock()
	some := false
	no, err = v.com.free(func(t *txn) error {
		some = false
		for _, e := range todo {
			if e.why != "" {
				continue
			}
			why, err := t.keeps(e.blob)
			if err != nil {
				return err
			}
			if why != "" {
				e.why = why
				continue
			}
			if err := t.evict(e.blob); err != nil {
				return err
			}
			some = true
		}
		return nil
	})
	if err != nil || !some {
		return 0, err
	}
	return no, nil
}

// keeps gives what the database has against evicting a content.
func (t *txn) keeps(blob seal.ID) (string, error) {
	for _, q := range []struct{ sql, why string }{
		{"SELECT 1 WHERE NOT EXISTS(SELECT 1 FROM blob_presence WHERE blob=? AND state=2)", whyUnsent},
		{"SELECT 1 FROM transfer_jobs WHERE blob=? AND up=1", whyAsked},
		{"SELECT 1 FROM asset_attachments WHERE blob=? AND deleted<>0 LIMIT 1", whyTrash},
		{"SELECT 1 FROM asset_attachments WHERE blob=? AND (dirty&2<>0 OR rev=0 OR sha256 IS NULL) LIMIT 1", whyChanged},
		// A draft may have been kept, or the content replaced, since it was looked at.
		{"SELECT 1 WHERE NOT EXISTS(SELECT 1 FROM asset_attachments WHERE blob=? AND place=1)", whyChanged},
	} {
		found, err := t.one(q.sql, blob[:])
		if err != nil || found != nil {
			return q.why, err
		}
	}
	return "", nil
}

func (t *txn) evict(blob seal.ID) error {
	for _, sql := range []string{
		"UPDATE asset_attachments SET place=0 WHERE blob=? AND place=1",
		"UPDATE undo SET place=0 WHERE blob=? AND place=1",
		"INSERT INTO evicted(blob) VALUES(?) ON CONFLICT(blob) DO NOTHING",
	} {
		if err := t.exec(sql, blob[:]); err != nil {
			return err
		}
	}
	return t.exec(sqlDoom, blob[:], int64(t.no))
}

// WorthFetching gives those of some wanted contents that are to be fetched ahead,
// those that must be here first, the pinned and held: not what was evicted
// otherwise, and no more than the cache has room for. With pinned it is those alone.
func (v *Vault) WorthFetching(wanted []WantedBlob, pinned bool) []WantedBlob {
	room := int64(math.MaxInt64)
	if u := v.CacheUse(); u.Limit > 0 {
		room = u.Limit - u.Bytes
	}
	var out []WantedBlob
	rest := 0
	for _, w := range wanted {
		if w.Pinned || w.Held {
			out, room = append(out, w), room-w.Len
		} else if !w.Evicted {
			rest++
		}
	}
	if pinned || rest == 0 {
		return out
	}
	out = slices.Grow(out, rest) // of a device that has just joined that is all
	for _, w := range wanted {
		if !w.Pinned && !w.Held && !w.Evicted && w.Len <= room {
			out, room = append(out, w), room-w.Len
		}
	}
	return out
}

func (l *ledger) evictedBlobs() (map[seal.ID]bool, error) {
	l.v.readMu.Lock()
	defer l.v.readMu.Unlock()
	if l.v.reader == nil {
		return nil, ErrClosed
	}
	out := make(map[seal.ID]bool)
	err := l.v.reader.query("SELECT blob FROM evicted", func(c []dbValue) error {
		s := rowScanner{c: c}
		out[s.id()] = true
		return nil
	})
	return out, err
}

// forgetEvicted drops the marks of contents that are here or that nothing names.
func (v *Vault) forgetEvicted() error {
	if v.opt.ReadOnly {
		return nil
	}
	v.readMu.Lock()
	if v.reader == nil {
		v.readMu.Unlock()
		return ErrClosed
	}
	const dead = "FROM evicted WHERE NOT EXISTS(SELECT 1 FROM asset_attachments a WHERE a.blob=evicted.blob AND a.place=0)"
	some, err := v.reader.one("SELECT 1 " + dead + " LIMIT 1")
	v.readMu.Unlock()
	if err != nil || some == nil {
		return err
	}
	_, err = v.com.do(func(t *txn) error { return t.exec("DELETE " + dead) })
	return err
}

// dropSparse removes what is here of a content that is elsewhere, unless it is
// in use. It gives the bytes that are free by that.
func (v *Vault) dropSparse(id seal.ID) int64 {
	f := v.store.fetches
	f.mu.Lock()
	defer f.mu.Unlock()
	bytes := f.sizeOf(id)
	if bytes == 0 || f.sparse[id] != nil {
		return 0
	}
	v.store.removeSparse(id)
	return bytes
}
