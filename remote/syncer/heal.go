package syncer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Healed is what healing did.
type Healed struct {
	PutBack  int      `json:"put_back"` // objects that the remote had lost
	Replaced []string `json:"replaced"` // keys of objects that were not what was put there
	False    []string `json:"false"`    // those that stay so, each with what is in the way
}

// Complete leaves no list null; nil stays nil.
func (h *Healed) Complete() *Healed {
	if h != nil && h.Replaced == nil {
		h.Replaced = []string{}
	}
	if h != nil && h.False == nil {
		h.False = []string{}
	}
	return h
}

// Heal is SyncNow, and puts back what the remote has lost or holds otherwise than it
// was put there, as far as it is held here: headers, checkpoints, batches of every
// device, contents. All of that is read there, so it takes its time, and Status says
// how much is left: a checksum that the remote tells is its word, which is what is in
// doubt. What it did is told with an error too. ErrOtherBytes: something stays false.
func (e *Engine) Heal(ctx context.Context) (Healed, error) {
	h := &healing{e: e}
	defer func() { h.read(h.unread.Load()) }()
	err := e.syncNow(ctx, h)
	wasMissing := err == nil && h.PutBack > 0                     // when it was looked for, and is there now
	wasFalse := errors.Is(err, ErrBlocked) && len(h.Replaced) > 0 // an upload met it and ended after it was replaced
	if wasMissing || wasFalse {
		err = e.SyncNow(ctx)
	}
	return h.Healed, errors.Join(err, h.left())
}

// healing is one call of Heal.
type healing struct {
	e      *Engine
	done   bool         // all was read; what is left is to send it
	unread atomic.Int64 // bytes of contents that are to be read there
	Healed
}

// expect says what is to be read at the remote, in place of what was left of an
// attempt that did not come to its end.
func (h *healing) expect(held []vaultcore.HeldBlob) {
	h.read(h.unread.Load())
	for _, b := range held {
		h.read(-b.Len)
	}
}

// read notes that so many bytes less are to be read.
func (h *healing) read(n int64) {
	h.unread.Add(-n)
	h.e.checking.Add(-n)
}

// left is the error about what stays false.
func (h *healing) left() error {
	if len(h.False) == 0 {
		return nil
	}
	return fmt.Errorf("%w, and they could not be put right: %s", errStaysFalse, someOf(h.False))
}

// errStaysFalse: healing left something.
var errStaysFalse = fmt.Errorf("some objects are not what was put there: %w", ErrOtherBytes)

// someOf names the first of some things, and how many more there are.
func someOf(things []string) string {
	out := strings.Join(things[:min(len(things), maxNamed)], ", ")
	if more := len(things) - maxNamed; more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

// log puts right headers, checkpoints and batches. The turn is held.
func (h *healing) log(ctx context.Context) error {
	e := h.e
	h.False = nil // of an attempt that did not come to its end
	there, err := listThere(ctx, e.o.Remote)
	if err != nil {
		return err
	}
	r := &counting{Remote: e.o.Remote}
	err = errors.Join(putHeaders(ctx, e.o.Vault, r, there), putPoints(ctx, e.o.Vault, r, there), putChains(ctx, e.o.Vault, r, there))
	h.PutBack += r.puts
	if err != nil {
		return err
	}
	before := len(h.Replaced)
	if err := h.compareLog(ctx, there); err != nil {
		return err
	}
	if len(h.Replaced) > before { // conditions that it brought about are over
		if err := e.round(ctx, step{poll: true, reconcile: true}); err != nil {
			return err
		}
	}
	for _, what := range h.False {
		e.meet(fmt.Errorf("%s: %w", what, ErrOtherBytes))
	}
	e.mu.Lock()
	e.unsettled = true
	e.mu.Unlock()
	return nil
}

// counting counts what is put.
type counting struct {
	Remote
	puts int
}

// Put implements Remote.
func (c *counting) Put(ctx context.Context, key string, content []byte) error {
	err := c.Remote.Put(ctx, key, content)
	if err == nil {
		c.puts++
	}
	return err
}
