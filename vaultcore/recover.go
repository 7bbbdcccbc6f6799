package vaultcore

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// recover brings the vault from where the last session left it to a state in
// which every closed file is there: after a power cut the rows above the
// barrier are verified, then drafts that a kill interrupted are committed,
// then, behind the mount, files that nothing names are removed.
func (v *Vault) recover(ctx context.Context) error {
	clean, sameBoot, err := lastSession(v.com.c)
	if err != nil {
		return err
	}
	v.wasClean = clean
	if !clean && !sameBoot {
		if err := v.verifyUnsynced(ctx); err != nil {
			return fmt.Errorf("recover after a power cut: %w", err)
		}
	}
	if !clean || !sameBoot {
		// Listed before anything new is made: what is on this list and has
		// no owner later is nobody's. A clean end with a power cut behind it
		// may have lost the last unlinks.
		if v.leftovers, err = v.listFiles(); err != nil {
			return err
		}
	}
	v.markOpen()
	if v.bar, err = newBarrier(v, v.home.Path(dbName)); err != nil {
		return err
	}
	v.wg.Add(1)
	go func() {
		defer v.wg.Done()
		v.bar.loop(v.ctx.Done())
	}()
	if !clean {
		v.bar.commit() // what the last session committed last is still due
	}
	if err := v.recoverDrafts(!clean && !sameBoot); err != nil || clean {
		return err
	}
	return v.publishEmpty()
}

// startBackground starts what runs beside an open vault.
func (v *Vault) startBackground() {
	for _, loop := range []func(){v.attrLoop, v.settleLoop, v.janitorLoop, v.rewrapLoop, v.cacheLoop} {
		v.wg.Add(1)
		go func() {
			defer v.wg.Done()
			loop()
		}()
	}
}

// verifyUnsynced checks every row above the barrier. One whose content did
// not reach the disk falls back to its draft, else to the row it replaced,
// else is kept as damaged.
func (v *Vault) verifyUnsynced(ctx context.Context) error {
	var rows []*attRow
	err := v.com.c.query("SELECT "+attColumns+" FROM asset_attachments WHERE commit_no>?", func(c []dbValue) error {
		r := &attRow{}
		if err := scanAtt(c, r); err != nil {
			return nil // shown as damaged by load
		}
		rows = append(rows, r)
		return nil
	}, int64(v.com.durable.Load()))
	if err != nil {
		return err
	}
	nodes := v.nodesByRow()
	for _, r := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := nodes[r.n]
		if n == nil || n.content == nil || r.place == placeElsewhere {
			continue
		}
		err := v.verifyContent(n.content)
		if err == nil {
			continue
		}
		if err := v.fallBack(r, n, err); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) verifyContent(c *content) error {
	c.acquire()
	defer c.release()
	return v.store.verify(c, true)
}

// nodesByRow indexes the attachments of the tree and the trash.
func (v *Vault) nodesByRow() map[int64]*Node {
	v.tree.RLock()
	defer v.tree.RUnlock()
	m := make(map[int64]*Node)
	v.walk(v.root, func(n *Node) {
		if n.kind > KindAsset && n.n != 0 {
			m[n.n] = n
		}
	})
	for _, t := range v.trash {
		if t.node.kind != KindAsset {
			m[t.node.n] = t.node
		}
	}
	return m
}

// walk calls fn with every node below and including n; tree is held.
func (v *Vault) walk(n *Node, fn func(*Node)) {
	fn(n)
	if n.dir == nil {
		return
	}
	for _, s := range n.dir.order {
		if s.node != nil {
			v.walk(s.node, fn)
		}
	}
}

