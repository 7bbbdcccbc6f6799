package syncer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// leaving is a server that is about to end: it promised to wait for news, and
// answers at once that there are none.
type leaving struct {
	syncer.Remote
	asked atomic.Int64 // to wait
}

func (l *leaving) Caps(ctx context.Context) (syncer.Caps, error) {
	caps, err := l.Remote.Caps(ctx)
	caps.Wait = time.Minute
	return caps, err
}

func (l *leaving) Changes(ctx context.Context, cursor []byte, wait time.Duration) (syncer.Changes, error) {
	if wait > 0 {
		l.asked.Add(1)
		return syncer.Changes{Next: cursor}, nil
	}
	return l.Remote.Changes(ctx, cursor, wait)
}

// TestLeavingServer: one that does not wait as it promised is not asked without end.
func TestLeavingServer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop")
	d := f.devices[0]
	d.sync()
	r := &leaving{Remote: d.remote}
	f.faults = func(string, syncer.Remote) syncer.Remote { return r }
	d.engine()
	f.faults = nil
	d.run()
	d.until("it listens", func() bool { return r.asked.Load() > 0 })
	d.write("Letters/a.txt", "dear")
	d.until("the letter is sent", func() bool { return len(f.objects("blobs/*")) == 1 })
	d.halt()
	// Each look lets it listen once more; what follows a save is a handful of looks, and
	// a few more where it takes a minute. Without end it is thousands a second.
	if n := r.asked.Load(); n > 200 {
		t.Fatalf("asked %d times", n)
	}
}
