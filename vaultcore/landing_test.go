package vaultcore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// landingFleet is two devices, one of which has sent count files that the other
// has not fetched.
func landingFleet(t *testing.T, count int) (f *fleet, bob *device, wanted []WantedBlob) {
	t.Helper()
	f = newFleet(t, "ada", "bob")
	mustMkdir(t, f.devices[0].Vault, "A")
	for i := range count {
		f.devices[0].write(fmt.Sprintf("A/%03d", i), fmt.Sprintf("content %d", i))
	}
	f.devices[0].push()
	bob = f.devices[1]
	bob.pullBatches()
	wanted, err := bob.WantedBlobs(t.Context())
	if err != nil || len(wanted) != count {
		t.Fatalf("%d wanted, %v", len(wanted), err)
	}
	return f, bob, wanted
}

func (f *fleet) landAll(d *device, wanted []WantedBlob) map[seal.ID]error {
	var mu sync.Mutex
	failed := make(map[seal.ID]error)
	var wg sync.WaitGroup
	for _, w := range wanted {
		wg.Go(func() {
			if err := d.PutBlob(context.Background(), w.Blob, bytes.NewReader(f.blobs[w.Blob])); err != nil {
				mu.Lock()
				failed[w.Blob] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// Many contents that come at once are files with rows that say so, and nothing
// is left of their way.
func TestLandTogether(t *testing.T) {
	f, bob, wanted := landingFleet(t, 100)
	if failed := f.landAll(bob, wanted); len(failed) > 0 {
		t.Fatalf("failed: %v", failed)
	}
	for _, w := range wanted {
		if _, err := bob.attachments.Stat(binName(w.Blob)); err != nil {
			t.Error(err)
		}
	}
	err := bob.attachments.EachName(func(name string) bool {
		if strings.HasSuffix(name, partExt) {
			t.Errorf("%s is left", name)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := bob.WantedBlobs(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("%d are wanted still, %v", len(left), err)
	}
	before := bob.list()
	if strings.Contains(before, "not here") {
		t.Errorf("shown:\n%s", before)
	}
	bob.reopen()
	if after := bob.list(); after != before {
		t.Errorf("after opening again:\n%s\nbefore:\n%s", after, before)
	}
	wantSound(t, bob.Vault)
}

// One that cannot land harms none that lands with it, and lands when what was in
// its way is gone.
func TestLandBesideOneThatFails(t *testing.T) {
	f, bob, wanted := landingFleet(t, 40)
	bad := wanted[17].Blob
	inTheWay := filepath.Join(bob.home, "attachments", binName(bad))
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	failed := f.landAll(bob, wanted)
	if len(failed) != 1 || failed[bad] == nil {
		t.Fatalf("failed: %v", failed)
	}
	left, err := bob.WantedBlobs(t.Context())
	if err != nil || len(left) != 1 || left[0].Blob != bad {
		t.Fatalf("wanted: %v, %v", left, err)
	}
	if _, err := bob.attachments.Stat(partName(bad)); err == nil {
		t.Error("its part is left")
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if failed := f.landAll(bob, left); len(failed) > 0 {
		t.Fatalf("once more: %v", failed)
	}
	wantSound(t, bob.Vault)
}
