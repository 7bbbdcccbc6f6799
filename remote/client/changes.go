package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// cursor is how far the feed was read, and what it said there is: a server that
// was put back from a copy is found out by that.
type cursor struct {
	Version int               `json:"v"`
	N       int64             `json:"n"`
	Header  uint64            `json:"header"`
	Log     map[string]uint64 `json:"log"`
}

const maxCursor = 1 << 20

func parseCursor(b []byte) (c cursor, err error) {
	c = cursor{Version: 1, Log: make(map[string]uint64)}
	if b == nil {
		return c, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if len(b) > maxCursor {
		return c, fmt.Errorf("%w: a cursor of %d bytes", syncer.ErrKey, len(b))
	}
	if err := d.Decode(&c); err != nil || c.Version != 1 || c.N < 0 || c.Log == nil {
		return c, fmt.Errorf("%w: cursor", syncer.ErrKey)
	}
	return c, nil
}

// Changes implements syncer.Remote. The feed is the server's own word and needs
// no doorbell; what was put back to an older state shows in it.
func (r *Remote) Changes(ctx context.Context, from []byte, wait time.Duration) (syncer.Changes, error) {
	at, err := parseCursor(from)
	if err != nil {
		return syncer.Changes{}, err
	}
	if r.o.Signer == nil {
		return r.headersOnly(ctx, at)
	}
	seconds := int64(min(max(wait, 0), api.MaxWait) / time.Second)
	var feed api.Changes
	res, err := r.feed(ctx, at.N, seconds, &feed)
	if api.IsCode(err, api.CodeStartOver) {
		return r.again(ctx, at)
	}
	if err != nil {
		return syncer.Changes{}, fmt.Errorf("changes: %w", err)
	}
	next := at.clone()
	out := syncer.Changes{More: feed.More, At: r.o.Now()}
	for _, c := range feed.Changes {
		next.add(c, &out)
	}
	if len(feed.Changes) == 0 && feed.Head > next.N {
		next.N = feed.Head // entries before it were replaced by later ones, which are gone too
	}
	return finish(out, next, res)
}

// headersOnly is all that who has no device may see: how many headers there are.
func (r *Remote) headersOnly(ctx context.Context, at cursor) (syncer.Changes, error) {
	res, err := r.do(ctx, request{method: http.MethodGet, path: api.PathHeader(r.o.Vault, 0)})
	if err != nil {
		return syncer.Changes{}, fmt.Errorf("newest header: %w", err)
	}
	res.Body.Close()
	newest, err := strconv.ParseUint(res.Header.Get(api.HeaderSeq), 10, 53)
	if err != nil {
		return syncer.Changes{}, fmt.Errorf("%w: it does not say which header is the newest", syncer.ErrUnavailable)
	}
	next, out := at.clone(), syncer.Changes{At: r.o.Now()}
	next.add(api.Change{Kind: api.KindHeader, Seq: newest}, &out)
	return finish(out, next, res)
}

func (r *Remote) feed(ctx context.Context, after, wait int64, out *api.Changes) (*http.Response, error) {
	return r.json(ctx, http.MethodGet, fmt.Sprintf("%s/changes?after=%d&wait=%d", api.PathVault(r.o.Vault), after, wait), nil, out)
}

// again reads the whole feed of a server that has gone back, and says what is
// missing in it.
func (r *Remote) again(ctx context.Context, before cursor) (syncer.Changes, error) {
	next := cursor{Version: 1, Log: make(map[string]uint64)}
	out := syncer.Changes{At: r.o.Now()}
	var res *http.Response
	for more := true; more; {
		var feed api.Changes
		var err error
		if res, err = r.feed(ctx, next.N, 0, &feed); err != nil {
			return syncer.Changes{}, fmt.Errorf("changes: %w", err)
		}
		for _, c := range feed.Changes {
			next.add(c, &out)
		}
		more = feed.More
	}
	for device, seq := range before.Log {
		for lost := next.Log[device] + 1; lost <= seq; lost++ {
			out.Gone = append(out.Gone, syncer.Change{Kind: syncer.KindBatch, Device: device, Seq: lost})
		}
	}
	for lost := next.Header + 1; lost <= before.Header; lost++ {
		out.Gone = append(out.Gone, syncer.Change{Kind: syncer.KindHeader, Seq: lost})
	}
	return finish(out, next, res)
}

func finish(out syncer.Changes, next cursor, res *http.Response) (syncer.Changes, error) {
	var err error
	if out.Next, err = json.Marshal(next); err != nil {
		return syncer.Changes{}, err
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		out.Clock = date
	} else {
		out.At = time.Time{}
	}
	return out, nil
}

func (c cursor) clone() cursor {
	log := make(map[string]uint64, len(c.Log))
	for k, v := range c.Log {
		log[k] = v
	}
	c.Log = log
	return c
}

// add takes an entry of the feed. Kinds that are not known yet are passed over.
func (c *cursor) add(e api.Change, out *syncer.Changes) {
	c.N = max(c.N, e.N)
	switch e.Kind {
	case api.KindHeader:
		// The feed has the newest only, and those before came with it.
		for seq := c.Header + 1; seq <= e.Seq; seq++ {
			out.List = append(out.List, syncer.Change{Kind: syncer.KindHeader, Seq: seq})
		}
		c.Header = max(c.Header, e.Seq)
	case api.KindBatch:
		out.List = append(out.List, syncer.Change{Kind: syncer.KindBatch, Device: e.Device, Seq: e.Seq})
		c.Log[e.Device] = max(c.Log[e.Device], e.Seq)
	case api.KindCheckpoint:
		out.List = append(out.List, syncer.Change{Kind: syncer.KindCheckpoint, Device: e.Device, Seq: e.Seq, Name: e.Name})
	case api.KindRow, api.KindParent:
		if row, ok := rowOf(e); ok {
			out.List = append(out.List, syncer.Change{Kind: syncer.KindRow, Row: &row})
		}
	case api.KindBlob:
		change := syncer.Change{Kind: syncer.KindBlob, Blob: e.BlobID}
		switch e.State {
		case api.BlobPresent:
			out.List = append(out.List, change)
		case api.BlobMissing:
			out.Gone = append(out.Gone, change)
		}
	}
}