// fallBack replaces a row whose content is bad.
func (v *Vault) fallBack(r *attRow, n *Node, cause error) error {
	draft, err := v.reviveDraftRow(r)
	if err != nil {
		return err
	}
	promised := draft != nil && !isLoose(draft.state)
	old, err := v.goodUndo(r.n)
	if err != nil {
		return err
	}
	v.tree.RLock()
	where := shownPath(n)
	v.tree.RUnlock()
	switch {
	case old != nil:
		if err := v.restoreUndo(old, n); err != nil {
			return err
		}
		if promised {
			v.event("power-cut", where+": its last revision had not reached the disk; what fsync promised is restored over the one before")
		} else {
			v.alarm("power-cut", where+": its last revision had not reached the disk; the one before is restored")
		}
	case promised:
		v.event("power-cut", where+": its last revision had not reached the disk; what fsync promised is restored")
	case draft != nil: // recoverDrafts sees whether it is whole
	default:
		v.lostContent(n, cause)
	}
	return nil
}

// lostContent shows a file as damaged of which nothing had reached the disk.
func (v *Vault) lostContent(n *Node, cause error) {
	v.tree.Lock()
	n.set(flagDamaged, true)
	where := shownPath(n)
	v.tree.Unlock()
	v.alarm("damaged", where+": its content had not reached the disk and nothing older is there: "+cause.Error())
}

// reviveDraftRow opens a draft again that the lost commit had made
// superfluous; recoverDrafts commits it. nil if there is none.
func (v *Vault) reviveDraftRow(r *attRow) (*draftRow, error) {
	drafts, err := v.draftRows()
	if err != nil {
		return nil, err
	}
	for _, d := range drafts {
		if d.att != r.id {
			continue
		}
		if d.commitNo == 0 {
			return &d, nil
		}
		_, err := v.com.do(func(t *txn) error {
			return t.exec("UPDATE drafts SET commit_no=0 WHERE id=?", d.id[:])
		})
		return &d, err
	}
	return nil, nil
}

// goodUndo finds the newest row in undo whose content is whole.
func (v *Vault) goodUndo(row int64) (*attRow, error) {
	var rows []*attRow
	err := v.com.c.query("SELECT "+attColumns+",fresh FROM undo WHERE n=? ORDER BY commit_no DESC", func(c []dbValue) error {
		r := &attRow{}
		if scanAtt(c, r) == nil {
			rows = append(rows, r)
		}
		return nil
	}, row)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if v.openAtt(r) != nil {
			continue
		}
		if r.place == placeElsewhere || v.verifyContent(v.store.newContent(r.ref(), r.place, r.n)) == nil {
			return r, nil
		}
	}
	return nil, nil
}

// restoreUndo puts an older row back, in the database and in the tree. The
// name stays the newer one's: only contents can be lost by a power cut.
func (v *Vault) restoreUndo(old *attRow, n *Node) error {
	v.tree.RLock()
	asset, name := v.storedName(n)
	old.f.scratch = n.has(flagScratch)
	v.tree.RUnlock()
	if asset != nil {
		old.asset = asset.id
	}
	old.f.name = name
	key, err := v.fileKeyOf(old)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if err := v.sealWire(old, &key); err != nil {
		return err
	}
	v.sealAtt(old)
	lost := n.content
	no, err := v.com.do(func(t *txn) error {
		if err := t.exec(sqlDoom, lost.ref.blob[:], int64(t.no)); err != nil {
			return err
		}
		return t.exec(sqlReplaceAtt, old.values(t.no)...)
	})
	if err != nil {
		return err
	}
	v.retired.revive(old.blob)
	v.retired.add(lost, no)
	v.tree.Lock()
	defer v.tree.Unlock()
	n.content = v.store.newContent(old.ref(), old.place, old.n)
	v.rows.set(n)
	v.counts.bytes += old.size - n.size
	n.size, n.mtime, n.mode, n.commitNo, n.dirty = old.size, old.f.mtime, old.f.mode, no, old.dirty
	return nil
}

// tips gives the digests a change is made on.
func (f *syncFields) tips() []byte {
	if f.base != nil {
		return f.base
	}
	return f.digest
}

