package syncer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// errHere marks a content of this device that is not what it should be.
var errHere = errors.New("the copy on this device")

// loadJobs enters the stored jobs that are new.
func (e *Engine) loadJobs(ctx context.Context) error {
	e.mu.Lock()
	after := e.lastJob
	e.mu.Unlock()
	jobs, err := e.o.Vault.Jobs(ctx, after)
	if err != nil {
		return err
	}
	var up []vaultcore.Job
	for _, j := range jobs {
		after = max(after, j.N)
		j.JobState = sinceStart(j.JobState, e.o.Now())
		if j.Up {
			up = append(up, j)
		} else {
			e.hard(j)
		}
	}
	e.mu.Lock()
	e.lastJob = max(e.lastJob, after)
	e.mu.Unlock()
	e.up.add(up...)
	return nil
}

// sinceStart is a stored state without a time that no failure can have set before
// now: the clock was put back.
func sinceStart(s vaultcore.JobState, now time.Time) vaultcore.JobState {
	if s.Until.Sub(now) > max(corruptAgain, retryMost) {
		s.Until = time.Time{}
	}
	return s
}

// upload sends one content and notes that it is there.
func (e *Engine) upload(ctx context.Context, j *vaultcore.Job) error {
	src, err := e.o.Vault.UploadSource(ctx, j.Blob)
	if errors.Is(err, vaultcore.ErrNotFound) {
		e.o.Log.Info("content replaced before it was sent", "blob", j.Blob.Hex(), "err", err)
		return nil
	}
	if errors.Is(err, vaultcore.ErrDamaged) {
		return fmt.Errorf("%w: %w", errHere, err)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	ctx, w := newWatch(ctx)
	defer w.stop()
	if there, err := e.sentBefore(ctx, j, src.Len); err != nil {
		return w.explain(err)
	} else if there {
		return e.sent(ctx, j.Blob)
	}
	content, err := verified(ctx, src)
	if err != nil {
		return fmt.Errorf("blob %s: %w", j.Blob.Hex(), err)
	}
	up := Upload{
		Blob: j.Blob.Hex(), Size: src.Len, SHA256: src.SHA256, Again: j.Again, State: j.Upload,
		Save: func(state []byte) error {
			j.Upload = state
			return e.o.Vault.SaveJob(context.WithoutCancel(ctx), *j)
		},
		Sent: w.moved,
	}
	wrote, err := e.addRow(ctx, &up, j.Blob)
	if err != nil {
		return err
	}
	err = e.o.Remote.PutBlob(ctx, up, &source{ReaderAt: content, size: src.Len, lane: e.up, blob: j.Blob, w: w, seen: make(map[int64]bool)})
	if err != nil {
		return w.explain(err)
	}
	if err := wrote(); err != nil {
		return err
	}
	return e.sent(ctx, j.Blob)
}

// sentBefore says whether the remote has a content already: another device that
// has it moved there first, or this one came back. Only a backlog is asked for.
func (e *Engine) sentBefore(ctx context.Context, j *vaultcore.Job, size int64) (bool, error) {
	e.mu.Lock()
	ask := e.shared && j.N <= e.backlog && !j.Again && j.Upload == nil
	e.mu.Unlock()
	if !ask {
		return false, nil
	}
	there, err := e.Confirm(ctx, []vaultcore.WantedBlob{{Blob: j.Blob, Len: size}})
	return len(there) > 0, err
}

// sent notes that the remote has a content.
func (e *Engine) sent(ctx context.Context, blob seal.ID) error {
	e.up.came(blob)
	if err := e.notes.note(ctx, blob); err != nil {
		return err
	}
	e.uploaded()
	return nil
}

// verified reads a content once before a byte of it goes out: what was put under
// a name stays there. A small one is in memory then.
func verified(ctx context.Context, src *vaultcore.UploadSource) (io.ReaderAt, error) {
	if src.Len <= smallSize {
		return verifiedSmall(src)
	}
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for in := io.NewSectionReader(src, 0, src.Len); ; {
		n, err := in.Read(buf)
		h.Write(buf[:n]) // never fails
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errHere, err)
		}
	}
	if [32]byte(h.Sum(nil)) != src.SHA256 {
		return nil, errChanged()
	}
	return src, nil
}

