package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// client speaks to the server of an open vault, in the mount's process or in
// this one. Commands know nothing else of a vault.
type client struct {
	http *http.Client
	// pid is the process that has the vault mounted, 0 when it is open here.
	pid     int
	socket  string
	home    string // of the vault, as that process says; empty when it does not
	closing func(context.Context) error
	// life ends with a cause when that process falls silent; nil without one.
	life context.Context
	// lockedDisk is set when the vault is open for reading only because its
	// disk is.
	lockedDisk bool
}

func newClient(dial func() (net.Conn, error)) *client {
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return dial() },
		DisableCompression: true,
		WriteBufferSize:    copyBuffer,
		ReadBufferSize:     128 << 10,
		MaxIdleConns:       4,
	}
	return &client{
		http:    &http.Client{Transport: transport},
		closing: func(context.Context) error { transport.CloseIdleConnections(); return nil },
	}
}

// close ends the connection, and the vault if it is open in this process.
func (c *client) close(ctx context.Context) error { return c.closing(ctx) }

func (c *client) do(ctx context.Context, method, call string, query url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "vault", Path: apiPrefix + call, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var w wireError
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&w); err != nil {
		return nil, fail(errDaemonOld, "", "%s: %s", errDaemonOld, resp.Status)
	}
	return nil, c.failureOf(&w)
}

// failureOf reads a failure of the server. Which disk it is knows only who
// opened the vault.
func (c *client) failureOf(w *wireError) error {
	err := w.fromWire()
	if c.lockedDisk && errors.Is(err, vaultcore.ErrReadOnly) {
		return fail(vaultcore.ErrReadOnlyDisk, "nothing can be changed in it until its disk is mounted writable",
			"the vault lies on a read-only disk")
	}
	return err
}

// lost tells a user's interrupt and a process that fell silent from a
// connection that broke.
func (c *client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.life != nil {
		if cause := context.Cause(c.life); errors.Is(cause, errDaemonSilent) {
			return cause
		}
	}
	return fmt.Errorf("%w: %w", errDaemonLost, err)
}

// call sends one value and reads one; out may be nil.
func (c *client) call(ctx context.Context, call string, in, out any) error {
	resp, err := c.post(ctx, call, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return c.lost(ctx, err)
	}
	return nil
}

func (c *client) post(ctx context.Context, call string, in any) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	return c.do(ctx, http.MethodPost, call, nil, header, bytes.NewReader(body))
}

// stream sends one value and hands every frame of the answer to fn.
func (c *client) stream(ctx context.Context, call string, in any, fn func(frame) error) error {
	resp, err := c.post(ctx, call, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var f frame
		if err := dec.Decode(&f); err != nil {
			return c.lost(ctx, err)
		}
		if f.Error != nil {
			return c.failureOf(f.Error)
		}
		if f.End {
			return nil
		}
		if err := fn(f); err != nil {
			return err
		}
	}
}

// items is stream for answers that are a list of T, with progress between.
func items[T any](ctx context.Context, c *client, call string, in any, p *progress, fn func(T) error) error {
	return c.stream(ctx, call, in, func(f frame) error {
		if f.Item == nil {
			if p != nil {
				p.set(f.Done, f.Total)
			}
			return nil
		}
		var item T
		if err := json.Unmarshal(f.Item, &item); err != nil {
			return fmt.Errorf("%w: %w", errDaemonOld, err)
		}
		return fn(item)
	})
}

// status asks a process how it is, which it says at once or not at all: what
// hangs on its disk is as silent as one that is stopped.
func (c *client) status(ctx context.Context, view *statusView) error {
	asking, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	err := c.call(asking, callStatus, none{}, view)
	if c.pid != 0 && ctx.Err() == nil && asking.Err() != nil {
		return silent(c.socket, c.pid)
	}
	return err
}

func (c *client) stat(ctx context.Context, path string) (info vaultcore.Info, err error) {
	err = c.call(ctx, callStat, pathRequest{Path: path}, &info)
	return info, err
}

func (c *client) list(ctx context.Context, path string, recursive bool, fn func(vaultcore.Info) error) error {
	return items(ctx, c, callList, pathRequest{Path: path, Recursive: recursive}, nil, fn)
}

// incoming is a content on its way here. Read gives io.EOF only when the whole
// content has arrived as the vault has it.
type incoming struct {
	body  io.ReadCloser
	resp  *http.Response
	ctx   context.Context
	from  *client
	size  int64 // -1 unknown
	mode  uint32
	mtime time.Time
}

// read opens a content: one of the content calls with its query.
func (c *client) read(ctx context.Context, call string, query url.Values) (*incoming, error) {
	resp, err := c.do(ctx, http.MethodGet, call, query, nil, nil)
	if err != nil {
		return nil, err
	}
	in := &incoming{body: resp.Body, resp: resp, ctx: ctx, from: c, size: -1}
	if size, err := strconv.ParseInt(resp.Header.Get(headerSize), 10, 64); err == nil {
		in.size = size
	}
	if mode, err := strconv.ParseUint(resp.Header.Get(headerMode), 8, 32); err == nil {
		in.mode = uint32(mode)
	}
	if ns, err := strconv.ParseInt(resp.Header.Get(headerMtime), 10, 64); err == nil {
		in.mtime = time.Unix(0, ns)
	}
	return in, nil
}

func (in *incoming) Read(b []byte) (int, error) {
	n, err := in.body.Read(b)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, in.from.lost(in.ctx, err)
	}
	return n, in.verdict()
}

// verdict reads the trailer that says how the content ended.
func (in *incoming) verdict() error {
	end := in.resp.Trailer.Get(trailerEnd)
	if end == endOK {
		return io.EOF
	}
	var w wireError
	text, err := strconv.Unquote(end)
	if err != nil || json.Unmarshal([]byte(text), &w) != nil {
		return errDaemonLost
	}
	return w.fromWire()
}

func (in *incoming) Close() error { return in.body.Close() }

// outgoing says how a content is to be stored.
type outgoing struct {
	path    string
	mode    uint32    // 0: as it was, or the default
	mtime   time.Time // zero: now
	parents bool
	mustNew bool // refuse to replace
}

// write stores what r gives as one new revision of a path.
func (c *client) write(ctx context.Context, o outgoing, r io.Reader) (info vaultcore.Info, err error) {
	query := url.Values{"path": {o.path}}
	if o.parents {
		query.Set("parents", "1")
	}
	if o.mustNew {
		query.Set("new", "1")
	}
	header := http.Header{}
	if o.mode != 0 {
		header.Set(headerMode, strconv.FormatUint(uint64(o.mode), 8))
	}
	if !o.mtime.IsZero() {
		header.Set(headerMtime, strconv.FormatInt(o.mtime.UnixNano(), 10))
	}
	body := &sourceReader{r: r}
	resp, err := c.do(ctx, http.MethodPut, callContent, query, header, body)
	if body.err != nil {
		return info, body.err
	}
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		return info, c.lost(ctx, err)
	}
	return info, nil
}

// sourceReader keeps the error of the source apart from those of the
// connection. It hides everything but Read: a length that is known before
// would be promised, and a file may grow or shrink meanwhile.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
