package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func (d *device) jobs() []Job {
	d.f.t.Helper()
	jobs, err := d.Jobs(context.Background(), 0)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return jobs
}

// A content is queued with the batch that names it, and until it is confirmed.
func TestUploadJobs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	d.mkdir("a")
	d.write("a/x", "first")
	d.write("a/y", "second")
	if jobs := d.jobs(); len(jobs) != 0 {
		t.Fatalf("jobs before sealing: %+v", jobs)
	}
	d.sealAll(SealOptions{})
	d.kill(true)
	jobs := d.jobs()
	if len(jobs) != 2 || !jobs[0].Up || jobs[0].N >= jobs[1].N || jobs[0].Seq == 0 || jobs[0].Size == 0 {
		t.Fatalf("jobs after a kill: %+v", jobs)
	}
	j := jobs[0]
	j.JobState = JobState{Again: true, Tries: 3, Until: time.Unix(1e9, 5).UTC(), Blocked: "full", Upload: []byte("parts")}
	if err := d.SaveJob(ctx, j); err != nil {
		t.Fatal(err)
	}
	d.reopen()
	if got := d.jobs()[0]; got.Blob != j.Blob || !got.Again || got.Tries != 3 || !got.Until.Equal(j.Until) || got.Blocked != "full" || string(got.Upload) != "parts" {
		t.Errorf("job %+v, want %+v", got, j)
	}
	// A new name is no new content.
	d.rename("a/y", "a/z")
	d.sealAll(SealOptions{})
	if err := d.Sent(ctx, []seal.ID{j.Blob}); err != nil {
		t.Fatal(err)
	}
	if jobs := d.jobs(); len(jobs) != 1 || jobs[0].Blob == j.Blob {
		t.Errorf("jobs after one was sent: %+v", jobs)
	}
	if err := d.SaveJob(ctx, j); err != nil { // of an attempt that ended late
		t.Fatal(err)
	}
	d.rename("a/x", "a/w")
	d.sealAll(SealOptions{})
	if jobs := d.jobs(); len(jobs) != 1 {
		t.Errorf("jobs after the sent one was renamed: %+v", jobs)
	}
	if err := d.endJob(d.jobs()[0].Blob, true); err != nil {
		t.Fatal(err)
	}
	if err := d.QueueUploads(ctx); err != nil {
		t.Fatal(err)
	}
	if jobs := d.jobs(); len(jobs) != 1 || jobs[0].Seq == 0 {
		t.Errorf("jobs put back: %+v", jobs)
	}
}

// Whoever has seen a job has seen all with lower numbers, also when the queue
// was empty meanwhile.
func TestJobNumbersAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	d.mkdir("a")
	var last int64
	for range 3 {
		d.write("a/x", time.Now().String())
		d.sealAll(SealOptions{})
		jobs, err := d.Jobs(ctx, last)
		if err != nil || len(jobs) != 1 {
			t.Fatalf("jobs above %d: %+v, %v; want one", last, jobs, err)
		}
		last = jobs[0].N
		if err := d.Sent(ctx, []seal.ID{jobs[0].Blob}); err != nil {
			t.Fatal(err)
		}
	}
}

