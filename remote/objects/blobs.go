package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Uploads in parts begin above wholeMax; the part size is that of CRYPTO.md.
const (
	wholeMax    = 16 << 20 // bytes
	minPartSize = 16 << 20
	partUnit    = 1 << 20
	usualParts  = 9_999 // of 10,000, so that rounding never passes it
	compareStep = 256 << 10
)

func blobKey(id string) (string, error) {
	if !syncer.ValidBlob(id) {
		return "", fmt.Errorf("blob %.40q: %w", id, syncer.ErrKey)
	}
	return "blobs/" + id + ".bin", nil
}

// GetBlob implements syncer.Remote.
func (r *Remote) GetBlob(ctx context.Context, id string, off, n int64) (io.ReadCloser, error) {
	key, err := blobKey(id)
	if err == nil {
		err = r.checkMarker(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r.store.Get(ctx, r.base+key, off, n)
}

// StatBlobs implements syncer.Remote.
func (r *Remote) StatBlobs(ctx context.Context, ids []string) ([]int64, error) {
	if err := r.checkMarker(ctx); err != nil {
		return nil, err
	}
	sizes := make([]int64, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, id := range ids {
		key, err := blobKey(id)
		if err != nil {
			_ = group.Wait() // the key is what is wrong
			return nil, err
		}
		group.Go(func() error {
			attrs, err := r.store.Head(ctx, r.base+key)
			sizes[i] = attrs.Size
			if errors.Is(err, blob.ErrNotFound) {
				sizes[i], err = syncer.Missing, nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return sizes, nil
}

// PutBlob implements syncer.Remote.
func (r *Remote) PutBlob(ctx context.Context, up syncer.Upload, content io.ReaderAt) error {
	key, err := blobKey(up.Blob)
	if err == nil && up.Size < 0 {
		err = fmt.Errorf("blob %s of %d bytes: %w", up.Blob, up.Size, syncer.ErrKey)
	}
	if err == nil {
		err = r.checkMarker(ctx)
	}
	if err != nil {
		return err
	}
	if limit := r.o.Caps.MaxBlob; limit > 0 && up.Size > limit {
		return fmt.Errorf("put %s: %d bytes of at most %d: %w", key, up.Size, limit, syncer.ErrTooLarge)
	}
	s := sending{r: r, up: up, key: r.base + key, content: content}
	if err := s.send(ctx); err != nil {
		return err
	}
	r.announceBlob()
	_ = r.ring(ctx, false) // the blob is there; Settle tells if nobody hears of it
	return nil
}

// sending is one call of PutBlob.
type sending struct {
	r       *Remote
	up      syncer.Upload
	key     string
	content io.ReaderAt
	mu      sync.Mutex // around Save
}

func (s *sending) send(ctx context.Context) error {
	if s.up.Again || !s.r.o.Caps.CreateOnly {
		if err := s.compare(ctx); !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	if s.up.Size <= wholeMax || s.r.o.Caps.PartMax == 0 {
		err := s.r.store.Put(ctx, s.key, io.NewSectionReader(s.content, 0, s.up.Size), s.up.Size, true)
		if errors.Is(err, blob.ErrExist) {
			return stillThere(s.compare(ctx))
		}
		if err == nil && s.up.Sent != nil {
			s.up.Sent(s.up.Size)
		}
		return err
	}
	return s.sendParts(ctx)
}

// compare is nil if the store has these bytes under the name, ErrOtherBytes if
// others, ErrNotFound if none.
func (s *sending) compare(ctx context.Context) error {
	attrs, err := s.r.store.Head(ctx, s.key)
	if err != nil {
		return err
	}
	if attrs.Size != s.up.Size {
		return fmt.Errorf("%s has %d bytes there and %d here: %w", s.key, attrs.Size, s.up.Size, syncer.ErrOtherBytes)
	}
	body, err := s.r.store.Get(ctx, s.key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	same, err := sameBytes(body, io.NewSectionReader(s.content, 0, s.up.Size))
	if err == nil && !same {
		err = fmt.Errorf("%s: %w", s.key, syncer.ErrOtherBytes)
	}
	return err
}

func sameBytes(a, b io.Reader) (bool, error) {
	left, right := make([]byte, compareStep), make([]byte, compareStep)
	for {
		n, errA := io.ReadFull(a, left)
		m, errB := io.ReadFull(b, right)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if !bytes.Equal(left[:n], right[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return true, nil
		}
	}
}

// uploadState is what lets another process go on.
type uploadState struct {
	ID       string `json:"id"`
	PartSize int64  `json:"part"`
}

// partSize gives the size of all parts but the last.
func partSize(size int64, caps syncer.Caps) int64 {
	parts := int64(usualParts)
	if caps.MaxParts > 1 {
		parts = min(parts, int64(caps.MaxParts)-1)
	}
	part := max(minPartSize, (size+parts-1)/parts)
	part = (part + partUnit - 1) / partUnit * partUnit
	return max(part, caps.PartMin)
}

func (s *sending) sendParts(ctx context.Context) error {
	up, err := s.open(ctx)
	if errors.Is(err, errThere) {
		return s.save(nil)
	}
	if err == nil {
		up, err = s.fill(ctx, up)
	}
	if err == nil {
		err = s.r.store.Finish(ctx, up, true)
		err = s.finished(ctx, up, err)
	}
	return err
}

// errThere: the blob turned out to be complete already.
var errThere = errors.New("blob is there already")

// open takes up the upload that was begun, or begins one.
func (s *sending) open(ctx context.Context) (blob.Upload, error) {
	var state uploadState
	if len(s.up.State) > 0 && json.Unmarshal(s.up.State, &state) == nil && state.ID != "" && state.PartSize > 0 {
		up, err := s.r.store.Start(ctx, blob.Upload{Key: s.key, ID: state.ID, PartSize: state.PartSize})
		if !errors.Is(err, blob.ErrNotFound) {
			return up, err
		}
		// Nobody knows it any more: finished with the answer lost, or too old.
		if err := s.compare(ctx); err == nil {
			return blob.Upload{}, errThere
		} else if !errors.Is(err, blob.ErrNotFound) {
			return blob.Upload{}, err
		}
	}
	up, err := s.r.store.Start(ctx, blob.Upload{Key: s.key, PartSize: partSize(s.up.Size, s.r.o.Caps)})
	if err != nil {
		return blob.Upload{}, err
	}
	b, err := json.Marshal(uploadState{ID: up.ID, PartSize: up.PartSize})
	if err != nil {
		return blob.Upload{}, err
	}
	return up, s.save(b)
}

func (s *sending) save(state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up.Save == nil {
		return nil
	}
	return s.up.Save(state)
}

// fill sends the parts that are missing.
func (s *sending) fill(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	count := int((s.up.Size + up.PartSize - 1) / up.PartSize)
	parts := make([]blob.Part, count)
	for _, p := range up.Parts {
		if p.Number >= 1 && p.Number <= count && p.Size == s.length(up, p.Number) {
			parts[p.Number-1] = p
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(s.r.o.Caps.Parallel, 1))
	for i := range parts {
		if parts[i].Number != 0 {
			continue
		}
		group.Go(func() error {
			n := s.length(up, i+1)
			part, err := s.r.store.Part(ctx, up, i+1, io.NewSectionReader(s.content, int64(i)*up.PartSize, n), n)
			parts[i] = part
			if err == nil && s.up.Sent != nil {
				s.up.Sent(n)
			}
			return err
		})
	}
	err := group.Wait()
	up.Parts = parts
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		err = s.startOver(err) // the upload was thrown away under us
	}
	return up, err
}

func (s *sending) length(up blob.Upload, number int) int64 {
	return min(up.PartSize, s.up.Size-int64(number-1)*up.PartSize)
}

// finished makes sense of what the store said at the end. In doubt it looks.
func (s *sending) finished(ctx context.Context, up blob.Upload, err error) error {
	switch {
	case err == nil:
		err = s.measure(ctx)
	case errors.Is(err, blob.ErrExist):
		if err = stillThere(s.compare(ctx)); err == nil {
			s.abandon(ctx, up)
		}
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore):
		if looked := s.compare(ctx); !errors.Is(looked, blob.ErrNotFound) {
			err = looked
			break
		}
		return s.startOver(err)
	case errors.Is(err, blob.ErrSize):
		s.abandon(ctx, up) // parts that the store no longer has as it told us
		return s.startOver(err)
	}
	if err == nil {
		err = s.save(nil)
	}
	return err
}

func (s *sending) abandon(ctx context.Context, up blob.Upload) {
	up.Parts = nil
	_ = s.r.store.Finish(ctx, up, true) // else the store's own rule throws it away
}

// startOver forgets an upload, so that the next attempt begins a new one.
func (s *sending) startOver(err error) error {
	return errors.Join(fmt.Errorf("%w: the store lost the upload (%v)", syncer.ErrUnavailable, err), s.save(nil))
}

// measure checks that what was put together has the right length.
func (s *sending) measure(ctx context.Context) error {
	attrs, err := s.r.store.Head(ctx, s.key)
	if err == nil && attrs.Size != s.up.Size {
		err = fmt.Errorf("%s has %d bytes there and %d here: %w", s.key, attrs.Size, s.up.Size, syncer.ErrOtherBytes)
	}
	return err
}
