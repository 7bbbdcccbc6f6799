package syncer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// contents looks at every content held here: those that the remote has lost are
// queued, those that are false there are taken away and queued. Nothing is taken away
// but for a true copy that is here, and noted as to be sent, before.
func (h *healing) contents(ctx context.Context) error {
	held, err := h.e.o.Vault.HeldBlobs(ctx)
	if err != nil {
		return err
	}
	h.expect(held)
	for len(held) > 0 {
		some := held[:min(len(held), statChunk)]
		held = held[len(some):]
		lost, altered, err := h.look(ctx, some)
		if err != nil {
			return err
		}
		if err := h.sendAgain(ctx, lost); err != nil {
			return err
		}
		h.PutBack += len(lost)
		for _, blob := range altered {
			if err := h.replaceBlob(ctx, blob); err != nil {
				return err
			}
		}
	}
	h.done = true
	return h.e.loadJobs(ctx)
}

// look says which of some contents the remote lacks, and which are false there.
func (h *healing) look(ctx context.Context, some []vaultcore.HeldBlob) (lost, altered []seal.ID, err error) {
	ids := make([]string, len(some))
	for i, b := range some {
		ids[i] = b.Blob.Hex()
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	sizes, err := h.e.o.Remote.StatBlobs(call, ids)
	cancel()
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readAtATime)
	for i, b := range some {
		g.Go(func() error {
			same, err := sizes[i] == b.Len, error(nil)
			left := b.Len // also of one that need not be read to its end
			if same {
				same, err = h.sameThere(ctx, b.Blob, func(n int) {
					left -= int64(n)
					h.read(int64(n))
				})
			}
			h.read(left)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case sizes[i] == Missing, notThere(err):
				lost, err = append(lost, b.Blob), nil
			case err == nil && !same:
				altered = append(altered, b.Blob)
			}
			return err
		})
	}
	return lost, altered, g.Wait()
}

// sameThere reads a content at the remote and says whether it is the one held here;
// read is told of each piece.
func (h *healing) sameThere(ctx context.Context, id seal.ID, read func(n int)) (bool, error) {
	src, err := h.e.o.Vault.UploadSource(ctx, id)
	if errors.Is(err, vaultcore.ErrNotFound) || errors.Is(err, vaultcore.ErrDamaged) {
		return true, nil // replaced meanwhile, or nothing here to put back
	}
	if err != nil {
		return false, err
	}
	src.Close()
	ctx, w := newWatch(ctx)
	defer w.stop()
	body := &resuming{ctx: ctx, remote: h.e.o.Remote, blob: id.Hex(), w: w}
	defer body.close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(&pacedReader{Reader: body, lane: h.e.down, w: w, read: read}, src.Len+1))
	if err != nil {
		return false, w.explain(fmt.Errorf("content %s: %w", id.Hex(), err))
	}
	return n == src.Len && [32]byte(sum.Sum(nil)) == src.SHA256, nil
}

// pacedReader keeps to the limit of a lane.
type pacedReader struct {
	io.Reader
	lane *lane
	w    *watch
	read func(n int)
}

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.w.moved(int64(n))
	p.read(n)
	if wait := p.w.paced(p.lane.limiter, n); wait != nil {
		return n, wait
	}
	return n, err
}

func (h *healing) sendAgain(ctx context.Context, blobs []seal.ID) error {
	if len(blobs) == 0 {
		return nil
	}
	if err := h.e.o.Vault.NotThere(ctx, blobs); err != nil {
		return fmt.Errorf("queue lost contents: %w", err)
	}
	return nil
}

// replaceBlob takes a false content away, and queues the true one.
func (h *healing) replaceBlob(ctx context.Context, id seal.ID) error {
	key := blobObject(id)
	named := fmt.Sprintf("%s (%s)", key, h.e.nameOf(id))
	src, err := h.e.o.Vault.UploadSource(ctx, id)
	if err != nil {
		return fmt.Errorf("content %s: %w", id.Hex(), err)
	}
	_, err = verified(ctx, src)
	src.Close()
	if errors.Is(err, errHere) {
		h.False = append(h.False, named+": the copy on this device is damaged too")
		return nil
	}
	if err == nil && !h.canTakeAway() {
		return h.note(named, ErrDenied)
	}
	if err == nil {
		err = h.sendAgain(ctx, []seal.ID{id})
	}
	if err == nil {
		err = h.takeAway(ctx, key)
	}
	return h.note(named, err)
}
