package backup

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"maps"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// proof is what a backup proves without any key: a chain of headers signed by the
// vault's identity, a manifest signed by one of its devices, and the log of each.
type proof struct {
	m         *seal.Manifest
	newest    *seal.SignedHeader
	envelopes [][]byte
	heads     map[seal.ID]seal.Head
	part      *seal.Batch // the last checkpoint part
}

// headers reads the headers and then checks the manifest's signature.
func (p *proof) headers(ctx context.Context, b *Reader) error {
	p.m, p.heads = b.Manifest, map[seal.ID]seal.Head{}
	err := b.Each(ctx, seal.FileHeader, seal.FileHeader, func(f *seal.BackupFile, body io.Reader) error {
		data, err := whole(f, body)
		if err != nil {
			return err
		}
		if err := p.header(f, data); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrContent, f.Name(), err)
		}
		p.envelopes = append(p.envelopes, data)
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.manifest(b.raw, b.sig); err != nil {
		return fmt.Errorf("%w: %w", ErrContent, err)
	}
	return nil
}

func (p *proof) header(f *seal.BackupFile, data []byte) error {
	h, err := seal.ParseEnvelope(data)
	if err != nil {
		return err
	}
	if h.Vault != p.m.Vault || h.Seq != f.Seq {
		return seal.ErrIdentityMismatch
	}
	if err := h.VerifySignature(p.m.DID); err != nil {
		return err
	}
	if p.newest != nil {
		if err := h.VerifyNext(p.newest); err != nil {
			return err
		}
	}
	p.newest = h
	return nil
}

// manifest: its author is a device of the vault that was not revoked, and the
// epoch is the newest header's.
func (p *proof) manifest(raw, sig []byte) error {
	d, err := p.device(p.m.Device)
	if err != nil {
		return err
	}
	if d.Revoked {
		return fmt.Errorf("%w: manifest of a revoked device", seal.ErrSignature)
	}
	if p.m.Epoch != p.newest.Epoch {
		return fmt.Errorf("%w: manifest of epoch %d, header of epoch %d", seal.ErrFormat, p.m.Epoch, p.newest.Epoch)
	}
	return seal.VerifyManifest(ed25519.PublicKey(d.PK[:]), raw, sig)
}

func (p *proof) device(id seal.ID) (seal.Device, error) {
	if d, ok := p.newest.Roster(id); ok {
		return d, nil
	}
	return seal.Device{}, fmt.Errorf("%w: device %s is not in the roster", seal.ErrSignature, id)
}

// log reads checkpoint and log; each is called with every part and batch that
// passed, in the order of the file, and may be nil.
func (p *proof) log(ctx context.Context, b *Reader, each func(f *seal.BackupFile, frame []byte) error) error {
	err := b.Each(ctx, seal.FileCheckpoint, seal.FileBatch, func(f *seal.BackupFile, body io.Reader) error {
		frame, err := whole(f, body)
		if err != nil {
			return err
		}
		if err := p.batch(f, frame); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrContent, f.Name(), err)
		}
		if each == nil {
			return nil
		}
		return each(f, frame)
	})
	if err != nil {
		return err
	}
	for id, h := range p.heads {
		if p.m.Heads[id] != h {
			return fmt.Errorf("%w: log of device %s does not end where the manifest says", ErrContent, id)
		}
	}
	return nil
}

func (p *proof) batch(f *seal.BackupFile, frame []byte) error {
	parse := seal.ParseBatch
	if f.Kind == seal.FileCheckpoint {
		parse = seal.ParsePart
	}
	batch, err := parse(p.m.Vault, frame)
	if err != nil {
		return err
	}
	d, err := p.device(batch.Device)
	if err != nil {
		return err
	}
	if batch.Device != f.ID || batch.Epoch > p.newest.Epoch {
		return fmt.Errorf("%w: not what its name says", seal.ErrFormat)
	}
	if err := batch.VerifySignature(ed25519.PublicKey(d.PK[:])); err != nil {
		return err
	}
	if f.Kind == seal.FileCheckpoint {
		return p.checkpointPart(f, batch)
	}
	return p.link(f, batch, d)
}

