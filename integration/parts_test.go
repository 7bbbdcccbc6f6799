package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// wireFaults are the networks that files have to pass.
var wireFaults = map[string]string{
	"far away": faultLatency, "slow": faultSlow, "cut while sending": faultCutUp, "cut while receiving": faultCutDown,
	"reset": faultReset, "silent": faultSilent, "in fragments": faultFragments,
}

// TestBadWires: while the network is bad, saving goes on without waiting for it,
// and when it is good again everything has arrived.
func TestBadWires(t *testing.T) {
	t.Parallel()
	for name, fault := range wireFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := s3test.StartGateway(t)
			ada, wire := wired(t, "ada", g, nil)
			bob, far := wired(t, "bob", g, ada)
			m := ada.mountAgain()
			m.expect("kind=offline")
			dir := m.asset("Scans")
			wire.suffer(fault)
			far.suffer(fault)
			files := map[string][]byte{}
			rnd := rand.New(rand.NewPCG(1, 2))
			for i, size := range []int{0, 900, 40_000, 2 << 20, 18 << 20} {
				path := fmt.Sprintf("scan %d", i)
				files[path] = noise(rnd, size)
				start := time.Now()
				must(t, os.WriteFile(filepath.Join(dir, path), files[path], 0o644))
				if took := time.Since(start); took > time.Minute {
					t.Errorf("saving %d bytes took %v: it waited for the network", size, took)
				}
			}
			ada.run("wait", "--timeout", "4s") // fails or not: the fault has met the uploads
			bob.run("sync now")
			wire.suffer()
			far.suffer()
			waitFor(t, "all is sent", patience, func() bool { return ada.run("sync now").code == 0 })
			waitFor(t, "all is here", patience, func() bool { return bob.run("sync now").code == 0 })
			for path, want := range files {
				if got := bob.ok("get", "Scans/"+path, "-"); got != string(want) {
					t.Errorf("%s: %d bytes arrived of %d", path, len(got), len(want))
				}
			}
			m.unmount()
			ada.checkClean()
			bob.checkClean()
		})
	}
}

// TestKilledInUploads kills the daemon, and then the server, in the middle of
// uploads: each save arrives all the same.
func TestKilledInUploads(t *testing.T) {
	t.Parallel()
	g := s3test.StartGateway(t)
	ada, wire := wired(t, "ada", g, nil)
	bob, _ := wired(t, "bob", g, ada)
	ada.enroll()
	m := ada.mountAgain()
	dir := "Films"
	m.asset(dir)
	rnd := rand.New(rand.NewPCG(seedOf(t), 4))
	files := map[string][]byte{}
	uploading := func() bool {
		parts, _ := filepath.Glob(filepath.Join(filepath.Dir(g.Dir), s3test.Bucket, ".sgwtmp", "*", "*"))
		return len(parts) > 0 || ada.syncStatus().Queue > 0
	}
	for round := range 6 {
		wire.suffer(`{"type":"bandwidth","stream":"upstream","attributes":{"rate":4000}}`)
		name := fmt.Sprintf("film %d", round)
		files[name] = noise(rnd, 20<<20)
		must(t, os.WriteFile(m.path(dir, name), files[name], 0o644))
		files[name+" notes"] = noise(rnd, 3000)
		must(t, os.WriteFile(m.path(dir, name+" notes"), files[name+" notes"], 0o644))
		waitFor(t, "an upload is under way", patience, uploading)
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond) // the random moment itself; nothing waits for it
		if round%2 == 0 {
			m.kill()
			m = ada.mountAgain()
		} else {
			g.Kill()
			m.expect("kind=offline")
			g.Start(t)
		}
	}
	wire.suffer() // cuts what is under way once more
	waitFor(t, "all is sent", patience, func() bool { return ada.run("sync now").code == 0 })
	bob.ok("sync now")
	for name, want := range files {
		if got := bob.ok("get", dir+"/"+name, "-"); got != string(want) {
			t.Errorf("%s: %d bytes arrived of %d", name, len(got), len(want))
		}
	}
	if s := ada.syncStatus(); s.Queue != 0 || s.State != "idle" || len(s.Conditions) != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}

