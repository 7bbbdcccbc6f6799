package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// maxEvents is how many events are kept, the newest ones.
const maxEvents = 10000

// Event is something the user may have to know later. Its text may hold
// names and is sealed on disk.
type Event struct {
	N    int64     `json:"n"`
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	Text string    `json:"text"`
}

// eventLog also keeps the alarms of this session, one a kind and thing.
type eventLog struct {
	mu     sync.Mutex
	alarms []string
}

// alarm records an event that status shows until the vault is closed. kind
// is logged, the text is not.
func (v *Vault) alarm(kind, text string) {
	v.events.mu.Lock()
	known := slices.Contains(v.events.alarms, text)
	if !known {
		v.events.alarms = append(v.events.alarms, text)
	}
	v.events.mu.Unlock()
	if known {
		return
	}
	v.log.Warn("alarm", "kind", kind)
	v.event(kind, text)
}

// raise is alarm about one file.
func (v *Vault) raise(kind string, n *Node, err error) {
	v.tree.RLock()
	path, id := shownPath(n), n.id
	v.tree.RUnlock()
	v.log.Error("file", "kind", kind, "id", id.UUID(), "err", err)
	v.alarm(kind, fmt.Sprintf("%s: %s: %v", kind, path, err))
}

// Report writes an event about what happens around the vault: its kind is one
// word, its text is sealed. A failure is only logged.
func (v *Vault) Report(kind, text string) { v.event(kind, text) }

// event writes one event; a failure is only logged, events stop nothing.
func (v *Vault) event(kind, text string) {
	if v.com == nil {
		return
	}
	var a seal.RowAAD
	now := v.nowNS()
	_, err := v.com.do(func(t *txn) error {
		last, err := t.one("SELECT coalesce(max(n),0) FROM events")
		if err != nil {
			return err
		}
		n := last.(int64) + 1
		sealed := v.keys.local().SealRow(nil, []byte(text), eventAAD(&a, n, now, kind))
		if err := t.exec("INSERT INTO events(n,time,kind,sealed) VALUES(?,?,?,?)", n, now, kind, sealed); err != nil {
			return err
		}
		return t.exec("DELETE FROM events WHERE n<=?", n-maxEvents)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		v.log.Warn("event not written", "kind", kind, "err", err)
	}
}

func eventAAD(a *seal.RowAAD, n, at int64, kind string) []byte {
	a.Reset(tableEvents)
	a.Uint(uint64(n))
	a.Uint(uint64(at))
	a.Bytes([]byte(kind))
	return a.Sum()
}

// Events gives at most max events after number after, oldest first.
func (v *Vault) Events(after int64, max int) ([]Event, error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	var out []Event
	err := v.reader.query("SELECT n,time,kind,sealed FROM events WHERE n>? ORDER BY n LIMIT ?", func(c []dbValue) error {
		s := rowScanner{c: c}
		n, at := s.num(), s.num()
		kind, _ := s.next().(string)
		sealed := s.blob()
		var a seal.RowAAD
		text, err := v.keys.local().OpenRow(nil, sealed, eventAAD(&a, n, at, kind))
		if err != nil {
			text = []byte("this event cannot be authenticated")
		}
		out = append(out, Event{N: n, Time: time.Unix(0, at), Kind: kind, Text: string(text)})
		return nil
	}, after, int64(max))
	return out, err
}

// alarms gives the alarms of this session.
func (v *Vault) alarms() []string {
	v.events.mu.Lock()
	defer v.events.mu.Unlock()
	return slices.Clone(v.events.alarms)
}
