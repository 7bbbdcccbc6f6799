package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Kinds of conditions.
const (
	CondForeign   = "foreign-remote"   // another vault's marker
	CondNoStore   = "remote-missing"   // no such bucket, directory not mounted
	CondDenied    = "access-denied"    // credentials, permissions
	CondUntrusted = "certificate"      // who answers cannot prove to be the remote
	CondClock     = "clock"            // ours differs too much
	CondOffline   = "offline"          // no answer
	CondFull      = "remote-full"      // no space, or quota used up
	CondTooLarge  = "file-too-large"   // for this remote
	CondCloned    = "local-rollback"   // our own chain went on elsewhere
	CondFork      = "fork"             // two histories of one device
	CondLost      = "remote-lost"      // something that was there is not
	CondContent   = "content-altered"  // on the remote
	CondMissing   = "content-missing"  // on the remote, though it was sent
	CondAltered   = "object-altered"   // bytes that are not those that were put
	CondDamaged   = "file-damaged"     // a content here that cannot be sent
	CondUnknown   = "unknown-device"   // a batch of a device in no header
	CondStale     = "stale-batch"      // a batch of a revoked device or an epoch that is over
	CondPassword  = "password-changed" // its new one has to be given
	CondRevoked   = "device-revoked"   // this one was shut out
	CondNewer     = "newer-version"    // somebody writes what this program does not know
	CondGap       = "batches-missing"  // batches in between are not there
	CondWithheld  = "batches-withheld" // named by others, delivered by nobody
	CondPeerClock = "device-clock"     // another device's clock is wrong
	CondDisk      = "disk-full"        // ours
	CondLocal     = "local-disk"       // the vault's own database or disk
	CondStartOver = "start-over"       // the remote keeps less than we need
	CondPoint     = "checkpoint-wrong" // a checkpoint that does not agree with the log
)

// meaning is what an error of a remote or a chain says to a person.
type meaning struct {
	err        error
	kind       string
	text, hint string
	stops      bool // nothing is written there while it lasts
}

// meanings are looked through in order: the first in an error's chain counts.
var meanings = []meaning{
	{ErrForeign, CondForeign, "the place of the remote belongs to another vault, or sync was enabled there anew",
		"nothing was changed on either side; check the address, or disable sync and enable it again", true},
	{ErrNoStore, CondNoStore, "the place of the remote is not there", "is the disk plugged in, the directory mounted, the bucket not deleted?", true},
	{ErrDenied, CondDenied, "the remote denies access", "check the credentials and permissions of the bucket or directory", true},
	{ErrUntrusted, CondUntrusted, "the remote's certificate is not trusted", "nothing was sent; look at the address, at the date of this machine, and at who made the certificate: an authority of your own has to be known to this system", true},
	{ErrClock, CondClock, "the clock of this machine differs too much from the remote's", "set the date and time", true},
	{vaultcore.ErrLocalRollback, CondCloned, "this device's own history has gone on elsewhere: the vault's directory is an older copy, or a copy is in use on another machine",
		"nothing is lost and work can go on; use one copy only, or give this one an identity of its own: unmount it first, then `vaultdrive device enroll --new-id`", true},
	{seal.ErrFork, CondFork, "two histories of one device were seen", "the vault is read-only until that is settled; see the alarms, and revoke the device if it is not under your control", true},
	{vaultcore.ErrRevoked, CondRevoked, "this device was revoked: it syncs no more", "what it holds stays readable; to use the vault here again, join it as a new device", true},
	{vaultcore.ErrNewEpoch, CondPassword, "the password was changed on another device, or a device was revoked",
		"give the password of now once: vaultdrive passwd --accept, or the next mount; files saved meanwhile are safe here and travel afterwards; if no password of yours is right, somebody who knows an old one made it: vaultdrive passwd --refuse", false},
	{vaultcore.ErrUnknownDevice, CondUnknown, "a batch of a device that no header of the vault knows", "it is not applied; was a device revoked, or is somebody writing to the remote?", false},
	{vaultcore.ErrStaleEpoch, CondStale, "a batch of a revoked device, or of a password that is over", "it is never applied; change the remote's credentials if that device should not write there", false},
	{seal.ErrNewer, CondNewer, "another device writes what this version does not know", "update the program on this device", false},
	{seal.ErrGap, CondGap, "batches of another device are missing on the remote", "run `vaultdrive sync now --heal` on a device that has them", false},
	{vaultcore.ErrWithheld, CondWithheld, "batches that others know have not been delivered", "they are applied when they come; is every device's remote the same?", false},
	{vaultcore.ErrClock, CondPeerClock, "the clock of another device, or of this one, is wrong", "set date and time; what was saved in the future is taken when its time has come", false},
	{vaultcore.ErrCheckpoint, CondPoint, "a checkpoint on the remote is not what the log says",
		"it is not used, and nothing is dropped for it; is the device that made it under your control?", false},
	{seal.ErrSignature, CondAltered, "an object on the remote is not what its author wrote", healHint, false},
	{seal.ErrFormat, CondAltered, "an object on the remote is not what its author wrote", healHint, false},
	{seal.ErrRollback, CondAltered, "an object on the remote is an older one in another's place", healHint, false},
	{ErrOtherBytes, CondAltered, "an object on the remote is not what was written there", healHint, false},
	{vaultcore.ErrNoSpace, CondDisk, "the disk of this device is full", "make room; contents are fetched then", false},
	{ErrFull, CondFull, "the remote is full", "make room there; files saved meanwhile wait here", false},
	{ErrTooLarge, CondTooLarge, "a file is too large for the remote", "it stays on this device only", false},
	{ErrStartOver, CondStartOver, "the remote no longer keeps all that this device missed", "it is taken from the newest checkpoint", false},
	{ErrUnavailable, CondOffline, "the remote does not answer", "it is tried again by itself", false},
	{context.DeadlineExceeded, CondOffline, "the remote does not answer in time", "it is tried again by itself", false},
}

