package integration

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// objects lists the objects of a kind at a directory remote, by path.
func objects(t *testing.T, dir, kind string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, "/"+kind) {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

// hurts are what a bad store, or a bad disk, does to the newest of some objects.
// Each returns the paths of what is not as it was.
var hurts = map[string]func(t *testing.T, old, fresh []string) []string{
	"altered": func(t *testing.T, _, fresh []string) []string {
		data, err := os.ReadFile(fresh[0])
		must(t, err)
		data[len(data)/2] ^= 1
		replaceObject(t, fresh[0], data)
		return fresh[:1]
	},
	"truncated": func(t *testing.T, _, fresh []string) []string {
		data, err := os.ReadFile(fresh[0])
		must(t, err)
		replaceObject(t, fresh[0], data[:len(data)-7])
		return fresh[:1]
	},
	"swapped": func(t *testing.T, _, fresh []string) []string {
		a, err := os.ReadFile(fresh[0])
		b, err2 := os.ReadFile(fresh[1])
		must(t, errors.Join(err, err2))
		replaceObject(t, fresh[0], b)
		replaceObject(t, fresh[1], a)
		return fresh[:2]
	},
	"replayed": func(t *testing.T, old, fresh []string) []string {
		data, err := os.ReadFile(old[0])
		must(t, err)
		replaceObject(t, fresh[0], data)
		return fresh[:1]
	},
	"deleted": func(t *testing.T, _, fresh []string) []string {
		must(t, os.Remove(fresh[0]))
		return fresh[:1]
	},
}

func replaceObject(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600)))
}

// TestBadObjects: one object at the remote is not what its author put there. The
// device that meets it names what is wrong and goes on with the rest; nothing is
// lost, and what has a copy is put back.
func TestBadObjects(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"log/", "blobs/"} {
		for name, hurt := range hurts {
			t.Run(strings.TrimSuffix(kind, "/")+" "+name, func(t *testing.T) {
				t.Parallel()
				want := "content-altered"
				switch {
				case kind == "log/" && name == "deleted":
					want = "batches-missing"
				case kind == "log/":
					want = "object-altered"
				case name == "deleted":
					want = "content-missing"
				}
				playBadObject(t, kind, want, hurt)
			})
		}
	}
}

func playBadObject(t *testing.T, kind, condition string, hurt func(t *testing.T, old, fresh []string) []string) {
	remote, _ := remotes["directory"](t)
	dir := strings.TrimPrefix(remote, "file://")
	ada := newDevice(t, "ada", remote, nil, nil)
	bob := newDevice(t, "bob", remote, nil, ada)
	files := map[string]string{}
	rnd := rand.New(rand.NewPCG(5, 5))
	save := func(name string) {
		files[name] = string(noise(rnd, 50_000))
		ada.ok("put", ada.file("source", files[name]), "Letters/"+name)
		ada.ok("sync now")
	}
	ada.ok("asset add", "Letters")
	save("old")
	syncAll(ada, bob)
	before := objects(t, dir, kind)
	save("first")
	save("second")
	fresh := slices.DeleteFunc(objects(t, dir, kind), func(p string) bool { return slices.Contains(before, p) })
	if len(fresh) < 2 {
		t.Fatalf("new objects: %v", fresh)
	}
	hurtPaths := hurt(t, before, fresh)
	m := bob.mountAgain()
	m.expect("level=WARN") // what they say is what this test is about
	r := bob.run("sync now")
	named := bob.syncStatus().Conditions
	if !slices.ContainsFunc(named, func(c struct{ Kind, Text, Hint string }) bool { return c.Kind == condition && c.Hint != "" }) {
		t.Errorf("bob names %+v, not %s; sync now: %v", named, condition, r)
	}
	if got := bob.ok("get", "Letters/old", "-"); got != files["old"] {
		t.Errorf("what bob had reads %d bytes", len(got))
	}
	for _, name := range []string{"first", "second"} { // the right bytes, or none
		if r := bob.run("get", "Letters/"+name, "-"); r.code == 0 && r.stdout != files[name] {
			t.Errorf("%s reads wrong on bob", name)
		}
	}
	healed := ada.ok("sync now", "--heal")
	for _, path := range hurtPaths {
		if name := filepath.Base(path); condition != "batches-missing" && condition != "content-missing" && !strings.Contains(healed, name) {
			t.Errorf("healing does not name %s:\n%s", name, healed)
		}
	}
	if !poll(patience, func() bool {
		bob.run("sync now")
		return slices.IndexFunc([]string{"old", "first", "second"}, func(name string) bool {
			r := bob.run("get", "Letters/"+name, "-")
			return r.code != 0 || r.stdout != files[name]
		}) < 0
	}) {
		t.Errorf("not put back: %v\n%s", bob.run("sync now"), bob.ok("ls", "-l", "Letters"))
	}
	for name, want := range files {
		if got := ada.ok("get", "Letters/"+name, "-"); got != want {
			t.Errorf("%s reads wrong on ada", name)
		}
	}
}

