package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	tipKey   = "tip"
	maxTip   = 64 << 10 // bytes
	ringGap  = time.Second
	ringTrys = 5 // against others who ring at the same time
)

// tip is the doorbell: what somebody said is there. It has no authority, since
// everybody may write it: it only tells where to look. Numbers that are too
// large cost a look, those that are too small are mended by the devices they
// are about, and all the rest is found by Reconcile.
type tip struct {
	Version    int               `json:"v"`
	Log        map[string]uint64 `json:"log"`
	Header     uint64            `json:"header"`
	Blobs      uint64            `json:"blobs"` // counts up
	Checkpoint string            `json:"checkpoint,omitempty"`
}

// parseTip reads a tip, or an empty one from anything else.
func parseTip(b []byte) tip {
	var t tip
	if len(b) > maxTip || json.Unmarshal(b, &t) != nil || t.Version != 1 {
		t = tip{}
	}
	maps.DeleteFunc(t.Log, func(device string, _ uint64) bool { return !syncer.ValidID(device) })
	if _, _, ok := syncer.ParseCheckpointName(t.Checkpoint); !ok {
		t.Checkpoint = ""
	}
	if t.Log == nil {
		t.Log = map[string]uint64{}
	}
	return t
}

// mergeTips adds to what is there what we know. It is there already if nothing
// changes; blobs are those stored since the last ringing.
func mergeTips(there, ours tip) (merged tip, changed bool) {
	merged = tip{Version: 1, Log: maps.Clone(there.Log), Header: max(there.Header, ours.Header), Blobs: there.Blobs + ours.Blobs, Checkpoint: there.Checkpoint}
	if ours.Checkpoint != "" {
		merged.Checkpoint = ours.Checkpoint
	}
	changed = there.Version != 1 || merged.Header != there.Header || ours.Blobs > 0 || merged.Checkpoint != there.Checkpoint
	for device, seq := range ours.Log {
		if seq > merged.Log[device] {
			merged.Log[device], changed = seq, true
		}
	}
	return merged, changed
}

// encode gives at most maxTip bytes; what does not fit is found by Reconcile.
func (t tip) encode(ours tip) []byte {
	b, err := json.Marshal(t)
	if err == nil && len(b) > maxTip {
		t.Log = ours.Log
		b, err = json.Marshal(t)
	}
	if err != nil || len(b) > maxTip {
		return nil
	}
	return b
}

// announce notes what the tip has to say of an object that is now there.
func (r *Remote) announce(k syncer.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case k.Kind == syncer.KeyBatch:
		r.news.Log[k.Device] = max(r.news.Log[k.Device], k.Seq)
	case k.Kind == syncer.KeyHeader:
		r.news.Header = max(r.news.Header, k.Seq)
	case k.Kind == syncer.KeyCheckpoint && k.Part == "m":
		r.news.Checkpoint = k.Name
	default:
		return
	}
	r.behind = true
}

func (r *Remote) announceBlob() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news.Blobs++
	r.behind = true
}

// heard compares a tip with what we put, and notes if it has been lost from it.
func (r *Remote) heard(t tip, own uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own > 0 {
		r.news.Log[r.o.Device] = max(r.news.Log[r.o.Device], own)
	}
	if seq := r.news.Log[r.o.Device]; seq > t.Log[r.o.Device] || r.news.Header > t.Header {
		r.behind = true
	}
}

// pending is what a ringing has to say, and how long it must wait for its turn.
func (r *Remote) pending() (news tip, wait time.Duration, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.news
	news.Log = maps.Clone(r.news.Log)
	if !r.rung.IsZero() {
		wait = min(ringGap-r.o.Now().Sub(r.rung), ringGap)
	}
	return news, wait, r.behind
}

func (r *Remote) told(said tip) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news.Blobs -= said.Blobs
	if r.news.Checkpoint == said.Checkpoint {
		r.news.Checkpoint = "" // once: another may write a newer one
	}
	r.behind = r.news.Blobs > 0 || r.news.Checkpoint != "" || r.news.Header > said.Header
	for device, seq := range r.news.Log {
		r.behind = r.behind || seq > said.Log[device]
	}
}

// ring writes the tip if there is something to say: at most once a second, and
// when it must, after the rest of that second.
func (r *Remote) ring(ctx context.Context, must bool) error {
	if _, wait, any := r.pending(); !any || !must && wait > 0 {
		return nil
	}
	if !must {
		if !r.ringer.try() {
			return nil // somebody is at it; what came since waits for the next
		}
	} else if err := r.ringer.take(ctx); err != nil {
		return fmt.Errorf("write tip: %w", err)
	}
	defer r.ringer.give()
	news, wait, any := r.pending()
	if !any || !must && wait > 0 {
		return nil
	}
	if wait > 0 {
		if err := sleep(ctx, wait); err != nil {
			return fmt.Errorf("write tip: %w", err)
		}
		news, _, _ = r.pending()
	}
	r.mu.Lock()
	r.rung = r.o.Now() // also if it fails
	r.mu.Unlock()
	if err := r.writeTip(ctx, news); err != nil {
		return err
	}
	r.told(news)
	return nil
}

func (r *Remote) writeTip(ctx context.Context, news tip) (err error) {
	for range ringTrys {
		var there tip
		var etag string
		if there, etag, err = r.readTip(ctx); err != nil {
			return err
		}
		merged, changed := mergeTips(there, news)
		if !changed {
			return nil
		}
		content := merged.encode(news)
		if content == nil {
			return nil
		}
		err = r.replaceTip(ctx, content, etag)
		if !errors.Is(err, blob.ErrChanged) && !errors.Is(err, blob.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("write tip: %w: %w", syncer.ErrUnavailable, err)
}

// readTip gives the tip and the ETag it had at most: content may be newer, never
// older. Both are empty if there is none.
func (r *Remote) readTip(ctx context.Context) (tip, string, error) {
	attrs, err := r.store.Head(ctx, r.base+tipKey)
	if errors.Is(err, blob.ErrNotFound) {
		return parseTip(nil), "", nil
	}
	if err != nil {
		return tip{}, "", err
	}
	b, err := r.read(ctx, tipKey, maxTip)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, syncer.ErrTooLarge) {
		b, err = nil, nil
	}
	return parseTip(b), attrs.ETag, err
}

func (r *Remote) replaceTip(ctx context.Context, content []byte, etag string) error {
	key, size := r.base+tipKey, int64(len(content))
	switch {
	case etag == "" && r.o.Caps.CreateOnly:
		return r.store.Put(ctx, key, bytes.NewReader(content), size, true)
	case etag != "" && r.o.Caps.Swap && r.o.Swap != nil:
		return r.o.Swap(ctx, key, bytes.NewReader(content), size, etag)
	}
	return r.store.Put(ctx, key, bytes.NewReader(content), size, false)
}
