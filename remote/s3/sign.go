package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Sign gives an address at which whoever has it can read the blob, whole or a
// range, for so long, without credentials. It asks the network nothing, and does
// not know whether the blob is there.
func (s *Store) Sign(ctx context.Context, key string, life time.Duration) (string, error) {
	if err := check(ctx, "sign", key); err != nil {
		return "", err
	}
	u, err := s.core.PresignedGetObject(ctx, s.bucket, s.base+key, life, nil)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", key, err)
	}
	return u.String(), nil
}

// CheckSign finds out whether the bucket takes what Sign gives: it asks there for
// a blob that nobody has. Error: blob.ErrDenied if it does not.
func (s *Store) CheckSign(ctx context.Context) error {
	at, err := s.Sign(ctx, "no-such-blob", time.Minute)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	res, err := s.transport.inner.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%w: signed address: %w", blob.ErrUnavailable, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	if res.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%w: signed address: status %d", blob.ErrDenied, res.StatusCode)
	}
	return nil
}
