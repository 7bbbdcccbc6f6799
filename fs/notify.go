package fs

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// maxNames is how many names of one directory wait to be announced singly;
// beyond, the directory is listed and every name in it announced.
const maxNames = 4096

// notifier tells the kernel what changed beside it: by a command, later by
// sync. One goroutine of its own does it, after the vault has published the
// change, because a notification waits for the kernel's lock of the
// directory or page, and a request that holds it waits for its answer from
// here. So no handler notifies, and none waits for the notifier.
type notifier struct {
	// Set at construction and by start.
	vault  *vaultcore.Vault
	log    *slog.Logger
	kernel *kernelConn

	wake chan struct{}
	quit chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	pending *announcements
	stopped bool
	queued  uint64 // changes taken in
	sent    uint64 // of them announced
	waiting []waiter
}

type waiter struct {
	upTo uint64
	done chan struct{}
}

// announcements are changes folded together: a thousand changes of one
// directory drop its listing once.
type announcements struct {
	dirs    map[*vaultcore.Node]*dirChange
	nodes   map[*vaultcore.Node]bool // true: the bytes too
	removed []vaultcore.Change
}

type dirChange struct {
	names map[string]struct{}
	all   bool // more than maxNames: those that are there are found by listing
}

func newAnnouncements() *announcements {
	return &announcements{dirs: make(map[*vaultcore.Node]*dirChange), nodes: make(map[*vaultcore.Node]bool)}
}

func (a *announcements) dir(n *vaultcore.Node) *dirChange {
	d := a.dirs[n]
	if d == nil {
		d = &dirChange{names: make(map[string]struct{})}
		a.dirs[n] = d
	}
	return d
}

func newNotifier(v *vaultcore.Vault, log *slog.Logger) *notifier {
	return &notifier{
		vault: v, log: log, pending: newAnnouncements(),
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
}

// start begins to announce to the kernel; changes may have queued before.
func (q *notifier) start(c *kernelConn) {
	q.kernel = c
	q.done.Add(1)
	go func() {
		defer q.done.Done()
		q.run()
	}()
}

// stop ends the goroutine and frees who waits. What is still queued is for a
// kernel that has let go of the mount.
func (q *notifier) stop() {
	close(q.quit)
	q.done.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.pending = newAnnouncements()
	q.sentLocked(q.queued)
}

// push takes changes in. It never blocks: the vault calls it from wherever
// the change was made.
func (q *notifier) push(changes []vaultcore.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	for _, c := range changes {
		q.addLocked(c)
	}
	q.queued += uint64(len(changes))
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *notifier) addLocked(c vaultcore.Change) {
	switch c.Kind {
	case vaultcore.ChangeEntry:
		q.nameLocked(c.Dir, c.Name)
	case vaultcore.ChangeAttr:
		if _, known := q.pending.nodes[c.Node]; !known {
			q.pending.nodes[c.Node] = false
		}
	case vaultcore.ChangeContent:
		q.pending.nodes[c.Node] = true
	case vaultcore.ChangeRemovedDir:
		q.pending.dir(c.Dir)
		q.pending.removed = append(q.pending.removed, c)
	}
}

// nameLocked notes a name. In a directory with too many of them, only those
// that a listing would not find are kept.
func (q *notifier) nameLocked(dir *vaultcore.Node, name string) {
	d := q.pending.dir(dir)
	if len(d.names) < maxNames {
		d.names[name] = struct{}{}
		return
	}
	d.all = true
	if _, _, err := q.vault.Lookup(dir, name); err != nil {
		d.names[name] = struct{}{}
	}
}

// settled waits until everything taken in so far has been announced.
func (q *notifier) settled(ctx context.Context) error {
	q.mu.Lock()
	if q.stopped || q.sent == q.queued {
		q.mu.Unlock()
		return nil
	}
	w := waiter{q.queued, make(chan struct{})}
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *notifier) sentLocked(upTo uint64) {
	q.sent = upTo
	left := q.waiting[:0]
	for _, w := range q.waiting {
		if w.upTo <= upTo {
			close(w.done)
		} else {
			left = append(left, w)
		}
	}
	q.waiting = left
}

func (q *notifier) run() {
	for {
		select {
		case <-q.quit:
			return
		case <-q.wake:
		}
		q.mu.Lock()
		batch, upTo := q.pending, q.queued
		q.pending = newAnnouncements()
		q.mu.Unlock()

		q.announce(batch)

		q.mu.Lock()
		q.sentLocked(upTo)
		q.mu.Unlock()
	}
}

// announce tells the kernel, names first and listings after them: dropping a
// name waits for listings under way, whose answers may be old, and dropping
// the listing then throws away what they brought. Whatever the kernel does
// not know has no Ref and needs no word.
func (q *notifier) announce(a *announcements) {
	for dir, change := range a.dirs {
		q.names(dir, change)
	}
	for _, c := range a.removed {
		q.removed(c)
	}
	for dir := range a.dirs {
		q.inode(dir, true)
	}
	for n, content := range a.nodes {
		q.inode(n, content)
	}
}

func (q *notifier) names(dir *vaultcore.Node, change *dirChange) {
	for name := range change.names {
		q.entry(dir, name)
	}
	if !change.all {
		return
	}
	// A directory that is gone by now has said so in a change of its own.
	_ = q.vault.ReadDir(dir, cookieParent, func(e *vaultcore.DirEntry) bool {
		q.entry(dir, e.Name)
		return true
	})
}

// entry drops what the kernel knows of a name, also that it is absent.
func (q *notifier) entry(dir *vaultcore.Node, name string) {
	if id := dir.Ref.Load(); id != 0 {
		q.result("entry", q.kernel.EntryNotify(id, name))
	}
}

// removed tells those who watch a directory or stand in it that it is gone.
// Their use of it must not keep the name alive.
func (q *notifier) removed(c vaultcore.Change) {
	parent := c.Dir.Ref.Load()
	if parent == 0 {
		return
	}
	if child := c.Node.Ref.Load(); child != 0 && q.kernel.DeleteNotify(parent, child, c.Name) == fuse.OK {
		return
	}
	q.result("entry", q.kernel.EntryNotify(parent, c.Name))
}

// inode drops cached attributes and, if the bytes changed, pages; those of a
// directory are its listing.
func (q *notifier) inode(n *vaultcore.Node, bytes bool) {
	id := n.Ref.Load()
	if id == 0 {
		return
	}
	off := int64(-1)
	if bytes {
		off = 0
		// What is being pushed may be of before the change, what comes is not.
		n.Kept.Store(false)
		q.vault.AwaitStill(n)
	}
	q.result("inode", q.kernel.InodeNotify(id, off, 0))
}

// result notes what the kernel answered. ENOENT means that it has nothing to
// drop; anything after the end of the mount is of no interest.
func (q *notifier) result(what string, st fuse.Status) {
	if !st.Ok() && st != fuse.ENOENT {
		q.log.Debug("notification refused", slog.String("what", what), slog.Int("errno", int(st)))
	}
}
