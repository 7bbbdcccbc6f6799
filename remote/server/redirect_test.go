package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// redirected answers a download that may go to a bucket; the answer is not
// followed.
func (e *statusEnv) redirected(get func(row api.Row) *answer) *answer {
	e.o.Sign = func(_ context.Context, key string, _ time.Duration) (string, error) {
		return "https://bucket.example/" + key, nil
	}
	client := e.client
	e.client = notFollowing()
	defer func() { e.o.Sign, e.client = nil, client }()
	return get(e.upload("item", e.parent("item"), randomBytes(redirectLeast)))
}

func notFollowing() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// TestRedirects: a device is sent to the bucket for what is large, and reads
// there whole or by range what is its own, without its token; a page, a small
// file and who asks for the bytes themselves are not.
func TestRedirects(t *testing.T) {
	o := s3test.StartGateway(t).Options
	bucket, err := s3.Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, bucket.Close()) })
	must(t, bucket.CheckSign(t.Context()))
	onBoth(t, Options{Limits: NoLimits(), Sign: bucket.Sign}, func(t *testing.T, w *world) {
		w.o.Blobs = bucket
		w.client = notFollowing()
		p, stranger := w.register(), w.register()
		item := p.parent("item")
		content := randomBytes(2 * redirectLeast)
		row, small := p.upload("item", item, content), p.upload("item", item, content[:redirectLeast-1])
		for _, path := range []string{api.PathContent(row.ID), api.PathBlob(p.vault, row.BlobID)} {
			at := p.do("GET", path, nil).want(http.StatusFound).header.Get("Location")
			if got := plainGet(t, at, "", http.StatusOK); !bytes.Equal(got, content) {
				t.Errorf("%s: the bucket has %d bytes, want %d", path, len(got), len(content))
			}
			at = p.do("GET", path, nil, "Range", "bytes=100-300099").want(http.StatusFound).header.Get("Location")
			if got := plainGet(t, at, "bytes=100-300099", http.StatusPartialContent); !bytes.Equal(got, content[100:300_100]) {
				t.Errorf("%s: a range of %d bytes", path, len(got))
			}
			plainGet(t, strings.Replace(at, row.VaultID, small.VaultID+"x", 1), "", http.StatusForbidden) // the signature is of this object
			p.do("GET", path, nil, "Range", "bytes=0-99").want(http.StatusPartialContent)
			p.do("HEAD", path, nil).want(http.StatusOK)
			p.do("GET", path, nil, "If-None-Match", "*").want(http.StatusNotModified)
			p.do("GET", path, nil, "Range", "bytes=9999999-").code(api.CodeRangeInvalid)
			if got := p.do("GET", path, nil, api.HeaderDirect, "1").want(http.StatusOK); !bytes.Equal(got.body, content) {
				t.Errorf("%s: directly %d bytes", path, len(got.body))
			}
		}
		p.do("GET", api.PathContent(small.ID), nil).want(http.StatusOK)
		p.page().do("GET", api.PathContent(row.ID), nil).want(http.StatusOK)
		stranger.do("GET", api.PathContent(row.ID), nil).code(api.CodeNotFound)
		stranger.do("GET", api.PathBlob(stranger.vault, row.BlobID), nil).code(api.CodeNotFound)
		if logs := w.logs.String(); strings.Contains(logs, "X-Amz") || strings.Contains(logs, "ignature") {
			t.Error("the log has a signed address")
		}
	})
}

func plainGet(t *testing.T, address, span string, status int) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	must(t, err)
	if span != "" {
		req.Header.Set("Range", span)
	}
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != status {
		t.Errorf("the bucket answers %d, want %d: %.200s", res.StatusCode, status, body)
	}
	return body
}
