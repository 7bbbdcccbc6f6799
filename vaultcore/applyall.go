package vaultcore

import (
	"bytes"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// applyChunk is how many attachments are brought up to the history at a time.
const applyChunk = 1024

// everything is a change of rows and tree to all that the history says, in
// pieces, so that memory does not grow with the vault. After a kill it is begun
// again.
type everything struct {
	l       *ledger
	revoked bool
	wraps   map[seal.ID]*seal.Wrap // keys of a checkpoint that are newer than its records
	done    map[seal.ID]bool
	changes []Change
}

// applyAll brings rows and tree to what the history says. ns and mu are held.
// behind says what they lag behind: after a checkpoint rows may be missing, so it
// goes by the records that bring them.
func (l *ledger) applyAll(behind int64, wraps map[seal.ID]*seal.Wrap) ([]Change, error) {
	e := &everything{l: l, revoked: behind == behindRevoked, wraps: wraps, done: make(map[seal.ID]bool)}
	err := e.assets()
	if err == nil && behind == behindCheckpoint {
		err = e.byRecords()
	}
	if err == nil {
		err = e.rest()
	}
	if err == nil {
		err = e.rewrap()
	}
	return e.changes, err
}

func (e *everything) apply(c history.Changed, in *incoming) error {
	in.unfinished, in.revoked, in.keys = true, e.revoked, e.wraps
	changes, err := e.l.applyChanged(c, in)
	e.changes = append(e.changes, changes...)
	return err
}

func (e *everything) assets() error {
	return e.apply(history.Changed{Assets: sortedIDs(slices.Collect(e.l.h.Assets()))}, &incoming{})
}

func sortedIDs(ids []seal.ID) []seal.ID {
	slices.SortFunc(ids, func(a, b seal.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// byRecords takes attachments in the order in which the records that brought
// their contents are stored, so that each part and batch is opened once.
func (e *everything) byRecords() error {
	l := e.l
	s := l.allOps(l.heads())
	next := &chunk{puts: make(map[history.Digest]*seal.Put)}
	for {
		ops, err := s.next()
		if err != nil {
			return err
		}
		if len(ops) == 0 {
			return e.finish(next)
		}
		for i := range ops {
			if p, ok := ops[i].Op.(*seal.Put); ok {
				e.take(p, next)
			}
			if len(next.ids) == applyChunk {
				if err := e.finish(next); err != nil {
					return err
				}
			}
		}
	}
}

// chunk is some attachments and the records of their contents.
type chunk struct {
	ids  []seal.ID
	puts map[history.Digest]*seal.Put
}

// take adds an attachment if p brought a content of it that is visible.
func (e *everything) take(p *seal.Put, c *chunk) {
	d := history.Digest(p.Digest(e.l.v.keys.vaultID()))
	visible := slices.ContainsFunc(e.l.h.Attachment(p.ID, nil).Live, func(f history.File) bool { return f.Content == d })
	if !visible {
		return
	}
	c.puts[d] = p
	if !e.done[p.ID] {
		e.done[p.ID] = true
		c.ids = append(c.ids, p.ID)
	}
}

func (e *everything) finish(c *chunk) error {
	err := e.apply(history.Changed{Attachments: sortedIDs(c.ids)}, &incoming{puts: c.puts})
	c.ids, c.puts = nil, make(map[history.Digest]*seal.Put)
	return err
}

// rest takes what has nothing visible.
func (e *everything) rest() error {
	var ids []seal.ID
	for id := range e.l.h.Attachments() {
		if !e.done[id] {
			ids = append(ids, id)
		}
	}
	for some := range slices.Chunk(sortedIDs(ids), applyChunk) {
		if err := e.finish(&chunk{ids: some}); err != nil {
			return err
		}
	}
	return nil
}

// rewrap takes newer keys over into rows that were here before, and says that
// rows and tree are as the history says.
func (e *everything) rewrap() error {
	a := &applying{l: e.l, in: &incoming{}}
	for _, w := range e.wraps {
		a.in.wraps = append(a.in.wraps, w)
	}
	a.x = e.l.v.indexNodes(func(n *Node) bool { return n.content != nil && e.wraps[n.content.ref.blob] != nil })
	_, err := e.l.v.com.do(func(t *txn) error {
		if err := a.writeWraps(t); err != nil {
			return err
		}
		return t.setMeta(metaBehind, int64(0))
	})
	e.l.v.bar.commit()
	return err
}