// link continues the chain of a device.
func (p *proof) link(f *seal.BackupFile, batch *seal.Batch, d seal.Device) error {
	if batch.Seq != f.Seq {
		return fmt.Errorf("%w: not the number in its name", seal.ErrFormat)
	}
	if cut := p.newest.Cut[d.ID]; d.Revoked && batch.Seq > cut.Seq {
		return fmt.Errorf("%w: a revoked device went on", seal.ErrSignature)
	}
	head, begun := p.heads[d.ID]
	// Where a checkpoint covers the start of a chain, only its key tells the hash
	// of what came before.
	if begun || batch.Seq == 1 {
		if err := batch.Follows(head); err != nil {
			return err
		}
	}
	p.heads[d.ID] = batch.Head()
	return nil
}

// checkpointPart continues the chain of parts.
func (p *proof) checkpointPart(f *seal.BackupFile, part *seal.Batch) error {
	head := seal.Head{}
	if p.part != nil {
		if p.part.Device != part.Device || p.part.Epoch != part.Epoch {
			return fmt.Errorf("%w: parts of two checkpoints", seal.ErrFormat)
		}
		head = p.part.Head()
	}
	if f.Part != 0 && f.Part != part.Seq {
		return fmt.Errorf("%w: not the number in its name", seal.ErrFormat)
	}
	if err := part.Follows(head); err != nil {
		return err
	}
	p.part = part
	return nil
}

// Report says what a backup has been found to be.
type Report struct {
	Manifest *seal.Manifest
	Size     int64
	Headers  int
	Batches  int
	Blobs    int
	Bytes    int64 // of blobs
	Opened   bool  // with the password
}

// Report says what the manifest announces; nothing of it is proved yet.
func (b *Reader) Report() *Report {
	r := &Report{Manifest: b.Manifest, Size: b.Size}
	for i := range b.Manifest.Files {
		switch f := &b.Manifest.Files[i]; f.Kind {
		case seal.FileHeader:
			r.Headers++
		case seal.FileBatch:
			r.Batches++
		case seal.FileBlob:
			r.Blobs++
			r.Bytes += f.Size
		}
	}
	return r
}

// Check proves a backup without a password: layout, hashes, headers and their
// signatures, the manifest's, every chain of the log and its end. did is what the
// vault is known by, empty if nobody knows: then the caller shows Manifest.DID to
// somebody who does. Errors: ErrLayout, ErrHash, ErrContent, ErrForeign, those of
// r. It holds one batch in memory, and some hundred bytes for each member.
func Check(ctx context.Context, r io.Reader, did string, progress func(done, total int64)) (*Report, error) {
	b, err := NewReader(r, progress)
	if err != nil {
		return nil, err
	}
	p := &proof{}
	if err := p.begin(ctx, b, did); err != nil {
		return nil, err
	}
	if err := p.log(ctx, b, nil); err != nil {
		return nil, err
	}
	if err := b.rest(ctx, nil); err != nil {
		return nil, err
	}
	return b.Report(), nil
}

// begin reads what everything else depends on.
func (p *proof) begin(ctx context.Context, b *Reader, did string) error {
	if did != "" && b.Manifest.DID != did {
		return fmt.Errorf("%w: %s", ErrForeign, b.Manifest.DID)
	}
	return p.headers(ctx, b)
}

// rest reads the contents and the end.
func (b *Reader) rest(ctx context.Context, fn func(f *seal.BackupFile, body io.Reader) error) error {
	if fn == nil {
		fn = func(*seal.BackupFile, io.Reader) error { return nil }
	}
	if err := b.Each(ctx, seal.FileBlob, seal.FileBlob, fn); err != nil {
		return err
	}
	return b.End()
}

// sameHeads compares what a log came to with what the manifest says.
func sameHeads(got, want map[seal.ID]seal.Head) bool { return maps.Equal(got, want) }
