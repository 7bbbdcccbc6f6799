package syncer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A byte a second is no progress, however long it goes on; a slow line is, and so is
// what the own limit of bandwidth holds up.
func TestWatch(t *testing.T) {
	for name, c := range map[string]struct {
		bytes int64 // every second
		stall bool
	}{
		"nothing":        {0, true},
		"a byte":         {1, true},
		"a little":       {leastMoved/60 - 10, true},
		"a slow line":    {leastMoved/60 + 10, false},
		"a block a time": {paceBlock, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, w := newWatch(t.Context())
			defer w.stop()
			for range 3600 {
				time.Sleep(time.Second)
				w.moved(c.bytes)
			}
			synctest.Wait()
			if stalled := errors.Is(context.Cause(ctx), errStalled); stalled != c.stall {
				t.Errorf("%s: stalled %v, want %v", name, stalled, c.stall)
			}
			if err := w.explain(errors.New("cut")); errors.Is(err, errStalled) != c.stall {
				t.Errorf("%s: explained as %v", name, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, w := newWatch(t.Context())
		defer w.stop()
		limit := newLimiter(1000)
		for range 20 { // each waits for 45 s, once the burst is used up
			if err := w.paced(limit, 45_000); err != nil {
				t.Fatal(err)
			}
			w.moved(1)
		}
		if ctx.Err() != nil {
			t.Errorf("the own limit is a stall: %v", context.Cause(ctx))
		}
	})
}