// TestBadCopies: a content that was altered at the remote and is read from there in
// part, and one that was altered on this device: each is an alarm that names the file
// and what to do, doing that helps, and status says it once.
func TestBadCopies(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	remote, _ := remotes["directory"](t)
	dir := strings.TrimPrefix(remote, "file://")
	ada := newDevice(t, "ada", remote, nil, nil)
	bob := newDevice(t, "bob", remote, nil, ada)
	rnd := rand.New(rand.NewPCG(7, 7))
	large := string(noise(rnd, 27<<20)) // of version 4
	ada.ok("asset add", "Letters")
	ada.ok("put", ada.file("large", large), "Letters/large")
	ada.ok("sync now")
	object := objects(t, dir, "blobs/")[0]
	hurtAt(t, object, 20<<20)
	bob.ok("sync enable", "--prefetch", "none")
	there := bob.mountAgain()
	there.expect("level=WARN")
	if r := bob.run("get", "Letters/large", "-"); r.code == 0 {
		t.Error("bob reads what was altered")
	}
	oneAlarm(t, bob, "Letters/large", "sync now --heal")
	if cond := bob.syncStatus().Conditions; len(cond) != 1 || cond[0].Kind != "content-altered" || !strings.Contains(cond[0].Hint, "--heal") {
		t.Errorf("bob names %+v", cond)
	}
	ada.ok("sync now", "--heal")
	if got := bob.ok("get", "Letters/large", "-"); got != large {
		t.Error("bob reads something else after healing")
	}

	copies, err := filepath.Glob(filepath.Join(ada.vault, "attachments", "*.bin"))
	must(t, err)
	hurtAt(t, copies[0], 20<<20)
	here := ada.mountAgain()
	here.expect("level=WARN")
	if r := ada.run("get", "Letters/large", "-"); r.code == 0 {
		t.Error("ada reads what was altered on her disk")
	}
	oneAlarm(t, ada, "Letters/large", "vaultdrive evict")
	ada.ok("evict", "Letters/large")
	if got := ada.ok("get", "Letters/large", "-"); got != large {
		t.Error("ada reads something else from the remote")
	}
}

// oneAlarm wants status to show one alarm, with these words.
func oneAlarm(t *testing.T, b *bed, words ...string) {
	t.Helper()
	var alarms []string
	for line := range strings.Lines(b.ok("status")) {
		if strings.HasPrefix(line, "alarm") {
			alarms = append(alarms, line)
		}
	}
	if len(alarms) != 1 || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(alarms[0], w) }) {
		t.Errorf("alarms with %q: %q", words, alarms)
	}
}

// hurtAt alters a byte of a file.
func hurtAt(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 1}, at)
	must(t, err)
}

// TestCopyBesideTheMount: a copy of a vault's directory has the identity of the one
// that is mounted: no command about the copy reaches that mount.
func TestCopyBesideTheMount(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	ada := newBed(t)
	ada.init()
	ada.ok("asset add", "Letters")
	copied := filepath.Join(ada.dir, "copy")
	must(t, os.CopyFS(copied, os.DirFS(ada.vault)))
	ada.mountAgain()
	there := *ada
	there.vault = copied
	r := there.run("put", ada.file("source", "text"), "Letters/a")
	if r.code != 6 || !strings.Contains(r.stderr, ada.vault) {
		t.Errorf("put into a copy beside the mount: %v", r)
	}
	if out := ada.ok("ls", "Letters"); strings.Contains(out, "a") {
		t.Errorf("it went into the mounted one:\n%s", out)
	}
}