// A job ends with the look that finds nothing to send, not after it: by then
// somebody may have made another.
func TestJobOfAReplacedContentEndsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	d.mkdir("a")
	d.write("a/x", "first")
	d.sealAll(SealOptions{})
	first := d.jobs()[0]
	d.write("a/x", "second")
	d.sealAll(SealOptions{})
	if _, err := d.com.do(func(t *txn) error { return t.exec(sqlQueueUpload, first.Blob[:], int64(1), int64(0)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := d.com.do(func(t *txn) error { return t.exec("DELETE FROM kept WHERE blob=?", first.Blob[:]) }); err != nil {
		t.Fatal(err)
	}
	if _, err := d.UploadSource(ctx, first.Blob); !errors.Is(err, ErrNotFound) {
		t.Fatalf("source of a replaced content: %v", err)
	}
	if jobs := d.jobs(); len(jobs) != 1 || jobs[0].Blob == first.Blob {
		t.Errorf("jobs: %+v; want the second content's", jobs)
	}
}

// A small content is hashed while it is closed, and goes up while a batch is made:
// neither waits for the other.
func TestUploadBesideSealing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	d.mkdir("a")
	d.write("a/x", "content")
	d.readMu.Lock()
	unhashed, err := d.reader.one("SELECT count(*) FROM asset_attachments WHERE place=2 AND size_bytes>0 AND sha256 IS NULL")
	d.readMu.Unlock()
	if err != nil || unhashed != int64(0) {
		t.Fatalf("%v contents not hashed, %v", unhashed, err)
	}
	d.sealAll(SealOptions{})
	job := d.jobs()[0]
	l, err := d.lockLedger(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer l.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		src, err := d.UploadSource(ctx, job.Blob)
		if err == nil {
			err = src.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Minute):
		t.Error("an upload waits for a batch that is made")
	}
}

// A batch takes what it can, of many rows too, and looks at few beyond.
func TestHashingLooksNoFurtherThanABatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	d.mkdir("a")
	const count = 2*seal.MaxOps + 3
	for i := range count {
		d.write(fmt.Sprintf("a/%d", i), "content")
	}
	l, err := d.lockLedger(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, upTo, err := l.hashDirty(ctx, SealOptions{})
	last, lerr := (&sealing{l: l}).one("SELECT count(*) FROM asset_attachments WHERE dirty<>0 AND n<=?", upTo)
	l.mu.Unlock()
	if err != nil || lerr != nil || upTo == 0 || last.(int64) > seal.MaxOps+1 {
		t.Fatalf("%v rows looked at, up to %d, %v, %v", last, upTo, err, lerr)
	}
	d.sealAll(SealOptions{})
	if left, _, err := d.Unsealed(ctx, count); err != nil || left != 0 || len(d.jobs()) != count {
		t.Errorf("%d left, %d jobs, %v", left, len(d.jobs()), err)
	}
}

// What is confirmed is told once, also if the program ends in between.
func TestUnsaid(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop", "desktop")
	d, ctx := f.devices[0], context.Background()
	d.mkdir("a")
	d.write("a/x", "content")
	d.sealAll(SealOptions{})
	blob := d.jobs()[0].Blob
	if err := d.Sent(ctx, []seal.ID{blob}); err != nil {
		t.Fatal(err)
	}
	d.kill(false)
	unsaid, err := d.Unsaid(ctx, 10)
	if err != nil || !slices.Equal(unsaid, []seal.ID{blob}) {
		t.Fatalf("unsaid %v, %v", unsaid, err)
	}
	d.sealAll(SealOptions{Ops: []seal.Op{&seal.Sent{Remote: f.remote, Blobs: unsaid}}})
	if unsaid, err := d.Unsaid(ctx, 10); err != nil || len(unsaid) != 0 {
		t.Errorf("unsaid after saying it: %v, %v", unsaid, err)
	}
	d.pushBatches()
	other := f.devices[1]
	other.pullBatches()
	if unsaid, err := other.Unsaid(ctx, 10); err != nil || len(unsaid) != 0 {
		t.Errorf("unsaid by who heard it: %v, %v", unsaid, err)
	}
}

// Who holds a content that another cannot fetch sends it again, once a day.
func TestWant(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop", "desktop")
	laptop, desktop, ctx := f.devices[0], f.devices[1], context.Background()
	laptop.mkdir("a")
	laptop.write("a/x", "content")
	laptop.push()
	desktop.pullBatches()
	wanted, err := desktop.WantedBlobs(ctx)
	if err != nil || len(wanted) != 1 {
		t.Fatalf("wanted %v, %v", wanted, err)
	}
	ask := func() {
		desktop.sealAll(SealOptions{Ops: []seal.Op{&seal.Want{Blobs: []seal.ID{wanted[0].Blob, seal.NewBlobID()}}}})
		desktop.pushBatches()
		laptop.pullBatches()
	}
	ask()
	if jobs := laptop.jobs(); len(jobs) != 1 || jobs[0].Blob != wanted[0].Blob {
		t.Fatalf("jobs after it was wanted: %+v", jobs)
	}
	if err := laptop.endJob(wanted[0].Blob, true); err != nil {
		t.Fatal(err)
	}
	ask()
	if jobs := laptop.jobs(); len(jobs) != 0 {
		t.Errorf("jobs after it was wanted again at once: %+v", jobs)
	}
	f.clock.Add((25 * time.Hour).Milliseconds())
	ask()
	if jobs := laptop.jobs(); len(jobs) != 1 {
		t.Errorf("jobs after it was wanted a day later: %+v", jobs)
	}
}

func TestGates(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "laptop")
	d, ctx := f.devices[0], context.Background()
	id, until := seal.NewID(), time.Unix(2e9, 7)
	for _, at := range []time.Time{until.Add(-time.Hour), until} {
		if err := d.SetGate(ctx, id, "put", at); err != nil {
			t.Fatal(err)
		}
	}
	d.reopen()
	if g, err := d.Gates(ctx, id); err != nil || len(g) != 1 || !g["put"].Equal(until) {
		t.Errorf("gates %v, %v", g, err)
	}
	if g, err := d.Gates(ctx, seal.NewID()); err != nil || len(g) != 0 {
		t.Errorf("gates of another remote %v, %v", g, err)
	}
}