func verifiedSmall(src *vaultcore.UploadSource) (io.ReaderAt, error) {
	content := make([]byte, src.Len)
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, src.Len), content); err != nil {
		return nil, fmt.Errorf("%w: %w", errHere, err)
	}
	if sha256.Sum256(content) != src.SHA256 {
		return nil, errChanged()
	}
	return bytes.NewReader(content), nil
}

func errChanged() error {
	return fmt.Errorf("%w: %w: its bytes have changed since it was saved", errHere, vaultcore.ErrDamaged)
}

// uploaded notes that others have to be told.
func (e *Engine) uploaded() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unsettled, e.rows.due = true, true
	if e.unsaid.IsZero() {
		e.unsaid = e.o.Now()
	}
}

// transferKinds are the conditions that single transfers bring about; each goes
// with the last of them.
var transferKinds = []string{CondFull, CondTooLarge, CondDamaged, CondContent, CondMissing, CondDisk}

// clearTransfers clears the conditions that no transfer is held up by any more.
func (e *Engine) clearTransfers() {
	e.clearHeld(transferKinds...)
}

// clearHeld clears conditions unless a transfer is held up by them.
func (e *Engine) clearHeld(kinds ...string) {
	for _, kind := range kinds {
		if e.cond.has(kind) && !e.up.has(kind) && !e.down.has(kind) && !e.unread.has(kind, e.o.Now()) {
			e.cond.clear(kind)
		}
	}
}

// transferFailed tells a person what a failed transfer means, and gives the kind
// of condition that holds it up.
func (e *Engine) transferFailed(j vaultcore.Job, err error) (why string) {
	name := e.nameOf(j.Blob)
	object := name + " (" + blobObject(j.Blob) + ")"
	m := meaningOf(err)
	switch {
	case errors.Is(err, errNotYet):
		return ""
	case ofRemote(err):
		e.meet(err)
		return ""
	case errors.Is(err, ErrFull), errors.Is(err, vaultcore.ErrNoSpace):
		e.cond.set(m.kind, m.text, m.hint)
		return m.kind
	case errors.Is(err, ErrTooLarge):
		m.text += ": " + name
	case errors.Is(err, errHere):
		m = meaning{kind: CondDamaged, text: "the copy on this device cannot be sent, its bytes have changed: " + name,
			hint: "copy the file over it from a backup or from another device"}
	case errors.Is(err, errCorrupt):
		m = meaning{kind: CondContent, text: "the remote holds other bytes than were put there: " + object, hint: healHint}
	case errors.Is(err, ErrOtherBytes):
		m = meaning{kind: CondContent, text: "the remote holds other bytes under the name of a content: " + object, hint: healHint}
	case j.Up:
		e.lookSoon() // is it the remote as a whole?
		return ""
	case errors.Is(err, ErrNotFound):
		m = meaning{kind: CondMissing, text: "a content is not on the remote although it was sent there: " + name,
			hint: "a device that has it is asked to send it again; `vaultdrive sync now --heal` there does it at once"}
	default:
		e.lookSoon()
		return ""
	}
	e.cond.raise(m.kind, m.text, m.hint)
	return m.kind
}

// healHint is about objects that are not what was put there.
const healHint = "`vaultdrive sync now --heal` on a device that has the true one puts it in the place of the false one; what no device wrote may be deleted there"

// blobObject is the key of a content on the remote.
func blobObject(blob seal.ID) string { return "blobs/" + blob.Hex() + ".bin" }

// nameOf names a content to a person: the files that show it, or its id.
func (e *Engine) nameOf(blob seal.ID) string {
	if paths := e.o.Vault.BlobPaths(blob); len(paths) > 0 {
		return strings.Join(paths, ", ")
	}
	return "content " + blob.Hex()
}
