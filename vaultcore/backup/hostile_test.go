package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// small is a backup of little, for what is done to every byte of it.
func small(t testing.TB) (*source, []byte) {
	t.Helper()
	s := newSource(t)
	s.write("A/f", []byte("one content"))
	s.write("A/g", []byte("two content"))
	return s, s.backup()
}

func check(b []byte) error {
	_, err := Check(context.Background(), bytes.NewReader(b), "", nil)
	return err
}

// TestBackupHostile: no change of a single bit, no cut and no addition passes.
func TestBackupHostile(t *testing.T) {
	s, b := small(t)
	if err := check(b); err != nil {
		t.Fatal(err)
	}
	members, _ := split(t, b)
	mac := len(join(members[:2], nil)) + block
	bad := slices.Clone(b)
	for i := range b {
		bad[i] ^= 1 << (i % 8)
		err := check(bad)
		if i >= mac && i < mac+seal.BackupMACSize {
			if err != nil { // only who has the key can tell
				t.Fatalf("bit %d of the MAC, without a password: %v", i-mac, err)
			}
			if i%8 == 0 {
				_, err := verify(t, bad, testPassword)
				wantErr(t, "a bit of the MAC", err, ErrContent)
			}
		} else {
			wantErr(t, fmt.Sprintf("bit flipped at byte %d", i), err, ErrLayout, ErrHash, ErrContent, seal.ErrNewer)
		}
		bad[i] = b[i]
	}
	for n := 0; n < len(b); n += 7 {
		wantErr(t, fmt.Sprintf("cut at %d", n), check(b[:n]), ErrLayout)
	}
	wantErr(t, "a byte behind the end", check(append(slices.Clone(b), 0)), ErrLayout)
	wantErr(t, "a backup behind the end", check(append(slices.Clone(b), b...)), ErrLayout)
	if got := tree(t, s.Vault); !strings.Contains(got, "A/g") {
		t.Error("the vault itself has suffered")
	}
}

// TestHostileMembers: nothing but the very members in the very order is read.
func TestHostileMembers(t *testing.T) {
	_, b := small(t)
	blobs := func(m []raw) (int, int) { i := find(t, m, "blobs/"); return i, i + 1 }
	header := func(change func(*tar.Header)) func([]raw) []raw {
		return func(m []raw) []raw {
			i, _ := blobs(m)
			h := &tar.Header{Name: m[i].name, Mode: 0o600, Size: int64(len(m[i].body)), Typeflag: tar.TypeReg}
			change(h)
			var buf bytes.Buffer
			if err := tar.NewWriter(&buf).WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			m[i].head = buf.Bytes()
			return m
		}
	}
	tests := map[string]func([]raw) []raw{
		"two blobs out of order":  func(m []raw) []raw { i, j := blobs(m); m[i], m[j] = m[j], m[i]; return m },
		"a blob twice":            func(m []raw) []raw { i, _ := blobs(m); return slices.Insert(m, i, m[i]) },
		"a blob left out":         func(m []raw) []raw { i, _ := blobs(m); return slices.Delete(m, i, i+1) },
		"the log behind":          func(m []raw) []raw { i := find(t, m, "log/"); l := m[i]; return append(slices.Delete(m, i, i+1), l) },
		"an extra member":         func(m []raw) []raw { return append(m, raw{head: memberHead("extra", 0, 0)}) },
		"no signature":            func(m []raw) []raw { return slices.Delete(m, 1, 2) },
		"no manifest":             func(m []raw) []raw { return m[1:] },
		"a name above":            header(func(h *tar.Header) { h.Name = "blobs/../../../etc/passwd" }),
		"a name from the root":    header(func(h *tar.Header) { h.Name = "/etc/passwd" }),
		"a name with a dot":       header(func(h *tar.Header) { h.Name = "./" + h.Name }),
		"upper case":              header(func(h *tar.Header) { h.Name = strings.ToUpper(h.Name) }),
		"a hard link":             header(func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = tar.TypeLink, "manifest.json", 0 }),
		"a symbolic link":         header(func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0 }),
		"a device":                header(func(h *tar.Header) { h.Typeflag, h.Devmajor, h.Size = tar.TypeBlock, 8, 0 }),
		"a fifo":                  header(func(h *tar.Header) { h.Typeflag, h.Size = tar.TypeFifo, 0 }),
		"a directory":             header(func(h *tar.Header) { h.Typeflag, h.Size = tar.TypeDir, 0 }),
		"a PAX path":              header(func(h *tar.Header) { h.PAXRecords = map[string]string{"comment": "x"} }),
		"a name of another owner": header(func(h *tar.Header) { h.Uid, h.Uname = 1000, "root" }),
		"setuid":                  header(func(h *tar.Header) { h.Mode = 0o4755 }),
		"a huge size":             header(func(h *tar.Header) { h.Size = 1 << 50; h.Format = tar.FormatGNU }),
		"a negative size": func(m []raw) []raw {
			i, _ := blobs(m)
			copy(m[i].head[124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
			return m
		},
		"a sparse file":   func(m []raw) []raw { i, _ := blobs(m); m[i].head[156] = 'S'; return m },
		"a global header": func(m []raw) []raw { return slices.Insert(m, 0, raw{head: ustar("g", 'g', 0o600, 0, 0)}) },
		"another time": func(m []raw) []raw {
			i, _ := blobs(m)
			m[i].head = memberHead(m[i].name, int64(len(m[i].body)), 1)
			return m
		},
		"something between": func(m []raw) []raw {
			i, _ := blobs(m)
			m[i].fill[0] = 1
			return m
		},
	}
	for name, change := range tests {
		members, end := split(t, b)
		wantErr(t, name, check(join(change(members), end)), ErrLayout)
	}
	members, end := split(t, b)
	i, j := blobs(members)
	members[i].body, members[j].body = members[j].body, members[i].body
	wantErr(t, "bodies exchanged", check(join(members, end)), ErrHash)
	for _, b := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte{0}, 10_000), []byte("\x1f\x8b\x08gzip"), b[block:]} {
		wantErr(t, "no backup", check(b), ErrLayout)
	}
}

