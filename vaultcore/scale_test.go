package vaultcore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// The figures of synchronisation for a vault of many attachments: what does not
// grow with them, and the first sync of a device that joins.
//
//	VAULTDRIVE_SCALE=100000 go test -run SyncScale -v ./vaultcore
func TestSyncScale(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("VAULTDRIVE_SCALE"))
	if err != nil {
		t.Skip("minutes of work: set VAULTDRIVE_SCALE to the number of attachments")
	}
	if dir := os.Getenv("VAULTDRIVE_SCALE_JOIN"); dir != "" {
		joinScaled(t, dir)
		return
	}
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	fillScaled(ada, count)
	t.Logf("%d attachments", count)
	timed(t, "seal all", 1, func() { ada.sealAll(SealOptions{}) })
	var joined string
	timed(t, "receive all, two vaults in one process", 1, func() { ada.pushBatches(); bob.pullBatches() })
	joined = scaledJoiner(t, f)
	measureScaled(t, f)
	out, err := scaleChild(joined)
	t.Logf("a process of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func fillScaled(d *device, count int) {
	for i := range count {
		if i%500 == 0 {
			d.mkdir(fmt.Sprintf("A/d%03d", i/500))
		}
		dir := d.mustFind(fmt.Sprintf("A/d%03d", i/500))
		n, _, err := d.Create(dir, fmt.Sprintf("file number %d.txt", i), 0o600)
		if err != nil {
			d.f.t.Fatal(err)
		}
		d.WriteAt(n, fmt.Append(nil, i), 0)
		closeFile(d.f.t, d.Vault, n)
	}
}

func timed(t *testing.T, what string, times int, fn func()) {
	t.Helper()
	start := time.Now()
	for range times {
		fn()
	}
	t.Logf("%-46s %v", what, time.Since(start)/time.Duration(times))
}

func measureScaled(t *testing.T, f *fleet) {
	ctx := context.Background()
	ada, bob := f.devices[0], f.devices[1]
	i := 0
	timed(t, "save one, seal", 10, func() {
		i++
		ada.write("A/d000/file number 7.txt", fmt.Sprint("again ", i))
		ada.sealAll(SealOptions{})
	})
	ada.pushBatches()
	bob.pullBatches()
	for j := range 256 {
		ada.write(fmt.Sprintf("A/d000/more %d", j), "more")
		ada.write(fmt.Sprintf("A/d001/file number %d.txt", 500+j), "other")
	}
	ada.sealAll(SealOptions{})
	ada.pushBatches()
	timed(t, "apply 512 ops", 1, func() { bob.pullBatches() })
	timed(t, "WantedBlobs", 3, func() {
		if _, err := bob.WantedBlobs(ctx); err != nil {
			t.Fatal(err)
		}
	})
	timed(t, "Status", 3, func() { bob.Status() })
	timed(t, "UploadBlobs", 3, func() {
		if _, err := ada.UploadBlobs(ctx); err != nil {
			t.Fatal(err)
		}
	})
	ids, err := ada.UploadBlobs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[:64] {
		src, err := ada.UploadSource(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, src.Len)
		src.ReadAt(b, 0)
		src.Close()
		f.blobs[id] = b
	}
	if err := ada.Sent(ctx, ids[:64]); err != nil {
		t.Fatal(err)
	}
	ada.sealAll(SealOptions{Ops: []seal.Op{&seal.Sent{Remote: f.remote, Blobs: ids[:64]}}})
	ada.pushBatches()
	timed(t, "apply sent of 64", 1, func() { bob.pullBatches() })
	k := 0
	timed(t, "PutBlob of one", 64, func() {
		if err := bob.PutBlob(ctx, ids[k], bytes.NewReader(f.blobs[ids[k]])); err != nil {
			t.Fatal(err)
		}
		k++
	})
}

// A first sync of many small files: 16 at a time, as the engine does, until all
// of them are durable.
func BenchmarkPutBlobs(b *testing.B) {
	const count = 2000
	f := newFleet(b, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	dir := mustMkdir(b, ada.Vault, "A")
	data := randomBytes(10<<10, 1)
	for round := 0; b.Loop(); round++ {
		b.StopTimer()
		for i := range count {
			save(b, ada.Vault, dir, fmt.Sprint(round, "-", i), data)
		}
		ada.push()
		bob.pullBatches()
		wanted, err := bob.WantedBlobs(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		var g errgroup.Group
		g.SetLimit(256)
		for _, w := range wanted {
			g.Go(func() error { return bob.PutBlob(context.Background(), w.Blob, bytes.NewReader(f.blobs[w.Blob])) })
		}
		if err := errors.Join(g.Wait(), bob.Barrier(context.Background())); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(count*(round+1))/b.Elapsed().Seconds(), "files/s")
	}
}

// scaledJoiner joins a device and leaves its home, with the log beside it, for
// another process.
func scaledJoiner(t *testing.T, f *fleet) string {
	d := f.join(f.devices[0], "eve")
	if err := d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.devices = f.devices[:2]
	file, err := os.Create(filepath.Join(d.home, "log.gob"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := gob.NewEncoder(file).Encode(f.log); err != nil {
		t.Fatal(err)
	}
	return d.home
}

func scaleChild(home string) ([]byte, error) {
	c := exec.Command(os.Args[0], "-test.run", "SyncScale", "-test.v")
	c.Env = append(os.Environ(), "VAULTDRIVE_SCALE_JOIN="+home)
	return c.CombinedOutput()
}

func joinScaled(t *testing.T, home string) {
	v := openTest(t, home, Options{Now: func() time.Time { return noonOfMarch.Add(time.Hour) }})
	file, err := os.Open(filepath.Join(home, "log.gob"))
	if err != nil {
		t.Fatal(err)
	}
	var log map[seal.ID][][]byte
	if err := gob.NewDecoder(file).Decode(&log); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for id, frames := range log {
		for len(frames) > 0 {
			some := frames[:min(8, len(frames))]
			if r, err := v.Receive(context.Background(), some...); err != nil || len(r.Refused) > 0 {
				t.Fatal(id, r, err)
			}
			clear(some)
			frames = frames[len(some):]
		}
	}
	t.Logf("received in %v; peak %s", time.Since(start), peakMemory())
	runtime.GC()
}

// peakMemory is the process's largest resident set so far.
func peakMemory() string {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(s)
		}
	}
	return "unknown"
}
