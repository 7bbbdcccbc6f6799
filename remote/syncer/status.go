package syncer

import (
	"context"
	"time"
)

// State is what an engine does, in a word.
type State string

// The states of an engine.
const (
	StateOff     State = "off"     // Run does not run
	StateIdle    State = "idle"    // all is done
	StateSyncing State = "syncing" // there is work, and it goes on
	StateOffline State = "offline" // the remote does not answer
	StateStopped State = "stopped" // a condition has to be put right first
)

// Status is how synchronisation is. It names no address.
type Status struct {
	State   State     `json:"state"`
	Online  bool      `json:"online"`
	Contact time.Time `json:"last_contact,omitzero"` // last answer of the remote
	Synced  time.Time `json:"last_synced,omitzero"`  // when nothing was left to do

	Unsealed int   `json:"unsealed"` // changed files and folders, in no batch yet
	Unpushed int   `json:"unpushed"` // batches
	Saves    int   `json:"saves"`    // closed and in no row yet: the rest of the file is not here, or it is open elsewhere too
	Up       Queue `json:"up"`
	Down     Queue `json:"down"`
	Checking int64 `json:"checking,omitempty"` // bytes at the remote that healing has yet to read

	Waiting    []GateStatus  `json:"gates"`
	Blocked    []BlockedJob  `json:"blocked"`
	Conditions []Condition   `json:"conditions"`
	Devices    []DeviceState `json:"devices"`
	Limits     *Limits       `json:"limits,omitempty"` // of a server
}

// Queue is one direction of transfers.
type Queue struct {
	Count  int       `json:"count"`
	Bytes  int64     `json:"bytes"`
	Active int       `json:"active"`
	Rate   int64     `json:"rate"`            // bytes a second, of late
	Done   time.Time `json:"finish,omitzero"` // when it will be done at that rate
}

// GateStatus is a kind of request the remote asked not to send for a while.
type GateStatus struct {
	Class string    `json:"class"`
	Until time.Time `json:"until"`
}

// BlockedJob is a transfer that does not go on by itself.
type BlockedJob struct {
	Blob   string `json:"blob"`
	Up     bool   `json:"up"`
	Size   int64  `json:"size"`
	Reason string `json:"reason"`
}

// Condition is something a person should know, and what to do about it.
type Condition struct {
	Kind  string    `json:"kind"`
	Text  string    `json:"text"`
	Hint  string    `json:"hint,omitempty"`
	Since time.Time `json:"since"`
	// Raised: it is among the vault's alarms too, which stay when it has passed.
	Raised bool `json:"-"`
}

// DeviceState is a device of the vault as its batches show it.
type DeviceState struct {
	ID      string `json:"id"`
	Seq     uint64 `json:"seq"`               // its last batch applied here
	Held    int    `json:"held,omitempty"`    // its batches that wait for others
	Self    bool   `json:"self,omitempty"`    // this device
	Revoked bool   `json:"revoked,omitempty"` // by the newest header
}

// Status tells how synchronisation is.
func (e *Engine) Status() Status {
	now := e.o.Now()
	e.mu.Lock()
	s := Status{Online: e.online, Contact: e.contact, Synced: e.synced, Unsealed: e.unsealed, Limits: e.limits}
	runs, unpushed := e.runs > 0, e.unpushed
	e.mu.Unlock()
	s.Saves = e.o.Vault.SavesWaiting()
	s.Up, s.Down, s.Checking = e.up.status(now), e.down.status(now), e.checking.Load()
	s.Waiting = e.gates.status()
	s.Blocked = append(append([]BlockedJob{}, e.up.blocked()...), e.down.blocked()...)
	s.Conditions = e.cond.all()
	s.Devices = e.devices()
	if unpushed {
		s.Unpushed = e.countUnpushed()
	}
	s.State = stateOf(s, runs, e.cond.has(stopping()...))
	return s
}

func stateOf(s Status, runs, stopped bool) State {
	switch {
	case !runs:
		return StateOff
	case stopped:
		return StateStopped
	case !s.Online:
		return StateOffline
	case s.Unsealed+s.Unpushed+s.Saves+s.Up.Count+s.Down.Count > 0 || s.Checking > 0:
		return StateSyncing
	}
	return StateIdle
}

// statusTime is for each thing that status asks the vault, which on a machine that does
// far too much at a time takes seconds; what hangs is not waited for.
const statusTime = 4 * time.Second

func (e *Engine) countUnpushed() int {
	ctx, cancel := context.WithTimeout(context.Background(), statusTime)
	defer cancel()
	last, err := e.o.Vault.LastPushed(ctx)
	if err != nil {
		return 0
	}
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return 0
	}
	return int(heads[e.o.Vault.DeviceID()].Seq - last)
}

func (e *Engine) devices() []DeviceState {
	out := []DeviceState{}
	ctx, cancel := context.WithTimeout(context.Background(), statusTime)
	defer cancel()
	heads, err := e.o.Vault.Heads(ctx)
	if err != nil {
		return out
	}
	self := e.o.Vault.DeviceID()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.o.Vault.Roster() {
		s := DeviceState{ID: d.ID.UUID(), Seq: heads[d.ID].Seq, Self: d.ID == self, Revoked: d.Revoked}
		if c := e.chains[d.ID]; c != nil {
			s.Held = c.count
		}
		out = append(out, s)
	}
	return out
}
