package server

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// fail is the only writer of errors. What the client may know is in an
// api.Error; anything else is internal, and its text stays in the log.
func (s *Server) fail(c *call, err error) {
	e := *asAPI(err)
	e.RequestID = c.id
	if e.Status == 0 {
		e.Status = e.Code.Status()
	}
	if e.Status >= 500 && c.ctx().Err() == nil {
		s.log.Error("request failed", "request", c.id, "route", c.route, "err", err)
	}
	c.failure = err
	if c.wrote {
		// The answer has begun: cutting the connection is all that can be said.
		panic(http.ErrAbortHandler)
	}
	h := c.w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer") // RFC 9110 section 15.5.2 asks for it
	}
	if c.r.ContentLength != 0 && !c.bodyRead {
		h.Set("Connection", "close") // what is unread of the body is not worth reading
	}
	writeJSON(c, e.Status, &e)
	c.linger()
}

// lingerTime is how long a client that is still sending has to read its answer.
const lingerTime = 500 * time.Millisecond

// linger is for a client that asked to close after its request, such as a proxy
// that speaks HTTP/1.0: closing with bytes of it unread resets the connection, and
// it would lose the answer. For others net/http does the same.
func (c *call) linger() {
	if c.r.ContentLength == 0 || c.bodyEnd || !c.r.Close && c.r.ProtoAtLeast(1, 1) {
		return
	}
	_ = c.rc.Flush() // a client that is gone needs no time
	_ = pause(c.ctx(), lingerTime)
}

// asAPI puts errors of stores and databases into the words of the API.
func asAPI(err error) *api.Error {
	var e *api.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, metadb.ErrNotFound), errors.Is(err, blob.ErrNotFound):
		return api.Errorf(api.CodeNotFound, "not found")
	case errors.Is(err, metadb.ErrInUse), errors.Is(err, metadb.ErrMoved):
		return api.Limited(api.CodeUnavailable, defaultRetry, "the server's data are being moved")
	case errors.Is(err, metadb.ErrFull), errors.Is(err, blob.ErrNoSpace):
		return api.Limited(api.CodeStorageFull, fullRetry, "the server has no room left; what is there can be read")
	case errors.Is(err, metadb.ErrUnavailable):
		return api.Limited(api.CodeUnavailable, defaultRetry, "the server's database is not available")
	case errors.Is(err, blob.ErrUnavailable):
		u := api.Limited(api.CodeUnavailable, blob.RetryAfter(err), "the server's store is not available")
		if u.RetryAfter == 0 {
			u.RetryAfter = defaultRetry
		}
		return u
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.Canceled):
		return api.Errorf(api.CodeTimeout, "the request came too slowly, or was given up")
	}
	return api.AsError(err)
}

// writeJSON sends a whole answer.
func writeJSON(c *call, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("server: an answer that is no JSON: " + err.Error()) // plain fields only
	}
	h := c.w.Header()
	h.Set("Content-Type", api.TypeJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.begin(status)
	c.send(body)
}
