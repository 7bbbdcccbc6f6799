package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const copyBuffer = 1 << 20

// Backup is a backup about to be written: manifest and layout are fixed, and so
// is its size.
type Backup struct {
	Manifest *seal.Manifest
	Size     int64 // bytes of the whole file

	s             *vaultcore.Snapshot
	raw, sig, mac []byte
}

// Options say how a backup is made.
type Options struct {
	Name string    // of this device, should its log begin now
	Now  time.Time // of the backup
	// AllowMissing makes a backup in which contents are missing, and names them
	// in the manifest. Without it that is ErrIncomplete.
	AllowMissing bool
}

// Prepare takes a snapshot of the vault and makes its manifest. The caller closes
// the result. Errors: ErrIncomplete, vaultcore.ErrUnlisted, those of the disk.
func Prepare(ctx context.Context, v *vaultcore.Vault, o Options) (*Backup, error) {
	s, err := v.Snapshot(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	b := &Backup{s: s}
	if err := b.prepare(ctx, v, o); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Backup) prepare(ctx context.Context, v *vaultcore.Vault, o Options) (err error) {
	if gone := b.Incomplete(); len(gone) > 0 && !o.AllowMissing {
		return fmt.Errorf("%w: %s", ErrIncomplete, some(gone))
	}
	s := b.s
	b.Manifest = &seal.Manifest{
		Vault: s.Header.Vault, DID: s.Header.DID, Device: s.Device, Created: o.Now.Unix(),
		Epoch: s.Header.Epoch, Heads: s.Heads, State: s.State,
	}
	for _, m := range s.Missing {
		b.Manifest.Missing = append(b.Manifest.Missing, m.ID)
	}
	if err := b.listFiles(ctx); err != nil {
		return err
	}
	if b.raw, err = b.Manifest.Encode(); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if b.sig, b.mac, err = s.Sign(b.raw); err != nil {
		return err
	}
	b.Size = fileSize(b.Manifest, int64(len(b.raw)))
	return nil
}

// Incomplete lists the files whose newest content is not in the backup.
func (b *Backup) Incomplete() (paths []string) {
	for _, m := range b.s.Missing {
		paths = append(paths, m.Path)
	}
	paths = append(paths, b.s.Damaged...)
	slices.Sort(paths)
	return slices.Compact(paths)
}

// some names the first of a list.
func some(paths []string) string {
	const most = 5
	if len(paths) <= most {
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(paths[:most], ", "), len(paths)-most)
}

func (b *Backup) listFiles(ctx context.Context) error {
	m := b.Manifest
	for i, h := range b.s.Headers {
		m.Files = append(m.Files, seal.BackupFile{Kind: seal.FileHeader, Seq: uint64(i) + 1, Size: int64(len(h)), Hash: sha256.Sum256(h)})
	}
	err := b.parts(ctx, func(f seal.BackupFile, frame []byte) error {
		f.Size, f.Hash = int64(len(frame)), sha256.Sum256(frame)
		m.Files = append(m.Files, f)
		return nil
	})
	if err != nil {
		return err
	}
	err = b.s.Batches(ctx, func(device seal.ID, seq uint64, frame []byte) error {
		m.Files = append(m.Files, seal.BackupFile{Kind: seal.FileBatch, ID: device, Seq: seq, Size: int64(len(frame)), Hash: sha256.Sum256(frame)})
		return nil
	})
	for i := range b.s.Blobs {
		blob := &b.s.Blobs[i]
		m.Files = append(m.Files, seal.BackupFile{Kind: seal.FileBlob, ID: blob.ID, Size: blob.Len, Hash: blob.SHA256})
	}
	return err
}

// parts calls fn with the parts of the checkpoint, if there is one.
func (b *Backup) parts(ctx context.Context, fn func(f seal.BackupFile, frame []byte) error) error {
	c := b.s.Checkpoint
	if c == nil {
		return nil
	}
	for part := 1; part <= c.Parts+1; part++ {
		frame, err := b.s.Part(ctx, part)
		if err != nil {
			return err
		}
		f := seal.BackupFile{Kind: seal.FileCheckpoint, ID: c.Device, Seq: c.Seq, Part: uint64(part)}
		if part > c.Parts {
			f.Part = 0
		}
		if err := fn(f, frame); err != nil {
			return err
		}
	}
	return nil
}

// fileSize adds up the whole file.
func fileSize(m *seal.Manifest, manifest int64) int64 {
	n := memberSize(nameManifest, manifest) + memberSize(nameSig, seal.BackupSigSize) + memberSize(nameMAC, seal.BackupMACSize)
	for i := range m.Files {
		n += memberSize("", m.Files[i].Size)
	}
	return n + trailerSize
}

// WriteTo writes the backup. A content that is not any more what its row says is
// vaultcore.ErrDamaged, and what was written then is worth nothing.
func (b *Backup) WriteTo(ctx context.Context, w io.Writer) error {
	t := &tarWriter{w: w, mtime: b.Manifest.Created, buf: make([]byte, copyBuffer)}
	for _, m := range []struct {
		name string
		data []byte
	}{{nameManifest, b.raw}, {nameSig, b.sig}, {nameMAC, b.mac}} {
		if err := t.bytes(m.name, m.data); err != nil {
			return err
		}
	}
	files := b.Manifest.Files
	for _, h := range b.s.Headers {
		if err := t.bytes(files[0].Name(), h); err != nil {
			return err
		}
		files = files[1:]
	}
	err := b.parts(ctx, func(_ seal.BackupFile, frame []byte) error {
		f := &files[0]
		if f.Kind != seal.FileCheckpoint || int64(len(frame)) != f.Size {
			return errLogChanged()
		}
		files = files[1:]
		return t.bytes(f.Name(), frame)
	})
	if err != nil {
		return err
	}
	err = b.s.Batches(ctx, func(device seal.ID, seq uint64, frame []byte) error {
		f := &files[0]
		if f.Kind != seal.FileBatch || f.ID != device || f.Seq != seq || int64(len(frame)) != f.Size {
			return errLogChanged()
		}
		files = files[1:]
		return t.bytes(f.Name(), frame)
	})
	if err != nil {
		return err
	}
	if len(files) != len(b.s.Blobs) {
		return errLogChanged()
	}
	for i := range b.s.Blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.writeBlob(t, &files[i], &b.s.Blobs[i]); err != nil {
			return err
		}
	}
	_, err = w.Write(make([]byte, trailerSize))
	return err
}

