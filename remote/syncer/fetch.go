package syncer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// fetchParallel is how many small objects are fetched at a time.
const fetchParallel = 8

// getAll gets some small objects: nil for one that is not there, and no bytes for one
// that is too large to be any of ours.
func (e *Engine) getAll(ctx context.Context, keys []string) ([][]byte, error) {
	return e.getSome(ctx, keys, math.MaxInt64)
}

// getSome is getAll that asks for no more once it has room bytes: for a few that are
// under way then, and at least for one.
func (e *Engine) getSome(ctx context.Context, keys []string, room int64) ([][]byte, error) {
	objects := make([][]byte, len(keys))
	var size atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchParallel)
	for i, key := range keys {
		if size.Load() >= room {
			return objects[:i], group.Wait()
		}
		group.Go(func() error {
			b, err := e.getOne(ctx, key)
			objects[i] = b
			size.Add(int64(len(b)))
			return err
		})
	}
	return objects, group.Wait()
}

func (e *Engine) getOne(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	b, err := e.o.Remote.Get(ctx, key)
	switch {
	case errors.Is(err, ErrTooLarge):
		return []byte{}, nil
	case notThere(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("fetch %s: %w", key, err)
	}
	return b, nil
}
