package syncer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Prefetch says which contents are brought here without being asked for.
type Prefetch string

// The ways to prefetch. The zero value is PrefetchAll.
const (
	PrefetchAll    Prefetch = "all"
	PrefetchPinned Prefetch = "pinned"
	PrefetchNone   Prefetch = "none"
)

// Options are what an engine works with.
type Options struct {
	Vault  *vaultcore.Vault
	Remote Remote
	Log    *slog.Logger     // ids only; nil: discarded
	Now    func() time.Time // nil: time.Now

	Prefetch  Prefetch
	UpLimit   int64       // bytes a second; 0: none
	DownLimit int64       // bytes a second; 0: none
	Metered   bool        // the network costs: no prefetch, no large uploads, few polls
	Busy      func() bool // the mount has work, uploads give way; nil: never
}

// Engine makes a vault and its remote agree. It never ends because of what a
// remote does, and never removes anything here because of what a remote says.
// All methods are safe for concurrent use.
type Engine struct {
	// Set at construction.
	o        Options
	gates    gates
	cond     conditions
	unread   unread
	up, down *lane
	turn     chan struct{} // one round at a time
	woken    chan struct{} // for Run
	commits  chan struct{} // the vault has changed, maybe
	looked   chan struct{} // the remote was looked at, for listen

	sessions sessions
	notes    sentNotes
	checking atomic.Int64 // bytes at the remote that healing has yet to read

	mu sync.Mutex // guards what follows; nothing is waited for under it
	loopState
	loaded     bool
	remote     seal.ID // id in the marker
	caps       Caps
	cursor     []byte                         // of the last look
	lastJob    int64                          // stored jobs up to this are in the lanes
	backlog    int64                          // stored jobs up to this are of an earlier session
	shared     bool                           // others may have sent what is in it
	known      map[seal.ID]vaultcore.JobState // of contents that are hard to fetch
	wants      []seal.ID                      // to ask of others with the next batch
	wantedAt   map[seal.ID]time.Time
	runs       int  // of Run
	unsettled  bool // something was put since the last Settle
	settling   bool
	refresh    bool   // what is wanted may have changed
	bootHeader uint64 // whose boot token the remote was told; 0: none
	beyond     bool   // the remote has batches in our name that are not here
	chains     map[seal.ID]*chain
	withheld   map[seal.ID]uint64 // batches that others named, and that were not waited for any longer
	rows       rowState
	spent      spentState
	asking     pendingState
	limits     *Limits // as the remote said last
}

// New gives an engine. It starts nothing and asks the remote nothing.
func New(o Options) *Engine {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Busy == nil {
		o.Busy = func() bool { return false }
	}
	e := &Engine{
		o: o, gates: gates{v: o.Vault, now: o.Now}, cond: conditions{now: o.Now},
		turn: make(chan struct{}, 1), woken: make(chan struct{}, 1), commits: make(chan struct{}, 1), looked: make(chan struct{}, 1),
		known: make(map[seal.ID]vaultcore.JobState), wantedAt: make(map[seal.ID]time.Time), chains: make(map[seal.ID]*chain), withheld: make(map[seal.ID]uint64),
	}
	e.cond.tell = func(c Condition, alarm bool) {
		switch {
		case alarm:
			o.Vault.Alarm(c.Kind, c.Text+"; "+c.Hint)
		case c.Kind != CondOffline: // which is no event where laptops travel
			o.Vault.Report(c.Kind, c.Text)
		}
	}
	o.Vault.OnCorrupt(e.falseThere)
	e.notes.write = o.Vault.Sent
	e.up, e.down = newLane(e, true, o.UpLimit), newLane(e, false, o.DownLimit)
	return e
}