// listFiles lists what lies in the two directories.
func (v *Vault) listFiles() ([]string, error) {
	var names []string
	for _, d := range []struct {
		prefix string
		list   func(func(string) bool) error
	}{
		{"", func(fn func(string) bool) error { return v.attachments.EachName(fn) }},
		{"scratch/", func(fn func(string) bool) error { return v.scratchDir.EachName(fn) }},
	} {
		if err := d.list(func(name string) bool {
			names = append(names, d.prefix+name)
			return true
		}); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// removeLeftovers removes what a kill left and nothing names. A session ends
// as clean only when this is through.
func (v *Vault) removeLeftovers() error {
	v.leftoversMu.Lock()
	defer v.leftoversMu.Unlock()
	if len(v.leftovers) == 0 {
		return nil
	}
	arriving := v.arriving()
	named, ended, err := v.namedFiles()
	if err != nil {
		return err
	}
	removed := 0
	for _, name := range v.leftovers {
		if no := ended[name]; no > 0 && !named[name] {
			v.oldFiles.add(no, []string{name})
			v.bar.commit()
			continue
		}
		if named[name] || arriving[name] || !ours(name) {
			continue
		}
		if err := v.removeListed(name); err != nil {
			return err
		}
		removed++
	}
	v.leftovers = nil
	if removed > 0 {
		v.log.Info("leftovers of the last session removed", "count", removed)
	}
	return nil
}

// ours tells our own kinds of file from what somebody else put there.
func ours(name string) bool {
	base, ok := strings.CutPrefix(name, "scratch/")
	ext := path.Ext(base)
	id := strings.TrimSuffix(base, ext)
	if _, err := seal.ParseHex(id); err != nil {
		return false
	}
	if ok {
		return ext == ".tmp"
	}
	return ext == binExt || ext == partExt || ext == sparseExt
}

func (v *Vault) removeListed(name string) error {
	if base, ok := strings.CutPrefix(name, "scratch/"); ok {
		return v.scratchDir.Remove(base)
	}
	return v.attachments.Remove(name)
}

// namedFiles lists the files that a row, undo, doomed or a draft names, and those
// that only a power cut would need: streams that were finished before a kill and
// saved under another name after it, until a barrier has passed that commit.
func (v *Vault) namedFiles() (named map[string]bool, ended map[string]uint64, err error) {
	named, ended = make(map[string]bool), make(map[string]uint64)
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, nil, ErrClosed
	}
	// First, for a draft that ends meanwhile has its content in a row then.
	err = v.reader.query("SELECT file,commit_no FROM drafts", func(c []dbValue) error {
		names, _ := c[0].(string)
		no, _ := c[1].(int64)
		for _, name := range splitFiles(names) {
			named[listedName(name)] = true
			stem, ok := strings.CutSuffix(name, partExt)
			switch {
			case !ok:
			case no > 0:
				ended[stem+binExt] = uint64(no)
			default:
				named[stem+binExt] = true // a stream that was finished meanwhile
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, table := range []string{"asset_attachments", "undo", "doomed", "kept"} {
		err = v.reader.query("SELECT blob FROM "+table, func(c []dbValue) error {
			s := rowScanner{c: c}
			named[binName(s.id())] = true
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	err = v.reader.query("SELECT blob FROM asset_attachments WHERE place=0", func(c []dbValue) error {
		s := rowScanner{c: c}
		named[sparseName(s.id())] = true
		return nil
	})
	return named, ended, err
}

// draftFiles lists the files of drafts that are being written now.
func (v *Vault) draftFiles() map[string]bool {
	files := make(map[string]bool)
	for _, o := range v.openStates() {
		o.mu.RLock()
		if o.draft != nil {
			for _, name := range o.draft.standsOn() {
				files[listedName(name)] = true
			}
		}
		o.mu.RUnlock()
	}
	return files
}

// splitFiles takes the list of files in a row of drafts apart; a draft whose
// state lies in its row alone has none.
func splitFiles(names string) []string {
	if names == "" {
		return nil
	}
	return strings.Split(names, ",")
}

// listedName is a file's name as listFiles gives it.
func listedName(name string) string {
	if isScratchFile(name) {
		return "scratch/" + name
	}
	return name
}
