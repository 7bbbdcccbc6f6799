package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// RebuildOptions say which vault comes back out of its headers and its log.
type RebuildOptions struct {
	Home     string   // directory to make; must not exist, or be empty
	Label    string   // local name; empty: the directory's
	Name     string   // of this device, for others
	Password []byte   // of the newest header; the caller's to wipe
	Headers  [][]byte // envelopes, ascending, all there are
	KDF      KDF      // nil: InProcessKDF
	// Contents are those that will follow the log; where a file's newest one is
	// not among them, the nearest earlier one is shown.
	Contents []seal.ID
	// Enroll puts this device into the roster at once. Without it the vault
	// seals nothing until its device is enrolled on top of the newest header
	// there is elsewhere.
	Enroll bool
}

// Rebuild is a vault on its way back: the home is made beside its place, filled
// with the log, then with contents, and gets its name at the end.
type Rebuild struct {
	CreateResult
	Enrolled *seal.SignedHeader // that names this device; nil unless asked for

	v      *Vault
	temp   string
	lock   *os.File
	wanted map[seal.ID]WantedBlob // nil until the first content
	parts  []seal.ID              // written and not in place yet
	bytes  int64                  // of those
}

// What is made durable at a time.
const (
	rebuildParts = 1000
	rebuildBytes = 256 << 20
)

// NewRebuild accepts the headers by the password and makes the home. The caller
// calls Publish or Abort in the end. Errors: ErrWrongPassword, ErrForeignHeader,
// ErrExist, those of the disk.
func NewRebuild(ctx context.Context, o RebuildOptions) (*Rebuild, error) {
	header, err := headerChain(o.Headers, lastDID(o.Headers))
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	c := CreateOptions{Home: o.Home, Label: o.Label, Password: o.Password, KDF: o.KDF, Vault: header.Vault, Params: header.KDF, known: true}
	if c, err = c.complete(); err != nil {
		return nil, err
	}
	kek, err := c.KDF(ctx, o.Password, header.KDF)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer kek.Wipe()
	// The key is derived once, for the header and for the unlock.
	c.KDF = func(context.Context, []byte, seal.KDFParams) (seal.Key, error) { return seal.KeyFromBytes(kek.Bytes()) }
	parent := filepath.Dir(c.Home)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, homeDiskError("restore", err)
	}
	removeUnfinished(parent)
	r := &Rebuild{}
	if r.temp, r.lock, err = newHome(parent); err != nil {
		return nil, homeDiskError("restore", err)
	}
	if err := r.build(ctx, header, c, o); err != nil {
		return nil, errors.Join(err, r.Abort())
	}
	return r, nil
}

func lastDID(envelopes [][]byte) string {
	if len(envelopes) == 0 {
		return ""
	}
	h, err := seal.ParseEnvelope(envelopes[len(envelopes)-1])
	if err != nil {
		return ""
	}
	return h.DID
}

func (r *Rebuild) build(ctx context.Context, header *seal.SignedHeader, c CreateOptions, o RebuildOptions) error {
	made, err := buildJoined(ctx, r.temp, header, c, withPassword(c.Password), o.Enroll)
	if err != nil {
		return err
	}
	r.CreateResult, r.Enrolled = made.CreateResult, nil
	if o.Enroll {
		if r.Enrolled, err = seal.ParseEnvelope(made.Header); err != nil {
			return err
		}
	}
	if err := recordHeaders(filepath.Join(r.temp, dbName), o.Headers); err != nil {
		return err
	}
	if r.v, err = Open(ctx, r.temp, Credentials{Password: o.Password}, Options{KDF: c.KDF}); err != nil {
		return err
	}
	if err := r.v.EnableLedger(ctx, o.Name); err != nil {
		return err
	}
	l, err := r.v.lockLedger(ctx)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	l.coming = make(map[seal.ID]bool, len(o.Contents))
	for _, id := range o.Contents {
		l.coming[id] = true
	}
	return nil
}

// Spool makes a file without a name for sealed bytes that are needed meanwhile.
func (r *Rebuild) Spool() (*os.File, error) {
	f, err := os.CreateTemp(r.temp, "spool-")
	if err != nil {
		return nil, homeDiskError("restore", err)
	}
	return f, os.Remove(f.Name())
}

// LoadCheckpoint takes the checkpoint that the log begins with; fetch as of
// Vault.LoadCheckpoint.
func (r *Rebuild) LoadCheckpoint(ctx context.Context, id CheckpointID, fetch func(ctx context.Context, part int) ([]byte, error)) error {
	return r.v.LoadCheckpoint(ctx, id, fetch)
}