// errLogChanged: a month's log was put together into a checkpoint, or a
// revocation took a part of it back.
func errLogChanged() error {
	return fmt.Errorf("%w: the log changed while it was written: try again", vaultcore.ErrBusy)
}

func (b *Backup) writeBlob(t *tarWriter, f *seal.BackupFile, blob *vaultcore.SnapshotBlob) error {
	src, err := b.s.OpenBlob(blob)
	if err != nil {
		return err
	}
	defer src.Close()
	sum, err := t.member(f.Name(), f.Size, src)
	if err == nil && sum != f.Hash {
		err = fmt.Errorf("%w: content %s is not what it was when it was sealed", vaultcore.ErrDamaged, f.ID.Hex())
	}
	return err
}

// Close lets go of the snapshot.
func (b *Backup) Close() { b.s.Close() }

type tarWriter struct {
	w     io.Writer
	mtime int64
	buf   []byte
}

func (t *tarWriter) bytes(name string, data []byte) error {
	_, err := t.member(name, int64(len(data)), bytes.NewReader(data))
	return err
}

// member writes size bytes of r and gives their hash.
func (t *tarWriter) member(name string, size int64, r io.Reader) (sum [32]byte, err error) {
	if _, err := t.w.Write(memberHead(name, size, t.mtime)); err != nil {
		return sum, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(t.w, h)}, onlyReader{io.LimitReader(r, size)}, t.buf)
	if err != nil {
		return sum, err
	}
	if n != size {
		return sum, fmt.Errorf("%w: %s has %d bytes, not %d", vaultcore.ErrDamaged, name, n, size)
	}
	_, err = t.w.Write(make([]byte, padding(size)))
	return [32]byte(h.Sum(nil)), err
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, so that copies go in
// pieces of the buffer.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
