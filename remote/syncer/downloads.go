package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	maxDemand  = 64             // contents asked for, at a time
	maxResumes = 8              // of one download in a row, without progress
	statChunk  = 512            // contents asked for in one StatBlobs
	wantEvery  = 24 * time.Hour // that a content is asked of other devices

	corruptAgain = time.Hour // that one with wrong bytes is fetched again
)

// errCorrupt: the remote has other bytes than the log says.
var errCorrupt = errors.New("the remote holds other bytes than were put there")

// download brings one content here.
func (e *Engine) download(ctx context.Context, j *vaultcore.Job) error {
	ctx, w := newWatch(ctx)
	defer w.stop()
	// Before it is asked for: its author may send it, and say so, behind the answer.
	pending := e.o.Vault.Pending(j.Blob)
	for again := false; ; again = true {
		body := &resuming{ctx: ctx, remote: e.o.Remote, blob: j.Blob.Hex(), w: w}
		err := e.o.Vault.PutBlob(ctx, j.Blob, &sink{Reader: body, lane: e.down, blob: j.Blob, w: w})
		body.close()
		err = w.explain(err)
		bad := errors.Is(err, blob.ErrSize) || errors.Is(err, vaultcore.ErrDamaged)
		if bad && !again {
			continue // once more: it may have been the way
		}
		if bad {
			e.wantOf(j.Blob)
			return blob.WithHint(fmt.Errorf("%w: %w", errCorrupt, err),
				"vaultdrive sync now --heal on a device that has the content puts the true one back")
		}
		if notThere(err) {
			if pending {
				return fmt.Errorf("%w: %w", errNotYet, err)
			}
			e.wantOf(j.Blob)
		}
		if err == nil && j.Tries > 0 {
			err = e.o.Vault.EndJob(ctx, j.Blob)
		}
		return err
	}
}

// errNotYet: a content is not on the remote, and nobody has said that it is. Its
// author may be sending it at this moment.
var errNotYet = errors.New("nobody has sent it yet")

// notThere says that the remote answers, and has no such object.
func notThere(err error) bool { return errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoStore) }

// resuming reads a blob on after a cut.
type resuming struct {
	ctx    context.Context
	remote Remote
	blob   string
	w      *watch
	body   io.ReadCloser
	off    int64
	cuts   int // since the last byte
}

// Read implements io.Reader.
func (r *resuming) Read(p []byte) (int, error) {
	for {
		if r.body == nil {
			body, err := r.remote.GetBlob(r.ctx, r.blob, r.off, -1)
			if err != nil {
				return 0, err
			}
			r.body = body
		}
		n, err := r.body.Read(p)
		r.off += int64(n)
		if n > 0 {
			r.cuts = 0
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		r.close()
		if r.cuts++; r.cuts > maxResumes || r.ctx.Err() != nil || !errors.Is(err, ErrUnavailable) || blob.RetryAfter(err) > 0 {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (r *resuming) close() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

// Fetch brings one content here before all others, for vaultcore.OnFetch. One
// that its author is still sending is waited for. When ctx ends the caller goes,
// the download goes on.
func (e *Engine) Fetch(ctx context.Context, id seal.ID) error {
	leave := e.enter()
	defer leave()
	e.Poke()
	return e.onceSent(ctx, func() error { return e.fetchOnce(ctx, id) })
}

// sentPause is how often a content that is just being sent is looked for.
const sentPause = 250 * time.Millisecond

// onceSent does fetch, and again while the content has not come to the remote
// yet.
func (e *Engine) onceSent(ctx context.Context, fetch func() error) error {
	for {
		err := fetch()
		if !errors.Is(err, errNotYet) {
			return err
		}
		timer := time.NewTimer(sentPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (e *Engine) fetchOnce(ctx context.Context, id seal.ID) error {
	for {
		t, err := e.down.demand(ctx, id)
		if err != nil {
			return err
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !errors.Is(t.err, context.Canceled) || ctx.Err() != nil {
			return t.err
		}
	}
}

// demand joins the transfer of a content, or begins it at once.
func (l *lane) demand(ctx context.Context, id seal.ID) (*transfer, error) {
	for {
		l.mu.Lock()
		if t := l.running[id]; t != nil {
			l.mu.Unlock()
			return t, nil
		}
		if until, closed := l.e.gates.closed(l.gate); closed {
			l.mu.Unlock()
			return nil, &blob.RetryError{After: until.Sub(l.e.o.Now()), Err: errors.New("the remote asked to wait")}
		}
		if l.demanded < maxDemand {
			t := l.start(id)
			l.mu.Unlock()
			return t, nil
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// start begins a transfer beside those of the queue; mu is held.
func (l *lane) start(id seal.ID) *transfer {
	j, queued := l.q.take(id)
	if !queued {
		l.q.add(vaultcore.Job{Blob: id})
		j, _ = l.q.take(id)
	}
	t := l.begin(j)
	t.demanded, t.alone = true, !queued
	l.demanded++
	ctx, leave, ok := l.e.join()
	if !ok {
		panic("syncer: a transfer outside of a session")
	}
	go l.run(ctx, j, t, leave)
	return t
}

// hard enters what is known of a content that is hard to fetch.
func (e *Engine) hard(j vaultcore.Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known[j.Blob] = j.JobState
}

// refreshWanted enters what Prefetch asks for, after the remote was asked for
// those that nobody has confirmed.
func (e *Engine) refreshWanted(ctx context.Context, atOnce bool) error {
	wanted, err := e.o.Vault.WantedBlobs(ctx)
	if err != nil {
		return err
	}
	found, err := e.findPending(ctx, wanted, atOnce)
	if err != nil {
		return err
	}
	if e.o.Metered && !e.forced() {
		return nil
	}
	// What is held is brought here in any case.
	wanted = e.o.Vault.WorthFetching(wanted, e.o.Prefetch == PrefetchPinned || e.o.Prefetch == PrefetchNone)
	jobs := make([]vaultcore.Job, 0, len(wanted))
	for i, w := range wanted {
		if w.Pending && !found[w.Blob] || !e.o.Prefetch.asksFor(w) {
			continue
		}
		e.mu.Lock()
		state := e.known[w.Blob]
		e.mu.Unlock()
		// The newest come first in the list.
		jobs = append(jobs, vaultcore.Job{N: int64(len(wanted) - i), Blob: w.Blob, Size: w.Len, JobState: state})
	}
	e.down.add(jobs...)
	return nil
}

// asksFor says whether a content comes here without being asked for.
func (p Prefetch) asksFor(w vaultcore.WantedBlob) bool {
	switch p {
	case PrefetchNone:
		return w.Held
	case PrefetchPinned:
		return w.Pinned || w.Held
	}
	return true
}

// wantOf asks other devices for a content, once a day.
func (e *Engine) wantOf(id seal.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.o.Now(); now.Sub(e.wantedAt[id]) >= wantEvery {
		e.wantedAt[id] = now
		e.wants = append(e.wants, id)
	}
}
