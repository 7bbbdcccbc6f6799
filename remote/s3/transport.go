package s3

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Waits of a connection that no context bounds more tightly.
const (
	dialWait   = 10 * time.Second
	answerWait = 2 * time.Minute // assembling many parts takes a server its time
	idleWait   = 90 * time.Second
	idleHosts  = 32
	maxRetry   = 24 * time.Hour // the longest wait we believe
)

// transport keeps of every answer what the client above it forgets: when to
// come back, and what time it is there.
type transport struct {
	inner *http.Transport
	ahead atomic.Int64 // the server's clock less ours, ns
	known atomic.Bool
}

func newTransport() *transport {
	dialer := &net.Dialer{Timeout: dialWait, KeepAlive: 30 * time.Second}
	return &transport{inner: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   dialWait,
		ResponseHeaderTimeout: answerWait,
		IdleConnTimeout:       idleWait,
		MaxIdleConnsPerHost:   idleHosts,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // the bytes are what they are
	}}
}

// answer is what was seen of the last response of one call.
type answer struct{ retryAfter time.Duration }

type answerKey struct{}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(req)
	if err != nil {
		return nil, early(err)
	}
	if !sendsContent(req, resp) {
		resp.Body = &bounded{resp.Body, maxText}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err == nil {
		t.ahead.Store(int64(time.Until(date)))
		t.known.Store(true)
	}
	if a, ok := req.Context().Value(answerKey{}).(*answer); ok {
		a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), date)
	}
	return resp, nil
}

// early is an error of a connection that ended without an answer. For one whose text
// has "EOF" in it the client above has a sentence of its own, which holds the address
// of the request.
func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return closedEarly{err}
	}
	return err
}

type closedEarly struct{ cause error }

func (closedEarly) Error() string   { return "the server closed the connection" }
func (c closedEarly) Unwrap() error { return c.cause }

// maxText is more than any answer in XML has: a listing has 1,000 names of 1 KiB,
// each byte of which may be written with six.
const maxText = 16 << 20

// sendsContent says whether an answer is the content of an object, whose reader knows
// how long it is. The client above reads every other one into memory.
func sendsContent(req *http.Request, resp *http.Response) bool {
	return req.Method == http.MethodGet && req.URL.RawQuery == "" &&
		(resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent)
}

// errEndless: an answer longer than its kind can be.
var errEndless = errors.New("its answer has no end")

// bounded gives up on a body that is longer than it may be.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errEndless
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// clock is the server's time by its last answer.
func (t *transport) clock() (time.Time, bool) {
	return time.Now().Add(time.Duration(t.ahead.Load())), t.known.Load()
}

// retryAfter reads seconds or a date, the latter by the clock that wrote it.
func retryAfter(text string, date time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if until, err := http.ParseTime(text); err == nil && !date.IsZero() {
		wait = until.Sub(date)
	}
	return min(max(wait, 0), maxRetry)
}

// call runs one request and explains its error.
func (s *Store) call(ctx context.Context, op, key, condition string, f func(context.Context) error) error {
	var seen answer
	err := f(context.WithValue(ctx, answerKey{}, &seen))
	if err == nil {
		return nil
	}
	return s.explain(ctx, op, key, condition, seen.retryAfter, err)
}
