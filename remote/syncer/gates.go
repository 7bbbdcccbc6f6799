package syncer

import (
	"context"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Classes of requests that a remote limits apart.
const (
	gateLog  = "log"  // small objects and looks
	gateUp   = "up"   // contents sent
	gateDown = "down" // contents fetched
)

// maxGate is the longest wait a remote can ask for.
const maxGate = 24 * time.Hour

// gates are the times before which a remote asked not to be sent a class of
// request. They are stored, so that a program started anew does not knock again.
type gates struct {
	v   *vaultcore.Vault
	now func() time.Time

	mu     sync.Mutex
	remote seal.ID
	until  map[string]time.Time
}

// load takes what is stored for a remote.
func (g *gates) load(ctx context.Context, remote seal.ID) error {
	until, err := g.v.Gates(ctx, remote)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remote, g.until = remote, until
	return nil
}

// heed closes the gate if err asks for it.
func (g *gates) heed(class string, err error) error {
	after := blob.RetryAfter(err)
	if after <= 0 {
		return nil
	}
	until := g.now().Add(min(after, maxGate))
	g.mu.Lock()
	later := until.After(g.until[class])
	if later {
		if g.until == nil {
			g.until = make(map[string]time.Time)
		}
		g.until[class] = until
	}
	remote := g.remote
	g.mu.Unlock()
	if !later {
		return nil
	}
	return g.v.SetGate(context.Background(), remote, class, until)
}

// known says whether a gate was ever closed.
func (g *gates) known(class string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.until[class]
	return known
}

// shut closes a gate by our own will.
func (g *gates) shut(class string, until time.Time) error {
	g.mu.Lock()
	if g.until == nil {
		g.until = make(map[string]time.Time)
	}
	g.until[class] = until
	remote := g.remote
	g.mu.Unlock()
	return g.v.SetGate(context.Background(), remote, class, until)
}

// closed gives until when the gate is closed; false if it is open. A wait that
// no remote can have asked for, because the clock was put back, is none.
func (g *gates) closed(class string) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	until := g.until[class]
	now := g.now()
	return until, now.Before(until) && until.Sub(now) <= maxGate
}

func (g *gates) status() []GateStatus {
	out := []GateStatus{}
	for _, class := range []string{gateLog, gateUp, gateDown} {
		if until, closed := g.closed(class); closed {
			out = append(out, GateStatus{Class: class, Until: until})
		}
	}
	return out
}
