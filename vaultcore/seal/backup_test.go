package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func testManifest() *Manifest {
	did := DIDFromSeed(&Key{b: [32]byte{1}})
	device, other := ID{1}, ID{2}
	return &Manifest{
		Vault: ID{9}, DID: did, Device: device, Created: 1_790_000_000, Epoch: 2,
		Heads: map[ID]Head{device: {2, [32]byte{3}}, other: {1, [32]byte{4}}}, State: [32]byte{5}, Missing: []ID{{7}, {8}},
		Files: []BackupFile{
			{Kind: FileHeader, Seq: 1, Size: 900, Hash: [32]byte{1}}, {Kind: FileHeader, Seq: 2, Size: 901},
			{Kind: FileBatch, ID: device, Seq: 1, Size: 231}, {Kind: FileBatch, ID: other, Seq: 1, Size: 500}, {Kind: FileBatch, ID: device, Seq: 2, Size: MaxBatch},
			{Kind: FileBlob, ID: ID{5}, Size: OverheadV3}, {Kind: FileBlob, ID: ID{6}, Size: maxSealedV4},
		},
	}
}

func TestManifestHasOneSpelling(t *testing.T) {
	m := testManifest()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(again, b) || len(back.Files) != len(m.Files) || back.Files[4] != m.Files[4] {
		t.Errorf("read and written again: %v\n%s\n%s", err, again, b)
	}
	for i := range b {
		for _, change := range [][]byte{{b[i], ' '}, {}, {b[i] ^ 1}} {
			bad := append(append(bytes.Clone(b[:i]), change...), b[i+1:]...)
			m, err := ParseManifest(bad)
			if err != nil {
				if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNewer) {
					t.Fatalf("byte %d: %v", i, err)
				}
				continue
			}
			if out, err := m.Encode(); err != nil || !bytes.Equal(out, bad) {
				t.Fatalf("byte %d: a second spelling was read: %s", i, bad)
			}
		}
	}
	if _, err := ParseManifest(bytes.Replace(b, []byte(`"v":1`), []byte(`"v":2`), 1)); !errors.Is(err, ErrNewer) {
		t.Errorf("version 2: %v; want ErrNewer", err)
	}
}

func TestManifestRules(t *testing.T) {
	cp := BackupFile{Kind: FileCheckpoint, ID: ID{1}, Seq: 2, Part: 1, Size: 300}
	end := cp
	end.Part = 0
	insert := func(m *Manifest, at int, f ...BackupFile) {
		m.Files = append(append(append([]BackupFile(nil), m.Files[:at]...), f...), m.Files[at:]...)
	}
	good := map[string]func(*Manifest){
		"as it is":           func(*Manifest) {},
		"a checkpoint":       func(m *Manifest) { insert(m, 2, cp, end) },
		"of one part":        func(m *Manifest) { insert(m, 2, end) },
		"a chain's end only": func(m *Manifest) { m.Files = append(m.Files[:2:2], m.Files[3:]...); insert(m, 2, end) },
		"no content":         func(m *Manifest) { m.Files = m.Files[:5] },
	}
	bad := map[string]func(*Manifest){
		"no header":                    func(m *Manifest) { m.Files = m.Files[2:] },
		"a header left out":            func(m *Manifest) { m.Files[0].Seq = 2; m.Files[1].Seq = 3 },
		"a header twice":               func(m *Manifest) { m.Files[1].Seq = 1 },
		"a huge header":                func(m *Manifest) { m.Files[0].Size = maxEnvelope + 1 },
		"an empty member":              func(m *Manifest) { m.Files[0].Size = 0 },
		"a batch left out":             func(m *Manifest) { m.Files = append(m.Files[:2:2], m.Files[3:]...) },
		"the last batch left out":      func(m *Manifest) { m.Files = append(m.Files[:4:4], m.Files[5:]...) },
		"a huge batch":                 func(m *Manifest) { m.Files[2].Size = MaxBatch + 1 },
		"a chain of nobody":            func(m *Manifest) { insert(m, 5, BackupFile{Kind: FileBatch, ID: ID{3}, Seq: 1, Size: 300}) },
		"a head without a chain":       func(m *Manifest) { m.Heads[ID{3}] = Head{1, [32]byte{}} },
		"contents out of order":        func(m *Manifest) { m.Files[5].ID, m.Files[6].ID = ID{6}, ID{5} },
		"a content twice":              func(m *Manifest) { m.Files[6].ID = ID{5} },
		"a huge content":               func(m *Manifest) { m.Files[6].Size++ },
		"a content called missing":     func(m *Manifest) { m.Missing[0] = ID{6} },
		"missing ones out of order":    func(m *Manifest) { m.Missing = []ID{{8}, {7}} },
		"kinds out of order":           func(m *Manifest) { m.Files[4], m.Files[5] = m.Files[5], m.Files[4] },
		"a checkpoint without its end": func(m *Manifest) { insert(m, 2, cp) },
		"two checkpoints":              func(m *Manifest) { insert(m, 2, end, end) },
		"a checkpoint behind the log":  func(m *Manifest) { insert(m, 5, end) },
		"a part left out":              func(m *Manifest) { p := cp; p.Part = 2; insert(m, 2, p, end) },
		"time beyond tar":              func(m *Manifest) { m.Created = maxCreated + 1 },
		"epoch 0":                      func(m *Manifest) { m.Epoch = 0 },
		"no DID":                       func(m *Manifest) { m.DID = "did:key:z" },
		"more devices than a roster":   func(m *Manifest) { m.Files = m.Files[:2]; m.Heads = manyHeads(maxDevices + 1) },
		"more headers than fit in memory": func(m *Manifest) {
			m.Files = m.Files[:0]
			for i := range MaxHeaders/maxEnvelope + 2 {
				m.Files = append(m.Files, BackupFile{Kind: FileHeader, Seq: uint64(i) + 1, Size: maxEnvelope})
			}
			clear(m.Heads)
		},
	}
	for name, change := range good {
		m := testManifest()
		change(m)
		if _, err := m.Encode(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range bad {
		m := testManifest()
		change(m)
		if _, err := m.Encode(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v; want ErrFormat", name, err)
		}
	}
}

func manyHeads(n int) map[ID]Head {
	heads := make(map[ID]Head, n)
	for i := range n {
		heads[ID{byte(i), 1}] = Head{Seq: 1}
	}
	return heads
}

func TestMemberNamesAreTheirOwn(t *testing.T) {
	for _, name := range []string{
		"headers/00000000000000000001.json", "checkpoints/00000000000000000007-01000000-0000-0000-0000-000000000000/m",
		"checkpoints/00000000000000000007-01000000-0000-0000-0000-000000000000/7", "log/01000000-0000-0000-0000-000000000000/00000000000000000003.vdb",
		"blobs/0123456789abcdef0123456789abcdef.bin",
	} {
		var f BackupFile
		if err := parseFileName(name, &f); err != nil || f.Name() != name {
			t.Errorf("%s: %v", name, err)
		}
		for _, bad := range []string{"/" + name, "./" + name, name + "/", strings.ToUpper(name), strings.Replace(name, "/", "//", 1), name[:len(name)-1], "../" + name, strings.Replace(name, "0", "+", 1)} {
			if err := parseFileName(bad, &BackupFile{}); !errors.Is(err, ErrFormat) {
				t.Errorf("%q: %v; want ErrFormat", bad, err)
			}
		}
	}
}

func FuzzManifest(f *testing.F) {
	b, err := testManifest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		if out, err := m.Encode(); err != nil || !bytes.Equal(out, b) {
			t.Fatalf("read, and written as %s, %v", out, err)
		}
	})
}
