package syncer_test

import (
	"context"
	"os"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestUnreadStays: a content that a reader could not get is told of as long as that
// is so, though nothing in the queue waits for it and other contents come.
func TestUnreadStays(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	desktop.o.Prefetch = syncer.PrefetchNone
	desktop.restart()
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/b.txt", "dearest")
	f.sync()
	wanted, err := desktop.v.WantedBlobs(context.Background())
	f.must(err)
	var bad, good seal.ID
	for _, b := range wanted {
		if paths := desktop.v.BlobPaths(b.Blob); len(paths) == 1 && paths[0] == "Letters/a.txt" {
			bad = b.Blob
		} else {
			good = b.Blob
		}
	}
	object := f.dir() + "/blobs/" + bad.Hex() + ".bin"
	whole, err := os.ReadFile(object)
	f.must(err)
	flip(t, object)
	if err := desktop.Fetch(context.Background(), bad); err == nil {
		t.Fatal("an altered content was taken")
	}
	f.must(desktop.Fetch(context.Background(), good))
	desktop.sync()
	desktop.has(syncer.CondContent)
	f.must(os.WriteFile(object, whole, 0o600))
	desktop.sync()
	desktop.hasNone()
}