// newWaiting gives two devices, of which one waits for a content of the other: it
// knows of it, and shows the one before.
func newWaiting(t *testing.T) (laptop, desktop *device) {
	f := newFleet(t, "laptop", "desktop")
	laptop, desktop = f.devices[0], f.devices[1]
	laptop.mkdir("a")
	laptop.write("a/x", "first")
	laptop.push()
	desktop.pull()
	laptop.write("a/x", "second")
	laptop.sealAll(SealOptions{})
	laptop.pushBatches()
	desktop.pullBatches()
	return laptop, desktop
}

// A content seen on the remote is shown from then on.
func TestFound(t *testing.T) {
	t.Parallel()
	laptop, desktop := newWaiting(t)
	ctx := context.Background()
	desktop.want("a/", "a/x = first")
	wanted, err := desktop.WantedBlobs(ctx)
	if err != nil || len(wanted) != 1 || !wanted[0].Pending {
		t.Fatalf("wanted %+v, %v", wanted, err)
	}
	if err := desktop.Found(ctx, []seal.ID{wanted[0].Blob}); err != nil {
		t.Fatal(err)
	}
	desktop.want("a/", "a/x = (not here)")
	desktop.reopen()
	desktop.want("a/", "a/x = (not here)")
	if n, err := desktop.Unconfirmed(ctx, nil); n != 0 || err != nil {
		t.Errorf("unconfirmed %d, %v", n, err)
	}
	if n, err := laptop.Unconfirmed(ctx, nil); n != 1 || err != nil {
		t.Errorf("unconfirmed at its author %d, %v", n, err)
	}
	laptop.pushBlobs()
	if n, err := laptop.Unconfirmed(ctx, nil); n != 0 || err != nil {
		t.Errorf("unconfirmed when sent %d, %v", n, err)
	}
	desktop.pullBlobs()
	desktop.want("a/", "a/x = second")
}

// A kill at any moment of Found leaves a device that looks for the content
// again, not one that shows the earlier content for ever.
func TestFoundThenKilled(t *testing.T) {
	t.Parallel()
	_, desktop := newWaiting(t)
	ctx := context.Background()
	find := func() {
		wanted, err := desktop.WantedBlobs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range wanted {
			if err := desktop.Found(ctx, []seal.ID{w.Blob}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var killed []string
	end := desktop.atCommits(func() { killed = append(killed, crashCopy(t, desktop.Vault, false)) })
	find()
	end()
	if len(killed) == 0 {
		t.Fatal("Found wrote nothing")
	}
	for i, home := range killed {
		desktop.home = home
		desktop.open()
		find()
		t.Logf("killed after transaction %d of %d", i+1, len(killed))
		desktop.want("a/", "a/x = (not here)")
	}
}
