package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/fs"
)

const (
	// loadEvery is how often a mount is looked at.
	loadEvery = 500 * time.Millisecond
	// busyRate is how many requests in that time are work for which uploads
	// give way: an open document or a desktop's glance stays far below it.
	busyRate = 100
)

// load watches how much a mount is used.
type load struct {
	heavy atomic.Bool
	done  chan struct{}
	ended sync.WaitGroup
}

// start watches; used is called after each interval with requests.
func (l *load) start(mount *fs.Server, used func()) {
	l.done = make(chan struct{})
	l.ended.Go(func() {
		ticker := time.NewTicker(loadEvery)
		defer ticker.Stop()
		last := mount.Requests()
		for {
			select {
			case <-ticker.C:
			case <-l.done:
				return
			}
			now := mount.Requests()
			l.heavy.Store(now-last >= busyRate)
			if now != last {
				used()
			}
			last = now
		}
	})
}

// busy says whether the mount has work.
func (l *load) busy() bool { return l.heavy.Load() }

func (l *load) stop() {
	close(l.done)
	l.ended.Wait()
	l.heavy.Store(false)
}
