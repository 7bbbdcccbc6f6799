package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// counted is a remote that notes what is put. What is collected is listed no more,
// and the name stays taken, as a server does.
type counted struct {
	syncer.Remote
	put       []string
	collected map[string]bool
}

func (c *counted) Put(ctx context.Context, key string, content []byte) error {
	c.put = append(c.put, key)
	if c.collected[key] {
		return fmt.Errorf("collected: %w", syncer.ErrOtherBytes)
	}
	return c.Remote.Put(ctx, key, content)
}

func (c *counted) Changes(ctx context.Context, cursor []byte, wait time.Duration) (syncer.Changes, error) {
	ch, err := c.Remote.Changes(ctx, cursor, wait)
	ch.List = slices.DeleteFunc(slices.Clone(ch.List), func(e syncer.Change) bool {
		return e.Kind == syncer.KindBatch && c.collected[syncer.BatchKey(e.Device, e.Seq)]
	})
	return ch, err
}

// Enabling again, for other options or after a pause, sends nothing that is there;
// what a server has collected since is no trouble, and what was lost comes back.
func TestEnableAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop := f.devices[0]
	for i := range 3 {
		laptop.write(fmt.Sprintf("Letters/%d.txt", i), "letter")
		f.sync()
	}
	r := &counted{Remote: laptop.remote, collected: make(map[string]bool)}
	enable := func() {
		t.Helper()
		r.put = nil
		_, err := syncer.Enable(t.Context(), laptop.v, r, "laptop")
		f.must(err)
	}
	enable()
	if len(r.put) > 0 {
		t.Errorf("put again: %s", strings.Join(r.put, " "))
	}
	first := syncer.BatchKey(laptop.v.DeviceID().UUID(), 1)
	r.collected[first] = true
	enable()
	if !slices.Equal(r.put, []string{first}) {
		t.Errorf("put: %s; want the first batch alone", strings.Join(r.put, " "))
	}
	// A batch that is another one is not taken for a collected one.
	heads, err := laptop.v.Heads(t.Context())
	f.must(err)
	last := syncer.BatchKey(laptop.v.DeviceID().UUID(), heads[laptop.v.DeviceID()].Seq)
	r.collected = map[string]bool{last: true}
	if _, err := syncer.Enable(t.Context(), laptop.v, r, "laptop"); !errors.Is(err, syncer.ErrOtherBytes) {
		t.Errorf("another last batch: %v; want ErrOtherBytes", err)
	}
}

// What has passed of a large content counts as done while the rest is under way.
func TestProgressWithinOneFile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Films/film", string(bytes.Repeat([]byte("0123456789abcdef"), 8<<16)))
	laptop.sync()
	const cut = 5 << 20
	reads := make(chan struct{}, 1)
	reads <- struct{}{}
	desktop.engineWith(func(op, key string) fault {
		if op != "GetBlob" {
			return fault{}
		}
		select {
		case <-reads:
			return fault{cut: cut, err: syncer.ErrUnavailable}
		default:
			return fault{hang: true} // the rest never comes
		}
	})
	desktop.run()
	desktop.until("a part of it has come", func() bool {
		down := desktop.Status().Down
		return down.Count == 1 && down.Active == 1 && down.Bytes < 4<<20 && down.Bytes > 2<<20
	})
}

// Two devices move to another place, one after the other: what the first has sent
// there the second does not send again.
func TestMoveOfTwoDevices(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	for i := range 9 {
		laptop.write(fmt.Sprintf("Letters/%d.txt", i), strings.Repeat("letter ", 1000*i))
	}
	f.sync()
	desktop.write("Letters/mine.txt", "of the desktop alone")
	f.url = folder(t)
	laptop.enable()
	laptop.sync()
	desktop.enable()
	var sent atomic.Int32
	desktop.engineWith(func(op, key string) fault {
		if op == "PutBlob" {
			sent.Add(1)
		}
		return fault{}
	})
	desktop.sync()
	if n := sent.Load(); n != 1 {
		t.Errorf("the second device sent %d contents, want its own one", n)
	}
	f.sync()
	f.agree()
	if s := desktop.Status(); s.Up.Count != 0 || len(s.Conditions) != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}
