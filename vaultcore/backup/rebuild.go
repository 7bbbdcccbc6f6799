package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Opening says how a backup is opened.
type Opening struct {
	// Password gives the password of the backup, which is that of the time it was
	// made in; it is asked for when the backup has proved what can be proved
	// without. The caller wipes it.
	Password func(ctx context.Context, m *seal.Manifest) ([]byte, error)
	KDF      vaultcore.KDF
	DID      string // of the vault; empty if nobody knows
	Name     string // of this device
	Progress func(done, total int64)
	Log      *slog.Logger // of the vault in it, by ids only; nil: discarded
}

// rebuilder is a backup whose log is being replayed.
type rebuilder struct {
	b *Reader
	p *proof
	r *vaultcore.Rebuild
}

// What is replayed at a time.
const (
	replayFrames = 16
	replayBytes  = 4 << 20
)

// rebuild reads everything in front of the contents and makes of it a vault on
// its way back, which the caller publishes or aborts.
func rebuild(ctx context.Context, src io.Reader, o Opening, home vaultcore.RebuildOptions) (_ *rebuilder, err error) {
	b, err := NewReader(src, o.Progress)
	if err != nil {
		return nil, err
	}
	x := &rebuilder{b: b, p: &proof{}}
	if err := x.p.begin(ctx, b, o.DID); err != nil {
		return nil, err
	}
	if home.Password, err = o.Password(ctx, b.Manifest); err != nil {
		return nil, err
	}
	home.Headers, home.KDF, home.Name = x.p.envelopes, o.KDF, o.Name
	for i := range b.Manifest.Files {
		if f := &b.Manifest.Files[i]; f.Kind == seal.FileBlob {
			home.Contents = append(home.Contents, f.ID)
		}
	}
	if x.r, err = vaultcore.NewRebuild(ctx, home); err != nil {
		if errors.Is(err, vaultcore.ErrWrongPassword) || errors.Is(err, seal.ErrPassword) {
			err = blob.WithHint(blob.WithSaying(err, "wrong password"), hintPassword)
		}
		return nil, err
	}
	if err := x.replay(ctx); err != nil {
		_ = x.r.Abort() // the first error is the one to tell
		return nil, err
	}
	return x, nil
}

// A later change of the vault's password does not reach the backups before it.
const hintPassword = "nothing was changed; it is the password that the vault had when the backup was made, which may be an earlier one"

// replay takes the log in and holds the outcome against the manifest.
func (x *rebuilder) replay(ctx context.Context) error {
	if err := x.r.CheckManifest(x.b.raw, x.b.mac); err != nil {
		return fmt.Errorf("%w: %w", ErrContent, err)
	}
	var frames [][]byte
	size := 0
	flush := func() error {
		if len(frames) == 0 {
			return nil
		}
		err := x.r.Receive(ctx, frames...)
		frames, size = nil, 0
		if err != nil {
			return fmt.Errorf("%w: %w", ErrContent, err)
		}
		return nil
	}
	parts := &spool{x: x}
	defer parts.close()
	err := x.p.log(ctx, x.b, func(f *seal.BackupFile, frame []byte) error {
		if f.Kind == seal.FileCheckpoint {
			return parts.add(ctx, f, frame)
		}
		frames, size = append(frames, frame), size+len(frame)
		if len(frames) < replayFrames && size < replayBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return x.compare(ctx)
}

// compare: every batch counts, the state is the one that was signed, and what the
// files need is in the backup or called missing.
func (x *rebuilder) compare(ctx context.Context) error {
	heads, err := x.r.Heads(ctx)
	if err != nil {
		return err
	}
	state, err := x.r.State(ctx)
	if err != nil {
		return err
	}
	m := x.b.Manifest
	delete(heads, x.r.Device) // enrolled, it has begun a log of its own
	if !sameHeads(heads, m.Heads) || state != m.State {
		return fmt.Errorf("%w: its log does not lead to the state that was signed", ErrContent)
	}
	wanted, err := x.r.Wanted(ctx)
	if err != nil {
		return err
	}
	found := 0
	for i := range m.Files {
		f := &m.Files[i]
		if w, ok := wanted[f.ID]; ok && f.Kind == seal.FileBlob {
			if w.Len != f.Size || w.SHA256 != f.Hash {
				return fmt.Errorf("%w: %s is not what the log says", ErrContent, f.Name())
			}
			found++
		}
	}
	for _, id := range m.Missing {
		if _, ok := wanted[id]; ok {
			found++
		}
	}
	if found != len(wanted) {
		return fmt.Errorf("%w: contents of live files are left out", ErrContent)
	}
	return nil
}

// Verify is Check, and with the password: it opens the newest header, the
// manifest's MAC is right, the log replays to the state that was signed, and every
// content of a live file is there. The rows lie, sealed, in a directory below
// parent, which is gone afterwards.
func Verify(ctx context.Context, src io.Reader, o Opening, parent string) (*Report, error) {
	removeViews(parent)
	dir, lock, err := newViewDir(parent)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer os.RemoveAll(dir) // whoever comes next tries again
	x, err := rebuild(ctx, src, o, vaultcore.RebuildOptions{Home: filepath.Join(dir, "vault"), Label: viewLabel})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(x.b.rest(ctx, nil), x.r.Abort()); err != nil {
		return nil, err
	}
	r := x.b.Report()
	r.Opened = true
	return r, nil
}

// Restored is a vault that came back.
type Restored struct {
	*Report
	vaultcore.CreateResult
	Enrolled bool // its device is in the roster
}

// Restore makes the vault of a backup the local vault again, under a device of
// its own. Nothing of it appears in its place before all of it has been verified
// and is durable. Enroll says that no remote is left: the device enters the
// roster at once; without, the vault seals nothing until it is enrolled.
func Restore(ctx context.Context, src io.Reader, o Opening, home, label string, enroll bool) (*Restored, error) {
	x, err := rebuild(ctx, src, o, vaultcore.RebuildOptions{Home: home, Label: label, Enroll: enroll})
	if err != nil {
		return nil, err
	}
	err = x.b.rest(ctx, func(f *seal.BackupFile, body io.Reader) error { return x.r.Put(ctx, f.ID, body) })
	if err == nil {
		err = x.r.Publish(ctx)
	}
	if err != nil {
		_ = x.r.Abort() // the first error is the one to tell
		return nil, err
	}
	r := &Restored{Report: x.b.Report(), CreateResult: x.r.CreateResult, Enrolled: enroll}
	r.Opened = true
	return r, nil
}
