package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// remotes are the places that two devices can meet at. Each gives the URL and
// the environment that a device needs for it.
var remotes = map[string]func(t *testing.T) (url string, env []string){
	"directory": func(t *testing.T) (string, []string) {
		return "file://" + shortTemp(t, "nas"), nil
	},
	"server": func(t *testing.T) (string, []string) { return startServer(t, "--file-limit", "1G").url, nil },
	"bucket": func(t *testing.T) (string, []string) {
		o := s3test.Fake(t, nil)
		query := url.Values{"endpoint": {o.Endpoint}, "region": {o.Region}, "style": {o.Style}}
		return "s3://" + o.Bucket + "/family?" + query.Encode(),
			[]string{"AWS_ACCESS_KEY_ID=" + o.AccessKey, "AWS_SECRET_ACCESS_KEY=" + o.SecretKey}
	},
}

// onEveryRemote runs a test on each kind of remote.
func onEveryRemote(t *testing.T, run func(t *testing.T, remote string, env []string)) {
	t.Parallel()
	for name, place := range remotes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			remote, env := place(t)
			run(t, remote, env)
		})
	}
}

// newDevice is a machine of the vault at a remote; the first one makes both.
func newDevice(t *testing.T, name, remote string, env []string, first *bed) *bed {
	t.Helper()
	b := newBed(t)
	b.env = append(b.env, env...)
	if first == nil {
		b.init()
		b.ok("sync enable", "--device-name", name, remote)
		b.ok("sync now")
		return b
	}
	r := b.join(name, remote, first.address())
	if r.code != 0 {
		t.Fatalf("%s joins: %v", name, r)
	}
	return b
}

// syncStatus is what `sync status --json` says.
func (b *bed) syncStatus() (s struct {
	Address, Remote, State string
	Queue                  int
	Kept                   bool `json:"credentials_kept"`
	Devices                []struct {
		Name string
		This bool
	}
	Conditions []struct{ Kind, Text, Hint string }
}) {
	b.t.Helper()
	must(b.t, json.Unmarshal([]byte(b.ok("sync status", "--json")), &s))
	return s
}

func (b *bed) address() string {
	b.t.Helper()
	return b.syncStatus().Address
}

func (b *bed) join(name, remote, address string, options ...string) result {
	b.t.Helper()
	args := append([]string{"join", "--vault", b.vault, "--password-file", b.password, "--device-name", name, "--remote", remote, "--yes"}, options...)
	return b.finish(b.plain(append(args, address)...))
}

// syncAll makes every device have what the others have.
func syncAll(devices ...*bed) {
	for range 2 {
		for _, b := range devices {
			b.ok("sync now")
		}
	}
}

// TestTwoDevices is a day of two people with one vault: rsync into one mount,
// reading, listing and an open reader in the other.
func TestTwoDevices(t *testing.T) {
	needTool(t, "rsync", "rsync")
	onEveryRemote(t, func(t *testing.T, remote string, env []string) {
		ada := newDevice(t, "ada", remote, env, nil)
		bob := newDevice(t, "bob", remote, env, ada)
		here, there := ada.mountAgain(), bob.mountAgain()
		source := sampleTree(t)
		must(t, os.Mkdir(here.path("Insurance"), 0o755))
		tool(t, source, "rsync", "-a", source+"/", here.path("Insurance")+"/")
		ada.ok("wait", here.path("Insurance"))
		bob.ok("sync now")
		tool(t, source, "diff", "-r", source, there.path("Insurance"))
		if moved := tool(t, source, "rsync", "-ainO", "--delete", source+"/", there.path("Insurance")+"/"); moved != "" {
			t.Errorf("rsync would move to the other device:\n%s", moved)
		}
		liveChanges(t, ada, bob, here, there)
		if s := bob.syncStatus(); s.Queue != 0 || s.State != "idle" || s.Remote != remote || len(s.Devices) != 2 || len(s.Conditions) != 0 {
			t.Errorf("sync status of bob: %+v", s)
		}
		here.unmount()
		there.unmount()
		ada.checkClean()
		bob.checkClean()
	})
}

