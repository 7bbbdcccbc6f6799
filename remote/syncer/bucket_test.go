package syncer_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

func bucketURL(o s3.Options, prefix string) string {
	query := url.Values{"endpoint": {o.Endpoint}, "region": {o.Region}, "style": {o.Style}}
	return "s3://" + o.Bucket + "/" + prefix + "?" + query.Encode()
}

// newBucketFleet is newFleet over a bucket.
func newBucketFleet(t *testing.T, o s3.Options, names ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, url: bucketURL(o, "family"), s3: o}
	for _, name := range names {
		f.add(name)
	}
	return f
}

func TestBucket(t *testing.T) {
	t.Parallel()
	f := newBucketFleet(t, s3test.Fake(t, nil), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	laptop.write("Letters/large.bin", strings.Repeat("0123456789abcdef", 2<<20)) // in parts
	f.sync()
	f.agree()
	desktop.write("Letters/a.txt", "dearest")
	f.sync()
	f.agree()
	laptop.want("Letters/", "Letters/a.txt = dearest", laptop.line("Letters/large.bin"))
	for _, d := range f.devices {
		d.hasNone()
	}
}

// line is that of one file in a listing.
func (d *device) line(path string) string {
	for line := range strings.SplitSeq(d.list(), "\n") {
		if strings.HasPrefix(line, path+" = ") {
			return line
		}
	}
	return path + " is not there"
}

// A real S3 server is killed in the middle of uploads, and comes back.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	g := s3test.StartGateway(t)
	f := newBucketFleet(t, g.Options, "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.sync()
	for i := range 40 {
		laptop.write(fmt.Sprintf("Letters/%d.bin", i), strings.Repeat(fmt.Sprint(i, " "), 100_000))
	}
	laptop.run()
	laptop.until("uploads are under way", func() bool { s := laptop.Status(); return s.Up.Count > 0 && s.Up.Count < 39 })
	g.Kill()
	laptop.until("it is seen as offline", func() bool { laptop.Poke(); return !laptop.Status().Online })
	laptop.write("Letters/meanwhile.txt", "saved all the same")
	g.Start(t)
	laptop.until("all is there", func() bool {
		laptop.Poke()
		s := laptop.Status()
		return s.Online && s.Up.Count == 0 && s.Unsealed == 0 && s.Unpushed == 0
	})
	laptop.halt()
	f.sync()
	f.agree()
	if got := desktop.read("Letters/meanwhile.txt"); got != "saved all the same" {
		t.Errorf("the desktop reads %q", got)
	}
}

// From a save to the other device, with two loops that poll as by default, and
// by `sync now` on both.
func TestLatency(t *testing.T) {
	g := s3test.StartGateway(t)
	f := newBucketFleet(t, g.Options, "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	for _, d := range f.devices {
		d.run()
		d.until("online", func() bool { return d.Status().Online })
	}
	// On however busy a machine, and less than the pause between polls when idle.
	const slowest = time.Minute
	var took []time.Duration
	for i := range 5 {
		laptop.write("Letters/now.bin", strings.Repeat(fmt.Sprint(i), 1<<20))
		start := time.Now()
		laptop.sync()
		desktop.sync()
		took = append(took, time.Since(start))
		if desktop.line("Letters/now.bin") != laptop.line("Letters/now.bin") {
			t.Fatalf("not the same:\n%s\n%s", desktop.list(), laptop.list())
		}
	}
	t.Logf("sync now on both: %v", took)
	if least := slices.Min(took); least > slowest { // half a second on a machine of its own
		t.Errorf("a save took %v or more to the other device", least)
	}
	took = took[:0]
	for i := range 5 {
		content := strings.Repeat(fmt.Sprint(i), 1<<20)
		desktop.Poke()
		laptop.write("Letters/polled.bin", content)
		start := time.Now()
		desktop.until("it is here", func() bool { return desktop.read("Letters/polled.bin") == content })
		took = append(took, time.Since(start))
	}
	t.Logf("by polling: %v", took)
	if least := slices.Min(took); least > slowest {
		t.Errorf("a save took %v or more to the other device", least)
	}
}
