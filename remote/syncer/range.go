package syncer

import (
	"context"
	"fmt"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// FetchRange reads n bytes of a content from offset off and writes them at the
// same offset of w. A content that its author is still sending is waited for. They are not verified: whoever asks opens them chunk by
// chunk. Errors: ErrNotFound, io.ErrUnexpectedEOF for a blob that ends before,
// those of the remote and of w.
func (e *Engine) FetchRange(ctx context.Context, blob seal.ID, off, n int64, w io.WriterAt) error {
	return e.onceSent(ctx, func() error { return e.fetchRangeOnce(ctx, blob, off, n, w) })
}

func (e *Engine) fetchRangeOnce(ctx context.Context, blob seal.ID, off, n int64, w io.WriterAt) error {
	ctx, watch := newWatch(ctx)
	defer watch.stop()
	pending := e.o.Vault.Pending(blob)
	body, err := e.o.Remote.GetBlob(ctx, blob.Hex(), off, n)
	if pending && notThere(err) {
		err = fmt.Errorf("%w: %w", errNotYet, err)
	}
	if err != nil {
		return fmt.Errorf("fetch %d bytes at %d of blob %s: %w", n, off, blob.Hex(), err)
	}
	defer body.Close()
	got, err := io.Copy(io.NewOffsetWriter(w, off), io.LimitReader(watched{body, watch}, n))
	if err == nil && got < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("fetch %d bytes at %d of blob %s: %w", n, off, blob.Hex(), watch.explain(err))
	}
	return nil
}

// watched is a body whose bytes must go on coming.
type watched struct {
	io.Reader
	w *watch
}

// Read implements io.Reader.
func (r watched) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.w.moved(int64(n))
	return n, err
}
