package vaultcore

import (
	"bytes"
	"context"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Batches calls fn with every batch of the snapshot's log, in the order in which
// they were accepted: each comes after those it names.
func (s *Snapshot) Batches(ctx context.Context, fn func(device seal.ID, seq uint64, frame []byte) error) error {
	type stored struct {
		device seal.ID
		seq    uint64
		frame  []byte
	}
	for after := int64(0); after < s.last; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var page []stored
		err := s.query("SELECT b,device,seq,bytes FROM batches WHERE b>? AND b<=? ORDER BY b LIMIT 16", func(c []dbValue) error {
			r := rowScanner{c: c}
			after = r.num()
			page = append(page, stored{r.id(), uint64(r.num()), bytes.Clone(r.blob())})
			return nil
		}, after, s.last)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, b := range page {
			if b.seq > s.Heads[b.device].Seq || s.covered(b.device, b.seq) {
				continue
			}
			if err := fn(b.device, b.seq, b.frame); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Snapshot) covered(device seal.ID, seq uint64) bool {
	return s.Checkpoint != nil && seq <= s.Checkpoint.Heads[device]
}

func (s *Snapshot) query(sql string, fn func([]dbValue) error, args ...dbValue) error {
	s.v.readMu.Lock()
	defer s.v.readMu.Unlock()
	if s.v.reader == nil {
		return ErrClosed
	}
	return s.v.reader.query(sql, fn, args...)
}

// OpenBlob gives the sealed bytes of a content; the caller closes it.
func (s *Snapshot) OpenBlob(b *SnapshotBlob) (io.ReadCloser, error) {
	if b.c.place.Load() == placeFresh {
		if buf, err := b.c.loadFresh(s.v.store); err == nil {
			return io.NopCloser(bytes.NewReader(buf.b)), nil
		}
	}
	f, err := s.v.attachments.Open(binName(b.ID))
	return f, damaged(err)
}

// Sign gives signature and MAC of a manifest.
func (s *Snapshot) Sign(manifest []byte) (sig, mac []byte, err error) {
	signer := s.v.keys.signer()
	if signer == nil {
		return nil, nil, ErrClosed
	}
	defer signer.Wipe()
	err = s.v.keys.withEpoch(s.Header.Epoch, func(k *seal.EpochKeys) error {
		mac = k.ManifestMAC(manifest)
		return nil
	})
	return seal.SignManifest(signer, manifest), mac, err
}

// Close lets go of the contents and of the log. It may be called twice.
func (s *Snapshot) Close() {
	if l := s.l; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	s.release()
}

// release is Close with the ledger locked.
func (s *Snapshot) release() {
	if s.l != nil {
		s.l.snapshots--
		s.l = nil
	}
	for _, b := range s.Blobs {
		b.c.release()
	}
	s.Blobs = nil
}
