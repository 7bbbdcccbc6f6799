package vaultcore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// ServerWork is what has to be done about a server's rows.
type ServerWork struct {
	Rows  []ServerRow // to be written, assets first; Number is the one that was read
	Claim []seal.ID   // contents that a client had the server throw away
	// Release are contents of rows that the user refused, by the row: when that is
	// written nobody needs them.
	Release map[seal.ID]seal.ID
	Faults  []RowFault
	News    int  // rows that no record names, not seen before
	More    bool // there is more to look at
}

// rowsAtOnce bounds the rows that are compared in one go.
const rowsAtOnce = 2000

// ServerWork compares what the server says with the log, which must be applied
// to the end of the server's feed, and gives at most max rows to write. What
// another device changed is given only with all; that device writes it itself,
// if nothing comes between. A row is due until ServerRowsPut notes it.
func (v *Vault) ServerWork(ctx context.Context, all bool, max int) (ServerWork, error) {
	return v.serverWork(ctx, all, true, max)
}

// ServerAssets is ServerWork for assets alone, which have to be there before what
// lies in them.
func (v *Vault) ServerAssets(ctx context.Context, all bool, max int) (ServerWork, error) {
	return v.serverWork(ctx, all, false, max)
}

func (v *Vault) serverWork(ctx context.Context, all, files bool, max int) (ServerWork, error) {
	if err := errors.Join(v.writable(), v.syncable()); err != nil {
		return ServerWork{}, err
	}
	l, err := v.lockLedger(ctx)
	if err != nil {
		return ServerWork{}, err
	}
	defer l.mu.Unlock()
	if err := l.beginRows(); err != nil {
		return ServerWork{}, err
	}
	p := projecting{l: l, all: all, found: make(map[rowKey]*knownRow)}
	keys, more := l.rowsDue.some(all, files, rowsAtOnce)
	for _, k := range keys {
		if len(p.w.Rows)+len(p.w.Claim) == max {
			more = true
			break
		}
		if err := p.look(k); err != nil {
			return ServerWork{}, err
		}
	}
	p.w.More = more
	return p.w, p.store()
}

// projecting is one comparison.
type projecting struct {
	l     *ledger
	all   bool
	w     ServerWork
	found map[rowKey]*knownRow
	named map[seal.ID]bool // contents that the log names; nil: not asked for yet
}

