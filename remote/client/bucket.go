package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// directFor is how long a server is asked for the bytes themselves after its
// bucket was not to be had.
const directFor = 10 * time.Minute

// errBucket: the server sent us to its bucket, and there we did not get it.
var errBucket = errors.New("the server's bucket did not give it")

// elsewhere tells a failure behind a redirect from one of the server. The address
// there has a signature in it, so no error repeats it.
func elsewhere(ctx context.Context, req *http.Request, res *http.Response, err error) error {
	if ctx.Err() != nil {
		return nil // the caller says so
	}
	var failed *url.Error
	switch {
	case errors.As(err, &failed):
		if at, bad := url.Parse(failed.URL); bad == nil && at.Host == req.URL.Host {
			return nil
		}
		return fmt.Errorf("%w: %w: %w", syncer.ErrUnavailable, errBucket, failed.Err)
	case err == nil && res.Request.URL.Host != req.URL.Host && res.StatusCode >= 300:
		res.Body.Close()
		return fmt.Errorf("%w: %w: status %d", syncer.ErrUnavailable, errBucket, res.StatusCode)
	}
	return nil
}

// bytes reads a content: from the bucket that the server names, or from the
// server itself where that fails, for a firewall may let only the server through,
// and a bucket may have lost what the server then finds missing.
func (r *Remote) bytes(ctx context.Context, q request) (*http.Response, error) {
	r.mu.Lock()
	direct := r.o.Now().Before(r.direct)
	r.mu.Unlock()
	if direct {
		q.header.Set(api.HeaderDirect, "1")
	}
	res, err := r.do(ctx, q)
	if direct || !errors.Is(err, errBucket) {
		return res, err
	}
	r.mu.Lock()
	r.direct = r.o.Now().Add(directFor)
	r.mu.Unlock()
	q.header.Set(api.HeaderDirect, "1")
	return r.do(ctx, q)
}
