package vaultcore

import (
	"context"
	"errors"
	"testing"
	"time"
)

func (d *device) setLimits(maxFile, room int64) {
	d.f.t.Helper()
	if err := d.SetRemoteLimits(context.Background(), RemoteLimits{MaxFile: maxFile, Room: room, At: d.f.now()}); err != nil {
		d.f.t.Fatal(err)
	}
}

// tryWriteFile writes a file as a program does, and gives the first error.
func (d *device) tryWriteFile(path string, size int, off int64) error {
	d.f.t.Helper()
	n := d.mustFind(path)
	if err := d.Open(n, true, false); err != nil {
		d.f.t.Fatal(err)
	}
	_, err := d.WriteAt(n, make([]byte, size), off)
	d.Release(n, true)
	return err
}

// What a server that is known to be full, or to take no files as long, would not
// take is refused at write; what needs no room there is not, and neither is
// anything by an old answer.
func TestRemoteLimits(t *testing.T) {
	f, ada, _ := twoWithFile(t)
	want := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	ada.write("A/old.bin", string(make([]byte, 3000)))
	ada.write("A/.~lock.f.txt#", "x")
	f.clock.Add(1000)
	ada.setLimits(100_000, 10_000) // of which 3,028 wait to be sent
	want("a file too long", ada.tryWriteFile("A/f.txt", 1, 100_000), ErrTooLarge)
	want("truncated too long", ada.Truncate(ada.mustFind("A/f.txt"), 100_001), ErrTooLarge)
	want("more than there is room for", ada.tryWriteFile("A/f.txt", 8000, 0), ErrQuota)
	want("truncated to more", ada.Truncate(ada.mustFind("A/f.txt"), 9000), ErrQuota)
	want("some of it", ada.tryWriteFile("A/f.txt", 5000, 0), nil)
	want("then more", ada.tryWriteFile("A/f.txt", 4000, 4000), ErrQuota)
	want("over what is there", ada.tryWriteFile("A/old.bin", 3000, 0), nil)
	want("on this device alone", ada.tryWriteFile("A/.~lock.f.txt#", 50_000, 0), nil)
	for path, size := range map[string]int64{"A/.~lock.f.txt#": 50_000, "A/f.txt": 5000, "A/old.bin": 3000} {
		if got := ada.mustFind(path).size; got != size {
			t.Errorf("%s has %d bytes, want %d", path, got, size)
		}
	}
	f.clock.Add(limitsAge.Milliseconds() + time.Second.Milliseconds())
	want("by an old answer", ada.tryWriteFile("A/f.txt", 20_000, 0), nil)
	ada.setLimits(0, -1)
	want("without a limit", ada.tryWriteFile("A/f.txt", 200_000, 0), nil)
	ada.setLimits(0, 0)
	want("full", ada.tryWriteFile("A/f.txt", 1, 200_000), ErrQuota)
}
