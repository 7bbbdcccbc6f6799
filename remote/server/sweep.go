package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	sweepEvery = time.Minute
	// orphanAge is how old an object must be before it may be an orphan: a
	// database that was put back from yesterday must not cost today's files.
	orphanAge   = 30 * 24 * time.Hour
	orphanEvery = 7 * 24 * time.Hour
	// strayAge is longer than any upload lives without a part of it coming.
	strayAge   = 24 * time.Hour
	strayEvery = time.Hour
	// lookStep bounds how many blobs are looked for in the store a minute.
	lookStep = 200
)

// Run sweeps, and tells other processes of changes and hears theirs, until ctx
// ends. Any number of processes may do so.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.far != nil {
		wg.Go(func() { s.speak(ctx) })
		wg.Go(func() { s.hear(ctx) })
	}
	s.sweepLoop(ctx)
}

func (s *Server) sweepLoop(ctx context.Context) {
	var cursor string // of the rolling look
	var listed, tidied time.Time
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		s.Sweep(ctx)
		cursor = s.look(ctx, cursor)
		if now := s.o.Now(); now.Sub(listed) > orphanEvery {
			listed = now
			s.sweepOrphans(ctx)
		}
		if now := s.o.Now(); now.Sub(tidied) > strayEvery {
			tidied = now
			s.sweepStore(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep ends what nobody ended: logins, uploads, the trash, and objects that
// nothing names.
func (s *Server) Sweep(ctx context.Context) {
	if err := s.o.DB.ExpireLogins(ctx); err != nil {
		s.sweepError(ctx, "logins", err)
	}
	for kind, step := range map[string]func(context.Context) (int, error){"uploads": s.sweepUploads, "trash": s.o.DB.SweepTrash} {
		for {
			n, err := step(ctx)
			s.metrics.swept.WithLabelValues(kind).Add(float64(n))
			if err != nil {
				s.sweepError(ctx, kind, err)
			}
			if err != nil || n == 0 {
				break
			}
		}
	}
	if err := s.deleteDue(ctx); err != nil {
		s.sweepError(ctx, "objects", err)
	}
}

func (s *Server) sweepUploads(ctx context.Context) (int, error) {
	list, err := s.o.DB.SweepIntents(ctx)
	for _, state := range list {
		s.abandon(ctx, state)
	}
	return len(list), err
}

// tidier is a store that can free what killed writers left; a bucket has a rule
// for that.
type tidier interface {
	Sweep(ctx context.Context, before time.Time) error
}

// sweepStore frees what nobody has written to for long, and nobody names.
func (s *Server) sweepStore(ctx context.Context) {
	if store, ok := s.o.Blobs.(tidier); ok {
		if err := store.Sweep(ctx, s.o.Now().Add(-strayAge)); err != nil {
			s.sweepError(ctx, "stray parts", err)
		}
	}
}

func (s *Server) sweepError(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		s.log.Error("sweep", "what", what, "err", err)
	}
}

func (s *Server) deleteDue(ctx context.Context) error {
	for {
		keys, err := s.o.DB.DueObjects(ctx)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, key := range keys {
			if err := s.o.Blobs.Delete(ctx, key); err != nil {
				return err
			}
			if err := s.o.DB.ObjectGone(ctx, key); err != nil {
				return err
			}
			s.metrics.swept.WithLabelValues("objects").Inc()
		}
	}
}

// look asks the store for some of the blobs that should be there, and gives the
// cursor to go on from.
func (s *Server) look(ctx context.Context, after string) string {
	keys, err := s.o.DB.Present(ctx, after, lookStep)
	if err != nil {
		s.sweepError(ctx, "present", err)
		return after
	}
	for _, key := range keys {
		_, err := s.o.Blobs.Head(ctx, key)
		if errors.Is(err, blob.ErrNotFound) {
			s.log.Error("object missing", "key", key)
			err = s.o.DB.Missing(ctx, key)
		}
		if err != nil {
			s.sweepError(ctx, "look", err)
			return after
		}
		after = key
	}
	if len(keys) < lookStep {
		return "" // from the beginning
	}
	return after
}

// sweepOrphans deletes old objects that neither a blob, an upload nor the queue
// names.
func (s *Server) sweepOrphans(ctx context.Context) {
	for attrs, err := range s.o.Blobs.List(ctx, "vaults/", "") {
		if err != nil {
			s.sweepError(ctx, "orphans", err)
			return
		}
		if s.o.Now().Sub(attrs.ModTime) < orphanAge {
			continue
		}
		named, err := s.o.DB.Named(ctx, attrs.Key)
		if err == nil && !named {
			s.log.Warn("orphan deleted", "key", attrs.Key)
			s.metrics.swept.WithLabelValues("orphans").Inc()
			err = s.o.Blobs.Delete(ctx, attrs.Key)
		}
		if err != nil {
			s.sweepError(ctx, "orphans", err)
			return
		}
	}
}
