package fs

import (
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// holder prepares the large file that a program will open next: it opens it
// before the program does, so that its key, its file and, where a content is
// authenticated as a whole, its plaintext are there when the first READ comes.
// That overlaps with what the program still reads of the file before.
//
// It holds one file at a time, which bounds the memory, and only until the
// program has opened it, has gone past it, has removed it, or the time for it is over.
type holder struct {
	// Set at construction.
	vault    *vaultcore.Vault
	panicked func(any)

	jobs chan *vaultcore.Node
	done sync.WaitGroup

	mu    sync.Mutex
	most  time.Duration   // how long a file is held that nobody opens
	node  *vaultcore.Node // open because of the holder; nil if none is
	by    *stream         // for whom
	timer *time.Timer     // ends the holding of node
	ended bool
}

// holdFor is how long a file is held that nobody opens.
const holdFor = time.Second

func newHolder(v *vaultcore.Vault, panicked func(any)) *holder {
	return &holder{vault: v, panicked: panicked, jobs: make(chan *vaultcore.Node, 1), most: holdFor}
}

func (h *holder) start() {
	h.done.Go(func() {
		for n := range h.jobs {
			h.prepare(n)
		}
	})
}

// stop returns when nothing is being prepared and nothing held any more.
func (h *holder) stop() {
	h.mu.Lock()
	h.ended = true
	old := h.dropLocked()
	h.mu.Unlock()
	close(h.jobs)
	h.done.Wait()
	h.release(old)
}

func (h *holder) prepare(n *vaultcore.Node) {
	defer func() {
		if r := recover(); r != nil {
			h.panicked(r)
		}
	}()
	h.vault.Prepare(n)
}

// follow is told that the program behind s has opened the file now, and, if it
// has a habit, what it will open next; nil: that is not known.
func (h *holder) follow(s *stream, now, next *vaultcore.Node) {
	h.mu.Lock()
	var old *vaultcore.Node
	if h.node == now || h.by == s && h.node != next {
		old = h.dropLocked()
	}
	if next != nil && h.node == nil && !h.ended && h.large(next) && h.vault.Open(next, false, false) == nil {
		h.holdLocked(next, s)
	}
	h.mu.Unlock()
	h.release(old)
}

// letGo gives the file back if it has lost its name: what it takes is wanted.
func (h *holder) letGo() {
	h.mu.Lock()
	var old *vaultcore.Node
	if h.node != nil && h.vault.Attr(h.node).Nlink == 0 {
		old = h.dropLocked()
	}
	h.mu.Unlock()
	h.release(old)
}

// large says whether a file is one that is not given to the kernel at OPEN.
func (h *holder) large(n *vaultcore.Node) bool {
	a := h.vault.Attr(n)
	return a.Size > smallFile && a.Nlink > 0
}

func (h *holder) holdLocked(n *vaultcore.Node, by *stream) {
	h.node, h.by = n, by
	h.timer = time.AfterFunc(h.most, func() { h.expire(n) })
	select {
	case h.jobs <- n:
	default: // the one before is still being prepared
	}
}

func (h *holder) expire(n *vaultcore.Node) {
	h.mu.Lock()
	var old *vaultcore.Node
	if h.node == n {
		old = h.dropLocked()
	}
	h.mu.Unlock()
	h.release(old)
}

// dropLocked forgets the file, which the caller gives back once it has
// unlocked mu: giving back may write.
func (h *holder) dropLocked() *vaultcore.Node {
	n := h.node
	if n != nil {
		h.timer.Stop()
		h.node, h.by, h.timer = nil, nil, nil
	}
	return n
}

func (h *holder) release(n *vaultcore.Node) {
	if n != nil {
		h.vault.Release(n, false)
	}
}