// TestHostileNumbers: what a file says of its size allocates nothing.
func TestHostileNumbers(t *testing.T) {
	claims := memberHead(nameManifest, seal.MaxManifest, 1)
	before := allocated()
	for range 20 {
		wantErr(t, "a manifest that is not there", check(append(slices.Clone(claims), "{}"...)), ErrLayout)
	}
	if grown := allocated() - before; grown > 100<<20 {
		t.Errorf("%d MiB allocated for 20 files of 514 bytes", grown>>20)
	}
	wantErr(t, "a manifest beyond the limit", check(append(memberHead(nameManifest, seal.MaxManifest+1, 1), make([]byte, block)...)), ErrLayout)
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestHostileSigner: whoever can sign cannot pass another vault's header, a log
// that ends elsewhere, or a state that is none.
func TestHostileSigner(t *testing.T) {
	s, _ := small(t)
	other := newSource(t)
	other.write("B/f", []byte("of another vault"))
	members, _ := split(t, other.backup())
	foreign := members[find(t, members, "headers/")].body
	file := func(m *seal.Manifest, kind seal.FileKind) *seal.BackupFile {
		i := slices.IndexFunc(m.Files, func(f seal.BackupFile) bool { return f.Kind == kind })
		return &m.Files[i]
	}
	without := map[string]struct {
		change func(*seal.Manifest)
		body   func(string) []byte
	}{
		"another vault's header": {func(m *seal.Manifest) {
			f := file(m, seal.FileHeader)
			f.Size, f.Hash = int64(len(foreign)), sha256.Sum256(foreign)
		}, func(name string) []byte {
			if strings.HasPrefix(name, "headers/") {
				return foreign
			}
			return nil
		}},
		"a device of no roster": {func(m *seal.Manifest) { m.Device = seal.NewID() }, nil},
		"another vault's name":  {func(m *seal.Manifest) { m.Vault = seal.NewID() }, nil},
		"another DID":           {func(m *seal.Manifest) { m.DID = other.DID() }, nil},
		"another epoch":         {func(m *seal.Manifest) { m.Epoch = 2 }, nil},
		"another end of the log": {func(m *seal.Manifest) {
			for id, h := range m.Heads {
				h.Hash[0] ^= 1
				m.Heads[id] = h
			}
		}, nil},
	}
	for name, test := range without {
		wantErr(t, name, check(s.forge(test.change, test.body)), ErrContent)
	}
	with := map[string]func(*seal.Manifest){
		"another state": func(m *seal.Manifest) { m.State[0] ^= 1 },
		"a content left out": func(m *seal.Manifest) {
			i := slices.IndexFunc(m.Files, func(f seal.BackupFile) bool { return f.Kind == seal.FileBlob })
			m.Files = slices.Delete(m.Files, i, i+1)
		},
		"no log": func(m *seal.Manifest) {
			m.Files = slices.DeleteFunc(m.Files, func(f seal.BackupFile) bool { return f.Kind == seal.FileBatch })
			clear(m.Heads)
		},
	}
	for name, change := range with {
		b := s.forge(change, nil)
		if err := check(b); err != nil {
			t.Errorf("%s, without a password: %v", name, err)
		}
		_, err := verify(t, b, testPassword)
		wantErr(t, name, err, ErrContent)
		home := filepath.Join(t.TempDir(), "back")
		_, err = Restore(t.Context(), bytes.NewReader(b), opening(testPassword), home, "", true)
		wantErr(t, name+", restored", err, ErrContent)
		if left, _ := filepath.Glob(filepath.Dir(home) + "/*"); len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
	}
	_, err := verify(t, s.forge(func(*seal.Manifest) {}, nil), testPassword)
	if err != nil {
		t.Errorf("nothing forged: %v", err)
	}
}

// TestRevokedDeviceSignsNoBackup: nor does its log go on beyond the cut.
func TestRevokedDeviceSignsNoBackup(t *testing.T) {
	s, _ := small(t)
	b := s.prepare(Options{})
	newest := *b.s.Header
	newest.Devices = slices.Clone(newest.Devices)
	newest.Devices[0].Revoked = true
	p := &proof{m: b.Manifest, newest: &newest, heads: map[seal.ID]seal.Head{}}
	wantErr(t, "manifest of a revoked device", p.manifest(b.raw, b.sig), seal.ErrSignature)
	err := b.s.Batches(t.Context(), func(device seal.ID, seq uint64, frame []byte) error {
		return p.batch(&seal.BackupFile{Kind: seal.FileBatch, ID: device, Seq: seq}, frame)
	})
	wantErr(t, "batch beyond the cut", err, seal.ErrSignature)
}

// TestTarIsTar: what is written is what archive/tar writes, and tar(1) can read.
func TestTarIsTar(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 1 << 20, maxOctal, maxOctal + 1, 100 << 30, seal.MaxV4} {
		name := "blobs/" + seal.NewBlobID().Hex() + ".bin"
		var want bytes.Buffer
		err := tar.NewWriter(&want).WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(1_790_000_000, 0), Format: tar.FormatPAX})
		if err != nil {
			t.Fatal(err)
		}
		got := memberHead(name, size, 1_790_000_000)
		if !bytes.Equal(got, want.Bytes()) {
			i := 0
			for i < min(len(got), want.Len()) && got[i] == want.Bytes()[i] {
				i++
			}
			t.Errorf("size %d: %d bytes, archive/tar writes %d, and they differ at %d", size, len(got), want.Len(), i)
		}
	}
	_, b := small(t)
	r := tar.NewReader(bytes.NewReader(b))
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF && n == 7 {
			break
		}
		if err != nil {
			t.Fatalf("member %d: %v", n, err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil || h.Mode != 0o600 {
			t.Errorf("%s: mode %o, %v", h.Name, h.Mode, err)
		}
	}
}

// FuzzReader: nothing makes the reader panic, and what it takes is what is written.
func FuzzReader(f *testing.F) {
	fixture, err := os.ReadFile(fixturePath)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fixture)
	f.Add(fixture[:len(fixture)/2])
	f.Add(fixture[:block])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b), nil)
		if err != nil {
			return
		}
		raw, err := r.Manifest.Encode()
		if err != nil || !bytes.Equal(raw, r.raw) {
			t.Fatalf("a manifest was read that is written otherwise: %v", err)
		}
		if check(b) == nil && int64(len(b)) != r.Size {
			t.Fatalf("%d bytes passed, the manifest has %d", len(b), r.Size)
		}
	})
}
