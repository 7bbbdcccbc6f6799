package fs

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// ahead reads ahead in directories: once a program has opened a few files of
// one in the order of its listing, as cp -r, tar and grep -r do, the small
// ones that follow are decrypted before it opens them, and given to the
// kernel where that knows them; of the large ones, the next is opened. Workers of
// its own do it, a few files at a time; what they do not get done is done when
// it is asked for.
type ahead struct {
	// Set at construction.
	vault    *vaultcore.Vault
	push     *pusher
	panicked func(any)
	hold     *holder

	jobs chan *vaultcore.Node
	quit chan struct{}
	done sync.WaitGroup

	loading [aheadWorkers]atomic.Pointer[loading]

	mu      sync.Mutex
	streams [aheadStreams]stream
	oldest  int // of streams, replaced next
}

const (
	aheadWorkers = 2
	aheadStreams = 4 // directories, or programs, followed at a time
	aheadFiles   = 8 // loaded before they are opened
	aheadSkip    = 2 // files that a program may leave out
	aheadAfter   = 2 // opens in order before anything is loaded
)

// stream is a program that opens the files of a directory.
type stream struct {
	next  []*vaultcore.Node // what follows the file it opened last
	run   int               // opens in order
	asked int               // of next: those a worker was told of
}

// expected is the file that the program will open next; nil while it has no
// habit.
func (s *stream) expected() *vaultcore.Node {
	if s.run < aheadAfter || len(s.next) == 0 {
		return nil
	}
	return s.next[0]
}

type loading struct {
	node *vaultcore.Node
	done chan struct{}
}

func newAhead(v *vaultcore.Vault, p *pusher, panicked func(any)) *ahead {
	return &ahead{
		vault: v, push: p, panicked: panicked, hold: newHolder(v, panicked),
		jobs: make(chan *vaultcore.Node, aheadStreams*aheadFiles), quit: make(chan struct{}),
	}
}

func (a *ahead) start() {
	for i := range a.loading {
		a.done.Go(func() { a.work(i) })
	}
	a.hold.start()
}

// stop returns when nothing is being loaded any more.
func (a *ahead) stop() {
	close(a.quit)
	a.done.Wait()
	a.hold.stop()
}

// opened is told of every file that is opened for reading. It waits for one
// that is being loaded, which is all but done.
func (a *ahead) opened(n *vaultcore.Node) {
	for i := range a.loading {
		if l := a.loading[i].Load(); l != nil && l.node == n {
			<-l.done
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.followLocked(n)
	a.hold.follow(s, n, s.expected())
	if s.run < aheadAfter {
		return
	}
	for ; s.asked < min(len(s.next), aheadFiles); s.asked++ {
		select {
		case a.jobs <- s.next[s.asked]:
		default:
			return
		}
	}
}

// followLocked finds the stream that n continues, or begins one.
func (a *ahead) followLocked(n *vaultcore.Node) *stream {
	for i := range a.streams {
		s := &a.streams[i]
		at := slices.Index(s.next[:min(len(s.next), aheadSkip+1)], n)
		if at < 0 {
			continue
		}
		s.next, s.run, s.asked = s.next[at+1:], s.run+1, max(s.asked-at-1, 0)
		if len(s.next) < aheadFiles {
			s.next = a.vault.FilesAfter(n, make([]*vaultcore.Node, 0, 4*aheadFiles))
		}
		return s
	}
	s := &a.streams[a.oldest]
	a.oldest = (a.oldest + 1) % aheadStreams
	*s = stream{next: a.vault.FilesAfter(n, make([]*vaultcore.Node, 0, aheadSkip+1))}
	return s
}

func (a *ahead) work(worker int) {
	for {
		select {
		case <-a.quit:
			return
		case n := <-a.jobs:
			a.load(worker, n)
		}
	}
}

func (a *ahead) load(worker int, n *vaultcore.Node) {
	l := &loading{n, make(chan struct{})}
	defer func() {
		a.loading[worker].Store(nil)
		close(l.done)
		if r := recover(); r != nil {
			a.panicked(r)
		}
	}()
	if n.Kept.Load() || a.vault.Attr(n).Nlink == 0 {
		return
	}
	a.loading[worker].Store(l)
	if a.vault.Open(n, false, false) != nil {
		return
	}
	defer a.vault.Release(n, false)
	a.push.ahead(n)
}