// Receive takes batches of the log. All of them count: an error names the first
// that does not.
func (r *Rebuild) Receive(ctx context.Context, frames ...[]byte) error {
	got, err := r.v.Receive(ctx, frames...)
	if err == nil && len(got.Refused) > 0 {
		err = got.Refused[0]
	}
	return err
}

// Heads and State are what the log has come to; batches that still wait for
// others are not in them.
func (r *Rebuild) Heads(ctx context.Context) (map[seal.ID]seal.Head, error) { return r.v.Heads(ctx) }

// State is the hash over all tips.
func (r *Rebuild) State(ctx context.Context) ([32]byte, error) { return r.v.State(ctx) }

// Wanted gives the contents that live files need and that have not come.
func (r *Rebuild) Wanted(ctx context.Context) (map[seal.ID]WantedBlob, error) {
	if r.wanted != nil {
		return r.wanted, nil
	}
	all, err := r.v.WantedBlobs(ctx)
	if err != nil {
		return nil, err
	}
	r.wanted = make(map[seal.ID]WantedBlob, len(all))
	for _, w := range all {
		r.wanted[w.Blob] = w
	}
	return r.wanted, nil
}

// Put takes a content, which body gives whole and verified. One that no file
// needs is not read.
func (r *Rebuild) Put(ctx context.Context, id seal.ID, body io.Reader) error {
	wanted, err := r.Wanted(ctx)
	if err != nil {
		return err
	}
	w, ok := wanted[id]
	if !ok {
		return nil
	}
	if err := r.v.writeBlobPart(&w, body); err != nil {
		return err
	}
	delete(wanted, id)
	r.parts, r.bytes = append(r.parts, id), r.bytes+w.Len
	if len(r.parts) >= rebuildParts || r.bytes >= rebuildBytes {
		return r.flush()
	}
	return nil
}

// flush makes what was written durable, gives it its names, then says so in the
// rows.
func (r *Rebuild) flush() error {
	names := make([]string, len(r.parts))
	for i, id := range r.parts {
		names[i] = partName(id)
	}
	dir := r.v.attachments
	if err := dir.SyncFiles(names, syncParallel); err != nil {
		return err
	}
	for _, id := range r.parts {
		if err := dir.Rename(partName(id), binName(id)); err != nil {
			return err
		}
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	err := r.place(r.parts)
	r.parts, r.bytes = nil, 0
	return err
}

// Place says that contents are here which an overlay will give (Options.Overlay).
func (r *Rebuild) Place(ctx context.Context, ids []seal.ID) error {
	wanted, err := r.Wanted(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		delete(wanted, id)
	}
	return r.place(ids)
}

func (r *Rebuild) place(ids []seal.ID) error {
	_, err := r.v.com.do(func(t *txn) error {
		for _, id := range ids {
			if err := t.exec("UPDATE asset_attachments SET place=? WHERE blob=? AND place=0", int64(placeBin), id[:]); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// Publish ends the work: the vault is closed, durable and in its place. What
// others said to be on a remote is forgotten, since that may be gone too.
func (r *Rebuild) Publish(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Abort())
		}
	}()
	if len(r.parts) > 0 {
		if err := r.flush(); err != nil {
			return err
		}
	}
	if _, err := r.v.com.do(func(t *txn) error { return t.exec("DELETE FROM blob_presence") }); err != nil {
		return err
	}
	v := r.v
	r.v = nil
	if err := v.Close(ctx); err != nil {
		return err
	}
	if err := syncTree(r.temp); err != nil {
		return homeDiskError("restore", err)
	}
	if err := publishHome(r.temp, r.Home); err != nil {
		return err
	}
	r.temp = ""
	return errors.Join(homeDiskError("restore", syncPath(filepath.Dir(r.Home))), r.lock.Close())
}

// Abort leaves nothing behind. After Publish it does nothing.
func (r *Rebuild) Abort() error {
	var errs []error
	if r.v != nil {
		errs = append(errs, r.v.Close(context.Background()))
		r.v = nil
	}
	if r.temp != "" {
		errs = append(errs, os.RemoveAll(r.temp), r.lock.Close())
		r.temp = ""
	}
	return errors.Join(errs...)
}

// CheckManifest checks the MAC of a backup's manifest. Error: seal.ErrAuth.
func (r *Rebuild) CheckManifest(manifest, mac []byte) error {
	return r.v.keys.withEpoch(0, func(k *seal.EpochKeys) error { return k.CheckManifestMAC(manifest, mac) })
}
