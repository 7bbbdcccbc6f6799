package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

// clearError demands one line that begins with "error: ", one that begins with
// "hint: ", nothing on standard output, and the documented exit code.
func clearError(t testing.TB, r result, what string, code int, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if r.code != code || len(lines) != 2 || !strings.HasPrefix(lines[0], "error: ") || !strings.HasPrefix(lines[1], "hint: ") || r.stdout != "" {
		t.Errorf("%s: want exit code %d, one error and one hint: %v", what, code, r)
	}
	for _, word := range words {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("%s: the message does not name %q: %v", what, word, r)
		}
	}
}

// unharmed runs fn and demands that not one byte of the vault changes.
func (b *bed) unharmed(fn func()) {
	b.t.Helper()
	before := snapshot(b.t, b.vault)
	fn()
	after := snapshot(b.t, b.vault)
	for _, s := range []map[string]string{before, after} {
		delete(s, "vault.db-shm") // SQLite's index of its log, made anew at each open
		for name, line := range s {
			if !strings.HasPrefix(line, "-") {
				continue
			}
			words := strings.Fields(line) // mode, size, time, content
			s[name] = words[0] + " " + words[1] + " " + words[3]
		}
	}
	sameTree(b.t, after, before)
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	b.ok("asset add", "A")
	b.unlock = []string{"--password-file", b.file("wrong", "not the password at all\n")}
	mnt := filepath.Join(b.dir, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	b.unharmed(func() {
		for verb, args := range map[string][]string{"mount": {mnt}, "ls": nil, "check": nil, "asset list": nil} {
			clearError(t, b.run(verb, args...), verb, 3)
		}
		b.unlock = []string{"--password-file", filepath.Join(b.dir, "no such file")}
		clearError(t, b.run("ls"), "missing password file", 4, "no such file")
	})
	b.unlock = []string{"--password-file", b.password}
	b.checkClean()
}

func TestVaultOfOthers(t *testing.T) {
	t.Parallel()
	b, other := newVault(t), newVault(t)
	b.ok("asset add", "A")
	t.Run("header of another vault", func(t *testing.T) {
		header, err := os.ReadFile(filepath.Join(b.vault, "header.json"))
		must(t, err)
		foreign, err := os.ReadFile(filepath.Join(other.vault, "header.json"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(b.vault, "header.json"), foreign, 0o600))
		b.unharmed(func() { clearError(t, b.run("ls"), "foreign header", 7, "header.json") })
		for name, broken := range map[string][]byte{"empty": nil, "cut": header[:len(header)/2], "bit": flip(header, len(header)/2)} {
			must(t, os.WriteFile(filepath.Join(b.vault, "header.json"), broken, 0o600))
			r := b.run("ls")
			if r.code == 0 || r.code == 1 || !strings.HasPrefix(r.stderr, "error: ") || !strings.Contains(r.stderr, "hint: ") {
				t.Errorf("%s header: %v", name, r)
			}
		}
		must(t, os.WriteFile(filepath.Join(b.vault, "header.json"), header, 0o600))
		b.checkClean()
	})
	t.Run("newer database", func(t *testing.T) {
		needTool(t, "sqlite3", "sqlite3")
		db := filepath.Join(b.vault, "vault.db")
		version := strings.TrimSpace(tool(t, b.dir, "sqlite3", db, "pragma user_version"))
		tool(t, b.dir, "sqlite3", db, "pragma user_version = 9999")
		b.unharmed(func() { clearError(t, b.run("ls"), "newer database", 11) })
		tool(t, b.dir, "sqlite3", db, "pragma user_version = "+version)
		b.checkClean()
	})
	t.Run("database is garbage", func(t *testing.T) {
		db := filepath.Join(other.vault, "vault.db")
		must(t, os.WriteFile(db, randomBytes(1, 100_000), 0o600))
		clearError(t, other.run("ls"), "garbage database", 35, "vault.db")
	})
	t.Run("no vault", func(t *testing.T) {
		nowhere := *b
		nowhere.vault = filepath.Join(b.dir, "nowhere")
		clearError(t, nowhere.run("ls"), "no vault", 5, "nowhere")
		clearError(t, b.run("init"), "init on a vault", 21)
		b.checkClean()
	})
}

func flip(data []byte, at int) []byte {
	out := bytes.Clone(data)
	out[at] ^= 1
	return out
}

// A second process does not get a vault that is in use; the mount goes on.
func TestVaultInUse(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	must(t, os.WriteFile(filepath.Join(m.asset("A"), "file"), []byte("text"), 0o600))
	second := filepath.Join(b.dir, "second")
	must(t, os.Mkdir(second, 0o700))
	clearError(t, b.run("mount", second), "second mount", 6)
	// One that does not find the socket finds the lock.
	apart := *b
	must(t, os.Mkdir(filepath.Join(b.dir, "run2"), 0o700))
	apart.env = append(append([]string{}, b.env...), "XDG_RUNTIME_DIR="+filepath.Join(b.dir, "run2"))
	clearError(t, apart.run("ls"), "lock without socket", 6)
	remount(t, b, m, map[string]string{"A/file": "text"})
}

func TestMountPoints(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	b := newVault(t)
	at := func(name string) string { return filepath.Join(b.dir, name) }
	must(t, os.MkdirAll(at("full/thing"), 0o700))
	must(t, os.MkdirAll(filepath.Join(b.vault, "inside"), 0o700))
	b.file("plain", "a file")
	busy := *b
	busy.vault = at("other")
	busy.init()
	m := busy.mount()
	b.unharmed(func() {
		clearError(t, b.run("mount", at("missing")), "missing", 40, "missing")
		clearError(t, b.run("mount", at("full")), "not empty", 40, "full")
		clearError(t, b.run("mount", at("plain")), "not a directory", 40, "plain")
		clearError(t, b.run("mount", b.vault), "the vault itself", 40)
		clearError(t, b.run("mount", b.dir), "above the vault", 40)
		clearError(t, b.run("mount", m.dir), "busy", 6, m.dir)
		r := b.finish(b.plain("umount", at("full")))
		clearError(t, r, "umount of what is no mount", 44)
	})
	m.unmount()
	clearError(t, b.run("mount", filepath.Join(b.vault, "inside")), "inside the vault", 40, "inside")
	must(t, os.Remove(filepath.Join(b.vault, "inside")))
	b.checkClean()
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t, "64m")
	b := newBed(t)
	b.vault = filepath.Join(disk, "vault")
	b.init()
	m := b.mount()
	must(t, os.WriteFile(filepath.Join(m.asset("A"), "file"), []byte("text"), 0o600))
	m.unmount()
	must(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	clearError(t, b.run("mount", m.dir), "read-only disk", 28)
	clearError(t, b.run("put", b.password, "A/new"), "put on a read-only disk", 28)
	m = b.mount("--read-only")
	got, err := os.ReadFile(m.path("A", "file"))
	if err != nil || string(got) != "text" {
		t.Errorf("%v, %q", err, got)
	}
	if err := os.WriteFile(m.path("A", "new"), nil, 0o600); err == nil {
		t.Error("a file was made on a read-only mount")
	}
	m.unmount()
	must(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=64m"))
	b.checkClean()
}

// What another user owns is refused with words, not with a stack.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	needRoot(t, "become another user")
	needTool(t, "setpriv", "util-linux")
	b := newVault(t)
	must(t, os.Chmod(b.dir, 0o755))
	must(t, os.Chown(b.password, 65534, 65534))
	must(t, os.Chmod(filepath.Dir(program), 0o755))
	mnt := filepath.Join(b.dir, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	nobody := func(verb string, args ...string) result {
		t.Helper()
		cmd := b.command(verb, args...)
		cmd.Args = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, cmd.Args...)
		cmd.Path = needTool(t, "setpriv", "util-linux")
		home := filepath.Join(b.dir, "nobody")
		must(t, os.MkdirAll(home, 0o700))
		must(t, os.Chown(home, 65534, 65534))
		cmd.Env = append(cmd.Env, "HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_DATA_HOME="+home, "XDG_STATE_HOME="+home, "XDG_CACHE_HOME="+home)
		return b.finish(cmd)
	}
	b.unharmed(func() {
		clearError(t, nobody("ls"), "vault of another user", 27)
	})
	t.Run("no FUSE", func(t *testing.T) {
		// The device is root's alone here, so nobody has none.
		if info, err := os.Stat("/dev/fuse"); err != nil || info.Mode().Perm()&0o006 != 0 {
			t.Skip("everybody may open /dev/fuse here")
		}
		own := *b
		own.vault = filepath.Join(b.dir, "nobody", "vault")
		r := nobody("init", "--kdf", "low") // at the old place: refused
		if r.code == 0 {
			t.Errorf("init in a foreign directory: %v", r)
		}
		saved := b.vault
		defer func() { b.vault = saved }()
		b.vault = own.vault
		if r := nobody("init", "--kdf", "low"); r.code != 0 {
			t.Fatalf("init: %v", r)
		}
		dir := filepath.Join(b.dir, "nobody", "mnt")
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.Chown(dir, 65534, 65534))
		r = nobody("mount", dir)
		if r.code != 41 && r.code != 42 {
			t.Errorf("mount without /dev/fuse: %v", r)
		}
		clearError(t, r, "no /dev/fuse", r.code)
	})
	b.checkClean()
}

