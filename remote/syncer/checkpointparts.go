package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// errPartGone: a checkpoint whose end is there is not whole.
var errPartGone = errors.New("a part of a checkpoint is missing")

// partsAhead is how many parts are fetched at a time: up to 4 MiB each.
const partsAhead = 4

// partFetcher fetches the parts of a checkpoint in order, some ahead.
type partFetcher struct {
	ctx      context.Context
	cancel   context.CancelFunc
	r        Remote
	c        vaultcore.Checkpoint
	progress func(done, total int64)
	wg       sync.WaitGroup
	coming   map[int]chan part
}

type part struct {
	frame []byte
	err   error
}

func newPartFetcher(ctx context.Context, r Remote, c vaultcore.Checkpoint, progress func(done, total int64)) *partFetcher {
	f := &partFetcher{r: r, c: c, progress: progress, coming: make(map[int]chan part)}
	f.ctx, f.cancel = context.WithCancel(ctx)
	return f
}

// stop ends what is under way.
func (f *partFetcher) stop() {
	f.cancel()
	f.wg.Wait()
}

// fetch is for vaultcore.LoadCheckpoint; 0 is the last part.
func (f *partFetcher) fetch(ctx context.Context, no int) ([]byte, error) {
	for n := no; n < no+partsAhead && n <= f.c.Parts; n++ {
		f.start(n)
	}
	select {
	case p := <-f.coming[no]:
		delete(f.coming, no)
		if p.err == nil && f.progress != nil {
			f.progress(int64(no), int64(f.c.Parts+1))
		}
		return p.frame, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *partFetcher) start(no int) {
	if f.coming[no] != nil {
		return
	}
	ch := make(chan part, 1)
	f.coming[no] = ch
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		frame, err := f.get(no)
		ch <- part{frame, err}
	}()
}

func (f *partFetcher) get(no int) ([]byte, error) {
	call, cancel := context.WithTimeout(f.ctx, callTime)
	defer cancel()
	name := pointName(f.c.CheckpointID)
	key := CheckpointKey(name, no)
	if no == 0 {
		key = CheckpointEnd(name)
	}
	frame, err := f.r.Get(call, key)
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoStore) {
		err = fmt.Errorf("%w: %s", errPartGone, key)
	}
	return frame, err
}
