package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestRemoteSettings(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	if _, ok, err := d.Remote(ctx); ok || err != nil {
		t.Fatalf("a remote at first: %v, %v", ok, err)
	}
	if err := d.SetRemote(ctx, RemoteSettings{URL: "file:///x"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without an id: %v", err)
	}
	want := RemoteSettings{
		URL: "s3://canary-bucket/x", ID: seal.NewID(), Caps: []byte(`{"v":1}`), Access: []byte(`{"secret":"canary-secret"}`),
		Prefetch: "pinned", UpLimit: 1 << 20, DownLimit: 2 << 20, Metered: true, Enabled: true,
	}
	if err := d.SetRemote(ctx, want); err != nil {
		t.Fatal(err)
	}
	cursor := []byte("canary-cursor")
	if err := d.SetCursor(ctx, want.ID, cursor); err != nil {
		t.Fatal(err)
	}
	d.reopen()
	got, ok, err := d.Remote(ctx)
	if err != nil || !ok || got.URL != want.URL || got.ID != want.ID || string(got.Access) != string(want.Access) || got.UpLimit != want.UpLimit || !got.Metered || !got.Enabled {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if c, err := d.Cursor(ctx); string(c) != string(cursor) || err != nil {
		t.Errorf("cursor %q, %v", c, err)
	}
	for _, name := range []string{dbName, dbName + "-wal"} {
		b, err := os.ReadFile(d.Vault.home.Path(name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("canary")) {
			t.Errorf("%s holds settings in clear", name)
		}
	}
	if err := d.RemoveRemote(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := d.Remote(ctx); ok || err != nil {
		t.Errorf("removed: %v, %v", ok, err)
	}
}

// What one remote has, another has not.
func TestAnotherRemote(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop", "desktop")
	laptop, desktop, ctx := f.devices[0], f.devices[1], context.Background()
	for _, d := range f.devices {
		if err := d.SetRemote(ctx, RemoteSettings{ID: f.remote, Enabled: true}); err != nil {
			t.Fatal(err)
		}
	}
	laptop.mkdir("a")
	laptop.write("a/x", "content")
	laptop.push()
	desktop.pull()
	if ids, err := laptop.UploadBlobs(ctx); len(ids) != 0 || err != nil {
		t.Fatalf("to upload after all was sent: %v, %v", ids, err)
	}
	if err := laptop.SetRemote(ctx, RemoteSettings{ID: seal.NewID(), Enabled: true}); err != nil {
		t.Fatal(err)
	}
	if ids, err := laptop.UploadBlobs(ctx); len(ids) != 1 || err != nil {
		t.Errorf("to upload to another remote: %v, %v", ids, err)
	}
	if n, err := laptop.LastPushed(ctx); n != 0 || err != nil {
		t.Errorf("batches on another remote: %d, %v", n, err)
	}
	// What the desktop says of the old one is not believed of the new one.
	desktop.sealAll(SealOptions{Ops: []seal.Op{&seal.Sent{Remote: f.remote, Blobs: []seal.ID{seal.NewBlobID()}}}})
	desktop.pushBatches()
	laptop.pullBatches()
	laptop.reopen()
	if ids, err := laptop.UploadBlobs(ctx); len(ids) != 1 || err != nil {
		t.Errorf("to upload after the desktop spoke of the old remote: %v, %v", ids, err)
	}
}