// load takes what is stored, once.
func (e *Engine) load(ctx context.Context) error {
	e.mu.Lock()
	loaded := e.loaded
	e.mu.Unlock()
	if loaded {
		return nil
	}
	v := e.o.Vault
	id, shared, err := e.remoteID(ctx)
	if err != nil {
		return err
	}
	caps, err := e.o.Remote.Caps(ctx)
	if err != nil {
		return err
	}
	cursor, err := v.Cursor(ctx)
	if err != nil {
		return err
	}
	pushed, err := v.LastPushed(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(e.gates.load(ctx, id), v.QueueUploads(ctx)); err != nil {
		return err
	}
	unsaid, err := v.Unsaid(ctx, 1)
	if err != nil {
		return err
	}
	sealed, err := e.lastLife(ctx)
	if err != nil {
		return err
	}
	e.up.pushed(pushed)
	e.mu.Lock()
	e.sealed = sealed
	e.remote, e.shared, e.caps, e.cursor = id, shared, caps, cursor
	e.refresh, e.unpushed, e.hint = true, true, true
	e.rows.due, e.rows.all = true, true
	if len(unsaid) > 0 {
		e.unsaid = e.o.Now()
	}
	e.loaded = true
	e.mu.Unlock()
	if err := e.loadJobs(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.backlog = e.lastJob
	return nil
}

// lastLife is when this device last said something; zero if it never did.
func (e *Engine) lastLife(ctx context.Context) (time.Time, error) {
	devices, err := e.o.Vault.Devices(ctx)
	for _, d := range devices {
		if d.This && d.LastChange != nil {
			return *d.LastChange, err
		}
	}
	return time.Time{}, err
}

// remoteID is the number in the marker: as kept, or as the remote says. shared:
// others used the remote before this device did.
func (e *Engine) remoteID(ctx context.Context) (id seal.ID, shared bool, err error) {
	r, ok, err := e.o.Vault.Remote(ctx)
	if err != nil || ok {
		return r.ID, r.Shared, err
	}
	b, err := e.o.Remote.Get(ctx, MarkerKey)
	if err != nil {
		return seal.ID{}, false, err
	}
	m, err := ParseMarker(b)
	if err != nil {
		return seal.ID{}, false, err
	}
	id, err = seal.ParseHex(m.Remote)
	return id, true, err
}

// sessions counts who works; transfers live as long as somebody does.
type sessions struct {
	mu   sync.Mutex
	open *session // nil: nobody works
}

type session struct {
	users  int
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// enter begins a session or joins the open one. The last to leave ends all
// transfers and waits for them.
func (e *Engine) enter() (leave func()) {
	s := &e.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = &session{}
		s.open.ctx, s.open.cancel = context.WithCancel(context.Background())
	}
	mine := s.open
	mine.users++
	return func() {
		s.mu.Lock()
		mine.users--
		last := mine.users == 0
		if last {
			s.open = nil
		}
		s.mu.Unlock()
		if last {
			mine.cancel()
			mine.wg.Wait()
		}
	}
}

// join gives a transfer the context of the open session; false without one.
func (e *Engine) join() (ctx context.Context, leave func(), ok bool) {
	s := &e.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return nil, nil, false
	}
	s.open.wg.Add(1)
	return s.open.ctx, s.open.wg.Done, true
}

// take waits for the turn.
func (e *Engine) take(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) give() { <-e.turn }

// SyncNow makes vault and remote agree at once: looks at everything there and
// takes it, seals, pushes, uploads, and fetches what Prefetch asks for. It
// returns when all is done; what could not be done is the error.
func (e *Engine) SyncNow(ctx context.Context) error { return e.syncNow(ctx, nil) }

// Publish is the part of SyncNow without contents: others see at once what there is.
func (e *Engine) Publish(ctx context.Context) error {
	defer e.enter()()
	if err := e.begin(ctx); err != nil {
		return err
	}
	return e.syncLog(ctx, nil)
}

// begin is for who wants something at once.
func (e *Engine) begin(ctx context.Context) error {
	e.Poke()
	err := e.load(ctx)
	if err != nil {
		e.meet(err)
	}
	return err
}

// syncNow is SyncNow, with healing if h is not nil.
func (e *Engine) syncNow(ctx context.Context, h *healing) error {
	defer e.enter()()
	if err := e.begin(ctx); err != nil {
		return err
	}
	if err := e.syncLog(ctx, h); err != nil {
		return err
	}
	errs := e.syncContents(ctx, h)
	// A connection that broke in the middle says nothing about the remote, which may
	// have been started anew: who asks for all of it waits for another look.
	for range goesOnAfter {
		if ctx.Err() != nil || !e.up.isHeld() && !e.down.isHeld() {
			break
		}
		if h != nil && h.done {
			h = nil // it reads all that is there: once is enough
		}
		if err := e.syncLog(ctx, h); err != nil {
			return err
		}
		errs = e.syncContents(ctx, h)
	}
	if e.isOnline() {
		e.askLimits(ctx) // what went there, or away, has changed them
	}
	return errors.Join(append(errs, e.trouble())...)
}

// goesOnAfter is how often SyncNow begins again when the remote stopped answering
// after it had answered.
const goesOnAfter = 2

// syncContents is the part of SyncNow about contents, and what is said of them.
func (e *Engine) syncContents(ctx context.Context, h *healing) (errs []error) {
	if h != nil {
		errs = append(errs, h.contents(ctx))
	}
	errs = append(errs, e.up.drain(ctx, true))
	errs = append(errs, e.say(ctx), e.projectNow(ctx), e.readAgain(ctx), e.down.drain(ctx, true))
	e.tendNow(ctx)
	return append(errs, e.settleSoon(ctx))
}

// syncLog is the part of SyncNow about headers and batches.
func (e *Engine) syncLog(ctx context.Context, h *healing) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	err := e.round(ctx, step{poll: true, reconcile: true, seal: true, everything: true, empty: e.silent(), push: true})
	if err == nil && h != nil {
		err = h.log(ctx)
	}
	return err
}

