package server

import (
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const (
	// bodyPause is how long the next bytes of a body may take.
	bodyPause = 30 * time.Second
	// bodyRate is how fast a body must come at least, in bytes a second: a byte now
	// and then would else hold a place for ever.
	bodyRate = 4 << 10
)

// body reads the request's body with a deadline that moves with it. Its errors
// are the client's: api's body_too_large, timeout, bad_request.
func (c *call) body(limit int64) io.Reader {
	c.bodyRead = true
	return &pacedReader{c: c, r: http.MaxBytesReader(c.w, c.r.Body, limit), start: time.Now()}
}

type pacedReader struct {
	c     *call
	r     io.Reader
	start time.Time
	n     int64
}

func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.c.rc.SetReadDeadline(p.deadline(time.Now())) // not every transport has deadlines
	n, err := p.r.Read(b)
	p.n += int64(n)
	p.c.bodyEnd = p.c.bodyEnd || errors.Is(err, io.EOF)
	if err != nil && !errors.Is(err, io.EOF) {
		err = brokenBody(err)
	}
	return n, err
}

// deadline is when the next bytes must be here.
func (p *pacedReader) deadline(now time.Time) time.Time {
	pause := now.Add(bodyPause)
	rate := p.start.Add(bodyPause + time.Duration(p.n/bodyRate)*time.Second)
	if rate.Before(pause) {
		return rate
	}
	return pause
}

// brokenBody puts what reading a request's body met into the words of the API.
// Whatever it is, it came from the client or its network.
func brokenBody(err error) error {
	var long *http.MaxBytesError
	var net net.Error
	switch {
	case errors.As(err, &long):
		return api.Errorf(api.CodeBodyTooLarge, "the body is longer than %d bytes", long.Limit)
	case errors.As(err, &net) && net.Timeout():
		return api.Errorf(api.CodeTimeout, "the body came too slowly")
	}
	return api.Errorf(api.CodeBadRequest, "the body ended early, or is not framed well")
}

// small reads a whole body of at most limit bytes.
func (c *call) small(limit int64) ([]byte, error) {
	if c.r.ContentLength > limit {
		return nil, api.Errorf(api.CodeBodyTooLarge, "the body is longer than %d bytes", limit)
	}
	return c.hold(c.body(limit), limit)
}

// maxHeld bounds the bodies that all calls together keep in memory.
const maxHeld = 128 << 20

// hold reads all of r into memory as far as there is room for it. What it takes
// grows with what has come, so a client must send what it wants to occupy.
func (c *call) hold(r io.Reader, limit int64) ([]byte, error) {
	var b []byte
	for {
		if len(b) == cap(b) {
			size := min(max(2*int64(cap(b)), 4<<10), limit+1)
			if err := c.reserve(size - int64(cap(b))); err != nil {
				return nil, err
			}
			b = append(make([]byte, 0, size), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// reserve takes room that is given back when the call ends. Error: api's
// unavailable.
func (c *call) reserve(n int64) error {
	c.holds += n
	if c.held.Add(n) > maxHeld {
		return api.Limited(api.CodeUnavailable, time.Second, "too many bodies at once")
	}
	return nil
}

// bodyError is for who reads a body to where it must go on: its end there is the
// client's mistake.
func bodyError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return api.Errorf(api.CodeBadRequest, "the body ended early")
	}
	return err
}

// uncoded refuses a body that is compressed, or coded otherwise: lengths and hashes are
// those of the bytes themselves (RFC 9110 section 15.5.16).
func (c *call) uncoded() error {
	for _, coding := range c.r.Header.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return api.Errorf(api.CodeUnsupportedMedia, "send the body without a Content-Encoding")
		}
	}
	return nil
}

// json reads a strict JSON body of at most limit bytes.
func (c *call) json(limit int64, v any) error {
	if t, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || t != api.TypeJSON {
		return api.Errorf(api.CodeUnsupportedMedia, "send %s", api.TypeJSON)
	}
	if err := c.uncoded(); err != nil {
		return err
	}
	b, err := c.small(limit)
	if err != nil {
		return err
	}
	if err := api.UnmarshalInput(b, v); err != nil {
		return api.BadJSON(err)
	}
	return nil
}