func (p *projecting) store() error {
	if len(p.found) == 0 {
		return nil
	}
	_, err := p.l.v.com.do(func(t *txn) error {
		for k, e := range p.found {
			if err := t.store(k, e); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// wantedRow is what the log has a row say.
type wantedRow struct {
	row   ServerRow
	print []byte
	att   *attRow // of an attachment that lives
	title string
	known bool // a record names it
}

// look compares one row.
func (p *projecting) look(k rowKey) error {
	e, err := p.l.knownRow(k)
	if err != nil {
		return err
	}
	w, err := p.l.wantedRow(k)
	if errors.Is(err, errNoRow) {
		p.l.rowsDue.drop(k) // it is due again when that changes
		return nil
	}
	if err != nil {
		return err
	}
	if !w.known && e.state == serverRefused {
		p.refuse(k, &e)
		return nil
	}
	if !w.known {
		p.unnamed(k, &e)
		return nil
	}
	why := p.l.rowsDue.rows[k]
	agrees := e.there && e.row == nil && bytes.Equal(e.print, w.print) && (e.state == serverDeleted) == w.row.Deleted
	if e.row != nil {
		var urgent bool
		if agrees, urgent = p.compare(k, &e, w); urgent {
			why = dueMine
		}
	}
	agrees = agrees || w.row.Deleted && (!e.there || e.state == serverDeleted || e.state == serverAsked)
	agrees = agrees || e.state == serverAsked && bytes.Equal(e.print, w.print)
	switch {
	case agrees:
		p.l.rowsDue.drop(k)
	case why == dueSeen && !p.all:
		p.l.rowsDue.rows[k] = dueOthers
	default:
		w.row.Number = e.number
		p.w.Rows = append(p.w.Rows, w.row)
		p.l.rowsDue.given(k, w.print)
	}
	return nil
}

// unnamed leaves alone a row that no record names.
func (p *projecting) unnamed(k rowKey, e *knownRow) {
	if e.row != nil {
		if !e.row.Deleted && e.state != serverUnnamed {
			p.w.News++
		}
		if e.state = serverUnnamed; e.row.Deleted {
			e.state, e.row = serverDeleted, nil
		}
		p.found[k] = e
	}
	p.l.rowsDue.drop(k)
}

// refuse has the server delete a row that no record names: the one case of such a
// row being written, since the user said so. What it names goes too, unless
// somebody else needs that: a row may name any blob.
func (p *projecting) refuse(k rowKey, e *knownRow) {
	row := ServerRow{ID: k.id, Asset: k.asset, Type: uint8(TypeItem), Number: e.number, Deleted: true}
	if e.row != nil && e.row.Type >= uint8(TypePassword) && e.row.Type <= uint8(TypeItem) {
		row.Type = e.row.Type
	}
	if e.row != nil {
		row.Parent = e.row.Parent
	}
	p.w.Rows = append(p.w.Rows, row)
	p.l.rowsDue.given(k, nil)
	if k.asset || e.row == nil {
		return
	}
	if p.named == nil {
		p.named = p.l.namedBlobs(true)
	}
	if b := e.row.Blob; !p.named[b] && !p.l.v.rowNames(b) {
		if p.w.Release == nil {
			p.w.Release = make(map[seal.ID]seal.ID)
		}
		p.w.Release[k.id] = b
	}
}

// compare holds a row that came against what it should say. urgent: no device of
// ours can have written it.
func (p *projecting) compare(k rowKey, e *knownRow, w *wantedRow) (agrees, urgent bool) {
	right := bytes.Equal(e.print, w.print) // it said so before
	// It was there before the log named it: somebody took it over, in other words.
	adopted := e.state == serverUnnamed || e.state == serverRefused
	came := e.row
	e.row, e.state = nil, serverLive
	if came.Deleted {
		e.state = serverDeleted
	}
	p.found[k] = e
	switch {
	case came.Deleted && w.row.Deleted:
		e.print = w.print
		return true, false
	case came.Deleted && came.Client && !k.asset:
		p.asked(e, w)
		return true, false
	case came.Deleted:
		e.print = nil
		if right {
			// A client may delete an asset that is empty there; that is no lie.
			p.fault(RowFault{Altered: !came.Client, What: "deleted", Path: p.l.rowPath(k, w)})
		}
		return false, right
	case w.row.Deleted:
		e.print = nil
		if right {
			p.fault(RowFault{Altered: true, What: "deleted, and there again", Path: k.id.UUID()})
		}
		return false, right
	}
	differs := p.l.differs(came, w)
	if len(differs) == 0 {
		e.print = w.print
		return true, false
	}
	e.print = nil
	if adopted {
		return false, false
	}
	// A client makes rows and changes none: so this one is as it was made, whoever
	// has taken it over since.
	urgent = right || !came.Client && p.l.forged(came, w)
	// An older epoch's key is what a password change leaves until rows follow.
	if urgent || len(differs) > 1 || differs[0] != differsEpoch {
		// The title of an asset is a client's to change there; it is written again.
		p.fault(RowFault{Altered: urgent && !(k.asset && came.Client), What: strings.Join(differs, ", "), Path: p.l.rowPath(k, w)})
	}
	return false, urgent
}

// asked notes that a client deleted a row: that is a wish, of which the log knows
// nothing. Its content is claimed back, and the row left as it is until the file
// changes.
func (p *projecting) asked(e *knownRow, w *wantedRow) {
	e.state, e.print = serverAsked, w.print
	p.w.Claim = append(p.w.Claim, w.row.Blob)
	p.fault(RowFault{Asked: true, Path: p.l.rowPath(rowKey{false, w.row.ID}, w)})
}

const maxRowFaults = 100 // events of one comparison

func (p *projecting) fault(f RowFault) {
	if len(p.w.Faults) < maxRowFaults {
		p.w.Faults = append(p.w.Faults, f)
	}
}

// rowPath names the file of a row to a person.
func (l *ledger) rowPath(k rowKey, w *wantedRow) string {
	if w.att == nil {
		if w.title != "" {
			return shownTitle(w.title)
		}
		return k.id.UUID()
	}
	v := l.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	if n := v.rows.get(w.att.n); n != nil {
		return shownPath(n)
	}
	return k.id.UUID()
}

// printOf is what the log says of a row, as one value: the records that it merges,
// and the epoch of its key. It tells nobody anything else.
func printOf(k rowKey, base []history.Digest, epoch uint32, deleted bool) []byte {
	h := sha256.New()
	h.Write([]byte{byte(k.kind()), byte(b2i(deleted))})
	h.Write(binary.BigEndian.AppendUint32(nil, epoch))
	for _, d := range base {
		h.Write(d[:])
	}
	return h.Sum(nil)[:16]
}