// silent says that this device has never said anything.
func (e *Engine) silent() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sealed.IsZero()
}

// say tells the others what was uploaded.
func (e *Engine) say(ctx context.Context) error {
	e.mu.Lock()
	due := !e.unsaid.IsZero() || len(e.wants) > 0
	e.mu.Unlock()
	if !due {
		return nil
	}
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	return e.round(ctx, step{seal: true, everything: true, push: true})
}

// trouble is the conditions that keep SyncNow from having done all.
func (e *Engine) trouble() error {
	if !e.cond.has(stopping()...) {
		return nil
	}
	var errs []error
	for _, m := range meanings {
		if m.stops && e.cond.has(m.kind) {
			errs = append(errs, m.asError())
		}
	}
	return errors.Join(errs...)
}

// Wait returns when the contents of these attachments, nil for all, and the
// batches that name them are confirmed on the remote. Errors: what only a person
// can put right, that of ctx, with what is in the way.
func (e *Engine) Wait(ctx context.Context, ids []seal.ID) error {
	defer e.enter()()
	e.Poke()
	var last error
	for again := true; ; again = false { // later a back-off is heeded
		done, err := e.confirm(ctx, ids, again)
		if done {
			return nil
		}
		if err != nil {
			last = err
		}
		if err != nil && (e.up.stuck() || e.cond.has(stopping()...)) {
			return err // nothing but a person changes that
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(waitStep):
		}
	}
}

const waitStep = 500 * time.Millisecond

// confirm does what Wait waits for and says whether it is done.
func (e *Engine) confirm(ctx context.Context, ids []seal.ID, again bool) (bool, error) {
	if err := e.load(ctx); err != nil {
		return false, err
	}
	if err := e.take(ctx); err != nil {
		return false, err
	}
	err := e.round(ctx, step{poll: !e.isOnline(), seal: true, everything: true, push: true})
	e.give()
	if err != nil {
		return false, err
	}
	err = e.up.drain(ctx, again)
	left, lerr := e.o.Vault.Unconfirmed(ctx, ids)
	if err = errors.Join(err, lerr); lerr != nil || left > 0 {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.unpushed, err
}

// Poke says that something changed here or that a file was asked for: the vault
// is in use, so the remote is asked more often.
func (e *Engine) Poke() {
	now := e.o.Now()
	e.mu.Lock()
	idle := now.Sub(e.used) > pollInUse
	e.used = now
	e.mu.Unlock()
	if idle {
		e.wake()
	}
}

// Transferring says whether contents are on their way at this moment.
func (e *Engine) Transferring() bool { return e.up.moves() || e.down.moves() }

// wake has Run decide again.
func (e *Engine) wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}