// A damaged blob costs one file: EIO on it, everything else works, check names it,
// rescue gets what can be had.
func TestDamagedBlobs(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	dir := m.asset("A")
	const files = 8
	for i := range files {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file-", i)), pattern(uint32(i), 1, 200_000+i), 0o600))
	}
	m.unmount()
	blobs, err := filepath.Glob(filepath.Join(b.vault, "attachments", "*.bin"))
	must(t, err)
	if len(blobs) != files {
		t.Fatalf("%d blobs of %d files", len(blobs), files)
	}
	read := func(name string) []byte { data, err := os.ReadFile(name); must(t, err); return data }
	must(t, os.Truncate(blobs[0], 100_000))                               // cut
	must(t, os.WriteFile(blobs[1], flip(read(blobs[1]), 150_000), 0o600)) // one bit
	first, second := read(blobs[2]), read(blobs[3])                       // swapped
	must(t, os.WriteFile(blobs[2], second, 0o600))
	must(t, os.WriteFile(blobs[3], first, 0o600))
	must(t, os.Remove(blobs[4])) // gone

	m = b.mount()
	m.expect("") // damage is worth a warning
	bad := 0
	for i := range files {
		got, err := os.ReadFile(m.path("A", fmt.Sprint("file-", i)))
		switch {
		case err == nil && string(got) == string(pattern(uint32(i), 1, 200_000+i)):
		case err != nil && errors.Is(err, syscall.EIO):
			bad++
		default:
			t.Errorf("file %d: %v, %s", i, err, describe(got))
		}
	}
	if bad != 5 {
		t.Errorf("%d files answer EIO, want 5", bad)
	}
	must(t, os.WriteFile(m.path("A", "new"), []byte("still works"), 0o600))
	r := b.run("check", "--deep", "--json")
	if n := strings.Count(r.stdout, "file-"); r.code != 10 || n < 5 {
		t.Errorf("check names %d files: %v", n, r)
	}
	m.unmount()
	if r := b.run("check", "--deep"); r.code != 10 || strings.Count(r.stdout+r.stderr, "A/file-") < 5 {
		t.Errorf("check unmounted: %v", r)
	}
	// Repair deletes nothing that a row names.
	b.run("check", "--deep", "--repair")
	if names := b.ok("ls", "A"); strings.Count(names, "file-") != files {
		t.Errorf("after check --repair there are only:\n%s", names)
	}
}