// TestJoinedDeviceHasItsName: the others call a device by its name from the moment
// it has joined, before it is used, and know that of the first one.
func TestJoinedDeviceHasItsName(t *testing.T) {
	onEveryRemote(t, func(t *testing.T, remote string, env []string) {
		ada := newDevice(t, "ada", remote, env, nil)
		bob := newDevice(t, "bob", remote, env, ada)
		ada.ok("sync now")
		for _, b := range []*bed{ada, bob} {
			var names []string
			for _, d := range b.syncStatus().Devices {
				names = append(names, d.Name)
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != "ada bob" {
				t.Errorf("devices are called %q, want ada and bob", got)
			}
		}
	})
}

// sampleTree makes files of both formats, folders, a link and an empty file.
func sampleTree(t *testing.T) string {
	t.Helper()
	dir := shortTemp(t, "tree")
	for i := range 60 {
		sub := filepath.Join(dir, fmt.Sprintf("year %d", 2000+i%6))
		must(t, os.MkdirAll(sub, 0o755))
		must(t, os.WriteFile(filepath.Join(sub, fmt.Sprintf("letter %d.txt", i)), bytes.Repeat([]byte{byte(i)}, i*997), 0o640))
	}
	must(t, os.WriteFile(filepath.Join(dir, "film.bin"), bytes.Repeat([]byte("0123456789abcdef"), 30<<16), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(t, os.Symlink("year 2000/letter 0.txt", filepath.Join(dir, "first")))
	return dir
}

// liveChanges demands that a mount shows what another device did at once, under
// cached listings and to who opens a file, and that an open reader goes on with
// what it opened.
func liveChanges(t *testing.T, ada, bob *bed, here, there *mount) {
	t.Helper()
	must(t, os.WriteFile(here.path("Insurance", "policy.txt"), []byte("old text"), 0o644))
	must(t, os.WriteFile(here.path("Insurance", "gone.txt"), []byte("x"), 0o644))
	syncAll(ada, bob)
	reader, err := os.Open(there.path("Insurance", "policy.txt"))
	must(t, err)
	defer reader.Close()
	if names := listing(t, there.path("Insurance")); !strings.Contains(names, "gone.txt") {
		t.Fatalf("bob lists %s", names)
	}
	must(t, os.WriteFile(here.path("Insurance", "policy.txt"), []byte("new and longer"), 0o644))
	must(t, os.Rename(here.path("Insurance", "empty"), here.path("Insurance", "renamed")))
	must(t, os.Remove(here.path("Insurance", "gone.txt")))
	must(t, os.Mkdir(here.path("Insurance", "2026"), 0o755))
	must(t, os.WriteFile(here.path("Insurance", "2026", "invoice"), []byte("paid"), 0o644))
	ada.ok("wait")
	bob.ok("sync now")
	if got, err := io.ReadAll(reader); string(got) != "old text" || err != nil {
		t.Errorf("the open reader reads %q, %v", got, err)
	}
	for name, want := range map[string]string{"policy.txt": "new and longer", "renamed": "", "2026/invoice": "paid"} {
		if got, err := os.ReadFile(there.path("Insurance", name)); string(got) != want || err != nil {
			t.Errorf("%s reads %q, %v; want %q", name, got, err, want)
		}
	}
	names := listing(t, there.path("Insurance"))
	for _, gone := range []string{"gone.txt", "empty"} {
		if _, err := os.Stat(there.path("Insurance", gone)); !errors.Is(err, os.ErrNotExist) || strings.Contains(names, gone) {
			t.Errorf("%s: %v; listed: %s", gone, err, names)
		}
	}
	if !strings.Contains(names, "renamed") || !strings.Contains(names, "2026") {
		t.Errorf("bob lists %s", names)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestFilesTravelByThemselves: nobody asks for anything.
func TestFilesTravelByThemselves(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	ada := newDevice(t, "ada", remote, nil, nil)
	bob := newDevice(t, "bob", remote, nil, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	file := filepath.Join(here.asset("Notes"), "today.txt")
	for _, text := range []string{"first", "second"} {
		must(t, os.WriteFile(file, []byte(text), 0o644))
		start := time.Now()
		waitFor(t, "what ada wrote is read on bob", patience, func() bool {
			got, err := os.ReadFile(there.path("Notes", "today.txt"))
			return err == nil && string(got) == text
		})
		t.Logf("read on the other device after %v", time.Since(start).Round(10*time.Millisecond))
	}
}

// TestConflictOfTwoDevices lets both write one file and settles it.
func TestConflictOfTwoDevices(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	ada := newDevice(t, "ada", remote, nil, nil)
	bob := newDevice(t, "bob", remote, nil, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	file := filepath.Join(here.asset("Notes"), "list.txt")
	must(t, os.WriteFile(file, []byte("milk"), 0o644))
	syncAll(ada, bob)
	bob.ok("sync disable")
	must(t, os.WriteFile(there.path("Notes", "list.txt"), []byte("bread"), 0o644))
	must(t, os.WriteFile(file, []byte("butter"), 0o644))
	ada.ok("wait")
	bob.ok("sync enable")
	syncAll(bob, ada)
	for _, b := range []*bed{ada, bob} {
		if s := b.status(); s["conflicts"] != float64(1) {
			t.Errorf("status counts %v conflicts", s["conflicts"])
		}
	}
	links := here.path(".vaultdrive", "conflicts")
	name := listing(t, links)
	if !strings.HasPrefix(name, "list (conflict ") {
		t.Fatalf("conflicts/ lists %q", name)
	}
	linked, err := os.ReadFile(filepath.Join(links, name))
	beside, err2 := os.ReadFile(here.path("Notes", name))
	if err = errors.Join(err, err2); err != nil || !bytes.Equal(linked, beside) {
		t.Errorf("the link reads %q, the copy %q, %v", linked, beside, err)
	}
	if out := ada.ok("conflicts list"); !strings.Contains(out, "by ada (this device)") || !strings.Contains(out, "by bob") {
		t.Errorf("conflicts list: %s", out)
	}
	ada.ok("conflicts keep", "--mine", "Notes/list.txt")
	syncAll(ada, bob)
	for _, m := range []*mount{here, there} {
		if got, err := os.ReadFile(m.path("Notes", "list.txt")); string(got) != "butter" || err != nil {
			t.Errorf("kept: %q, %v", got, err)
		}
		if names := listing(t, m.path("Notes")); names != "list.txt" {
			t.Errorf("left: %s", names)
		}
	}
	if out := bob.ok("trash list"); !strings.Contains(out, "Notes/list.txt") {
		t.Errorf("the trash of bob: %q", out)
	}
}

// TestOfflineMount: no network is needed to mount, save and unmount, and what
// was saved goes up when there is one.
func TestOfflineMount(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	dir := strings.TrimPrefix(remote, "file://")
	ada := newDevice(t, "ada", remote, nil, nil)
	bob := newDevice(t, "bob", remote, nil, ada)
	must(t, os.Rename(dir, dir+".away"))
	here := ada.mountAgain()
	here.expect("remote-missing")
	must(t, os.WriteFile(filepath.Join(here.asset("Trip"), "plan.txt"), []byte("train"), 0o644))
	waitFor(t, "the missing remote is named", patience, func() bool {
		s := ada.syncStatus()
		return len(s.Conditions) > 0 && s.Conditions[0].Kind == "remote-missing" && s.Conditions[0].Hint != ""
	})
	if s := ada.status(); s["dirty"] == float64(0) || len(s["alarms"].([]any)) == 0 {
		t.Errorf("status: %v", s)
	}
	if r := ada.run("sync now"); r.code != 60 || !strings.Contains(r.stderr, "hint: ") {
		t.Errorf("sync now: %v; want 60 and a hint", r)
	}
	if r := ada.run("wait", "--timeout", "1m"); r.code != 60 || !strings.Contains(r.stderr, "hint: ") {
		t.Errorf("wait: %v; want 60 at once and a hint", r)
	}
	here.stop.Do(func() {
		if r := ada.finish(ada.plain("umount", here.dir)); r.code != 0 || !strings.Contains(r.stderr, "Not uploaded yet: ") {
			t.Errorf("umount: %v", r)
		}
		<-here.exited
	})
	must(t, os.Rename(dir+".away", dir))
	ada.ok("sync now")
	bob.ok("sync now")
	if out := bob.ok("get", "Trip/plan.txt", "-"); out != "train" {
		t.Errorf("bob gets %q", out)
	}
}

// TestRemoteComesBack: a mount goes on by itself when its remote is there again.
func TestRemoteComesBack(t *testing.T) {
	t.Parallel()
	remote, _ := remotes["directory"](t)
	dir := strings.TrimPrefix(remote, "file://")
	ada := newDevice(t, "ada", remote, nil, nil)
	must(t, os.Rename(dir, dir+".away"))
	here := ada.mountAgain()
	here.expect("remote-missing")
	must(t, os.WriteFile(filepath.Join(here.asset("Trip"), "plan.txt"), []byte("train"), 0o644))
	waitFor(t, "the missing remote is named", patience, func() bool { return len(ada.syncStatus().Conditions) > 0 })
	must(t, os.Rename(dir+".away", dir))
	waitFor(t, "all is uploaded", patience, func() bool {
		s := ada.syncStatus()
		return s.State == "idle" && s.Queue == 0 && len(s.Conditions) == 0
	})
}

// TestCredentialsAreKept: with --keep-credentials a mount needs none from its
// environment, and nobody who has the disk sees them.
func TestCredentialsAreKept(t *testing.T) {
	t.Parallel()
	remote, env := remotes["bucket"](t)
	ada := newBed(t)
	plain := ada.env
	ada.init()
	ada.env = append(plain[:len(plain):len(plain)], env...)
	ada.ok("sync enable", remote)
	ada.env = plain
	if r := ada.run("sync now"); r.code != 59 || !strings.Contains(r.stderr, "AWS_ACCESS_KEY_ID") {
		t.Errorf("without credentials: %v; want 59 and what to do", r)
	}
	here := ada.mountAgain() // without any it mounts all the same
	here.expect("the remote cannot be used")
	if s := ada.syncStatus(); s.State != "stopped" || len(s.Conditions) != 1 || s.Conditions[0].Hint == "" {
		t.Errorf("a mount without credentials: %+v", s)
	}
	ada.env = append(plain[:len(plain):len(plain)], env...)
	ada.ok("sync now") // the command brings them
	ada.ok("sync enable", "--keep-credentials")
	ada.env = plain
	here.unmount()
	again := ada.mountAgain()
	must(t, os.WriteFile(filepath.Join(again.asset("A"), "f"), []byte("x"), 0o644))
	ada.ok("wait")
	if s := ada.syncStatus(); !s.Kept || s.State != "idle" {
		t.Errorf("with kept credentials: %+v", s)
	}
	again.unmount()
	secret := strings.TrimPrefix(env[1], "AWS_SECRET_ACCESS_KEY=")
	must(t, filepath.WalkDir(ada.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s holds the secret in clear", path)
		}
		return err
	}))
}