// meaningOf finds what an error means; a local trouble if it is none of those.
func meaningOf(err error) meaning {
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			if hint := blob.Hint(err); hint != "" {
				m.hint = hint
			}
			return m
		}
	}
	return meaning{err, CondLocal, "synchronisation met an error on this machine", "see the log", false}
}

// says is the text with the object that it is about: somebody has to look for it
// at the remote.
func (m meaning) says(err error) string {
	switch m.kind {
	case CondAltered, CondUnknown, CondStale, CondNewer, CondPoint, CondPeerClock:
		return m.text + ": " + err.Error()
	}
	return m.text
}

// standing is a condition as an error: its cause, in the words for a person.
type standing struct{ meaning }

func (s standing) Error() string { return s.text }
func (s standing) Unwrap() error { return s.err }

func (m meaning) asError() error { return blob.WithHint(standing{m}, m.hint) }

// ofRemote says whether an error is about the remote as a whole, so that every
// other request would meet it too.
func ofRemote(err error) bool {
	return errors.Is(err, ErrForeign) || errors.Is(err, ErrNoStore) || errors.Is(err, ErrDenied) || errors.Is(err, ErrUntrusted) || errors.Is(err, ErrClock)
}

// conditions are what a person should know now, one a kind.
type conditions struct {
	now func() time.Time
	// tell is called with every condition that is new; nil: nobody. alarm: status
	// shows it until the vault is closed.
	tell func(c Condition, alarm bool)

	mu    sync.Mutex
	list  map[string]Condition
	texts map[string][]string // of the kinds that may be about several things
	old   map[string]bool     // kinds that a look at everything has not met again yet
}

// several are the kinds of which each is about one object or device: all of them are
// named.
var several = []string{CondContent, CondMissing, CondDamaged, CondTooLarge, CondAltered, CondUnknown, CondStale, CondNewer, CondPeerClock}

const (
	maxTexts = 100 // remembered of a kind
	maxNamed = 8   // shown
)

// namely joins the texts of a kind: what they begin with alike is said once.
func namely(texts []string) string {
	out := texts[0]
	said, _, _ := strings.Cut(out, ": ")
	for _, text := range texts[1:min(len(texts), maxNamed)] {
		if rest, like := strings.CutPrefix(text, said+": "); like {
			out += ", " + rest
		} else {
			out += "; " + text
		}
	}
	if more := len(texts) - maxNamed; more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

// note enters what a condition of a kind says, and says all of it, and whether it
// is new; mu is held.
func (c *conditions) note(kind, text string) (all string, fresh bool) {
	if !slices.Contains(several, kind) {
		return text, false
	}
	if c.texts == nil {
		c.texts = make(map[string][]string)
	}
	if texts := c.texts[kind]; !slices.Contains(texts, text) && len(texts) < maxTexts {
		c.texts[kind], fresh = append(texts, text), true
	}
	return namely(c.texts[kind]), fresh
}

// set enters a condition; one that is there keeps its time. It says whether it
// is new.
func (c *conditions) set(kind, text, hint string) bool { return c.enter(kind, text, hint, false) }

// raise is set for what a person has to know also when it has passed.
func (c *conditions) raise(kind, text, hint string) { c.enter(kind, text, hint, true) }

func (c *conditions) enter(kind, text, hint string, alarm bool) bool {
	c.mu.Lock()
	old, known := c.list[kind]
	if !known {
		old.Since = c.now()
	}
	if c.list == nil {
		c.list = make(map[string]Condition)
	}
	all, another := c.note(kind, text)
	is := Condition{Kind: kind, Text: all, Hint: hint, Since: old.Since, Raised: old.Raised || alarm}
	c.list[kind] = is
	delete(c.old, kind)
	c.mu.Unlock()
	if c.tell != nil && (!known || another && alarm) {
		is.Text = text
		c.tell(is, alarm)
	}
	return !known
}

// get gives the condition of a kind, if there is one.
func (c *conditions) get(kind string) (Condition, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	is, ok := c.list[kind]
	return is, ok
}

func (c *conditions) clear(kinds ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range kinds {
		delete(c.list, kind)
		delete(c.texts, kind)
	}
}

// doubt begins a look at everything that enters these kinds again where they are still
// so; settle ends it and drops the others.
func (c *conditions) doubt(kinds ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old = make(map[string]bool)
	for _, kind := range kinds {
		if _, is := c.list[kind]; is {
			c.old[kind] = true
			delete(c.texts, kind)
		}
	}
}

func (c *conditions) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind := range c.old {
		delete(c.list, kind)
	}
	c.old = nil
}

func (c *conditions) has(kinds ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(kinds, func(kind string) bool { _, ok := c.list[kind]; return ok })
}

func (c *conditions) all() []Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Condition, 0, len(c.list))
	for _, condition := range c.list {
		out = append(out, condition)
	}
	slices.SortFunc(out, func(a, b Condition) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}

// stopping are the kinds while which nothing is said on the remote.
func stopping() (kinds []string) {
	for _, m := range meanings {
		if m.stops {
			kinds = append(kinds, m.kind)
		}
	}
	return kinds
}