// TestNoNetwork mounts in a network namespace without any interface: it lists,
// reads and saves, and catches up where there is a network.
func TestNoNetwork(t *testing.T) {
	t.Parallel()
	needRoot(t, "make a network namespace")
	unshare := needTool(t, "unshare", "util-linux")
	if out, err := exec.Command(unshare, "-n", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v %s", err, out)
	}
	g := s3test.StartGateway(t)
	ada, _ := wired(t, "ada", g, nil)
	bob, _ := wired(t, "bob", g, ada)
	m := ada.mountAgain()
	must(t, os.WriteFile(filepath.Join(m.asset("Trip"), "ticket"), []byte("seat 12"), 0o644))
	ada.ok("wait")
	m.unmount()
	m = ada.prepare()
	m.cmd.Args = append([]string{unshare, "-n"}, m.cmd.Args...)
	m.cmd.Path = unshare
	m.expect("kind=offline")
	start := time.Now()
	must(t, m.launch())
	if names := listing(t, m.path("Trip")); names != "ticket" {
		t.Errorf("listed: %s", names)
	}
	if got, err := os.ReadFile(m.path("Trip", "ticket")); string(got) != "seat 12" || err != nil {
		t.Errorf("read: %q, %v", got, err)
	}
	must(t, os.WriteFile(m.path("Trip", "diary"), []byte("rain"), 0o644))
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("without a network this took %v", took)
	}
	waitFor(t, "the missing network is named", patience, func() bool {
		s := ada.syncStatus()
		return s.State == "offline" && len(s.Conditions) > 0 && s.Conditions[0].Kind == "offline"
	})
	m.stop.Do(func() {
		if r := ada.finish(ada.plain("umount", m.dir)); r.code != 0 || !strings.Contains(r.stderr, "Not uploaded yet") {
			t.Errorf("umount: %v", r)
		}
		<-m.exited
	})
	ada.ok("sync now")
	bob.ok("sync now")
	if got := bob.ok("get", "Trip/diary", "-"); got != "rain" {
		t.Errorf("bob gets %q", got)
	}
}

// TestRemoteIsBlind reads every byte and every name at both kinds of remotes.
func TestRemoteIsBlind(t *testing.T) {
	t.Parallel()
	g := s3test.StartGateway(t)
	bucket, env := bucketAt(g, g.Options.Endpoint)
	nas, _ := remotes["directory"](t)
	for _, place := range []struct {
		name, remote, dir string
		env               []string
	}{{"bucket", bucket, g.Dir, env}, {"directory", nas, strings.TrimPrefix(nas, "file://"), nil}} {
		t.Run(place.name, func(t *testing.T) {
			ada := newDevice(t, "ada", place.remote, place.env, nil)
			bob := newDevice(t, "bob canaryname-b2c9", place.remote, place.env, ada)
			m := ada.mountAgain()
			folder := m.path("canarytitle-7f31", "canaryfolder-5d0e")
			must(t, os.MkdirAll(folder, 0o755))
			for _, size := range []int{1, 100, 3000} {
				text := bytes.Repeat([]byte("canarycontent-91aa "), size)
				must(t, os.WriteFile(filepath.Join(folder, fmt.Sprint("canaryname-b2c9 ", size)), text, 0o644))
			}
			must(t, os.Symlink("canarytarget-c4d8", filepath.Join(folder, "link")))
			must(t, os.WriteFile(filepath.Join(folder, ".~lock.canaryscratch-1b6e#"), []byte("canarycontent-91aa"), 0o644))
			syncAll(ada, bob)
			must(t, os.Rename(filepath.Join(folder, "canaryname-b2c9 1"), filepath.Join(folder, "canaryname-b2c9 moved")))
			must(t, os.Remove(filepath.Join(folder, "canaryname-b2c9 100")))
			syncAll(ada, bob)
			scan(t, "at the remote", place.dir)
			ada.changePassword("another battery staple horse")
			ada.ok("sync now")
			scan(t, "at the remote after a password change", place.dir)
		})
	}
}

// TestRemoteFull: what is saved stays here, the condition has a name, and it all
// goes up when there is room.
func TestRemoteFull(t *testing.T) {
	t.Parallel()
	needRoot(t, "mount a small disk")
	dir := shortTemp(t, "disk")
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	ada := newDevice(t, "ada", "file://"+dir, nil, nil)
	m := ada.mountAgain()
	m.expect("remote-full")
	data := noise(rand.New(rand.NewPCG(1, 1)), 6<<20)
	must(t, os.WriteFile(filepath.Join(m.asset("Films"), "film"), data, 0o644))
	must(t, os.WriteFile(m.path("Films", "note"), []byte("small"), 0o644))
	waitFor(t, "the full remote is named", patience, func() bool {
		return slices.ContainsFunc(ada.syncStatus().Conditions, func(c struct{ Kind, Text, Hint string }) bool { return c.Kind == "remote-full" && c.Hint != "" })
	})
	if got, err := os.ReadFile(m.path("Films", "film")); !bytes.Equal(got, data) || err != nil {
		t.Errorf("the film reads %d bytes, %v", len(got), err)
	}
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=30m"))
	ada.ok("sync now")
	bob := newDevice(t, "bob", "file://"+dir, nil, ada)
	bob.ok("sync now")
	if got := bob.ok("get", "Films/film", "-"); got != string(data) {
		t.Errorf("bob has %d bytes", len(got))
	}
	if s := ada.syncStatus(); len(s.Conditions) != 0 || s.Queue != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}
