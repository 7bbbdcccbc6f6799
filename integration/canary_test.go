package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// canaries are strings that must not be found anywhere outside the mount, in any
// of the spellings a program might store them in.
func canaries() map[string][]byte {
	out := map[string][]byte{}
	for _, word := range []string{"canarytitle-7f31", "canaryname-b2c9", "canaryfolder-5d0e", "canarycontent-91aa", "canarytarget-c4d8", "canaryscratch-1b6e", testPassword} {
		out[word] = []byte(word)
		out[word+" in hex"] = []byte(hex.EncodeToString([]byte(word)))
		// Base64 has three alignments; the middle of each is the same wherever it lies.
		for shift := range 3 {
			text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), word...))
			out[word+" in base64"+strings.Repeat("'", shift)] = []byte(text[4 : len(text)-4])
		}
		var wide []byte
		for _, c := range []byte(word) {
			wide = append(wide, c, 0)
		}
		out[word+" in UTF-16"] = wide
	}
	return out
}

// scan reads every byte and every name below the directories.
func scan(t testing.TB, when string, dirs ...string) {
	t.Helper()
	words := canaries()
	files := 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
				return nil // gone meanwhile, or a socket
			}
			text := []byte(d.Name())
			if d.Type().IsRegular() {
				files++
				data, err := os.ReadFile(path)
				if err != nil {
					return nil
				}
				text = append(text, data...)
			}
			for what, word := range words {
				if bytes.Contains(text, word) {
					t.Errorf("%s: %s is in %s", when, what, path)
				}
			}
			return nil
		})
		must(t, err)
	}
	if files == 0 {
		t.Errorf("%s: there was nothing to scan", when)
	}
}

// No plaintext, name or key is anywhere below the vault, the cache, the runtime
// directory or the logs: in a working mount, after a kill in the middle of a
// write, after recovery, after unmount, and after a password change.
func TestNoPlaintextOnDisk(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	dirs := []string{b.vault, filepath.Join(b.dir, "home"), filepath.Join(b.dir, "run"), filepath.Join(b.dir, "logs")}
	content := []byte(strings.Repeat("canarycontent-91aa ", 3000))
	work := func(m *mount) (open *os.File) {
		t.Helper()
		folder := m.path("canarytitle-7f31", "canaryfolder-5d0e")
		must(t, os.MkdirAll(folder, 0o700))
		for name, size := range map[string]int{"small canaryname-b2c9.txt": 100, "large canaryname-b2c9": len(content), "canaryname-b2c9.pdf": 33_000} {
			must(t, os.WriteFile(filepath.Join(folder, name), content[:size], 0o600))
		}
		must(t, os.WriteFile(filepath.Join(folder, ".~lock.canaryscratch-1b6e#"), content[:500], 0o600))
		os.Remove(filepath.Join(folder, "link"))
		must(t, os.Symlink("canarytarget-c4d8", filepath.Join(folder, "link")))
		must(t, os.Rename(filepath.Join(folder, "canaryname-b2c9.pdf"), filepath.Join(folder, "canaryname-b2c9 moved")))
		must(t, os.Remove(filepath.Join(folder, "large canaryname-b2c9")))
		f, err := os.OpenFile(filepath.Join(folder, "canaryname-b2c9 open"), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		_, err = f.Write(content)
		must(t, err)
		must(t, f.Sync()) // into the draft log
		stream, err := os.Create(filepath.Join(folder, "canaryname-b2c9 stream"))
		must(t, err)
		for range 600 {
			_, err = stream.Write(content)
			must(t, err)
		}
		must(t, stream.Close())
		_, err = f.WriteAt(content, 1000)
		must(t, err)
		return f
	}
	m := b.mount()
	open := work(m)
	scan(t, "mounted, in the middle of a write", dirs...)
	m.kill()
	open.Close()
	scan(t, "killed", dirs...)
	m = b.mount()
	scan(t, "recovered", dirs...)
	work(m).Close()
	b.ok("trash list")
	b.ok("ls", "-r", "/")
	m.unmount()
	scan(t, "unmounted", dirs...)
	b.changePassword("another battery staple horse")
	b.checkClean()
	scan(t, "after a password change", dirs...)
}

// The keys in the daemon's memory do not reach a core file: it must not write one.
func TestNoCoreFile(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	limits, err := os.ReadFile(filepath.Join("/proc", itoa(m.cmd.Process.Pid), "limits"))
	must(t, err)
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && !strings.HasPrefix(strings.TrimSpace(rest), "0 ") {
			t.Errorf("the daemon may dump core: %s", line)
		}
	}
	m.unmount()
}
