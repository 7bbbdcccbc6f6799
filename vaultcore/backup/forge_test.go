package backup

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// raw is a member as it lies in the file.
type raw struct {
	name       string
	head, body []byte
	fill       []byte
}

// split takes a good backup apart.
func split(t testing.TB, b []byte) (members []raw, end []byte) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	rest := b
	take := func(n int64) []byte {
		p := slices.Clone(rest[:n])
		rest = rest[n:]
		return p
	}
	add := func(name string, size int64) {
		m := raw{name: name, head: take(int64(len(memberHead(name, size, r.Manifest.Created))))}
		m.body, m.fill = take(size), take(padding(size))
		members = append(members, m)
	}
	add(nameManifest, int64(len(r.raw)))
	add(nameSig, seal.BackupSigSize)
	add(nameMAC, seal.BackupMACSize)
	for i := range r.Manifest.Files {
		add(r.Manifest.Files[i].Name(), r.Manifest.Files[i].Size)
	}
	return members, rest
}

func join(members []raw, end []byte) []byte {
	var b []byte
	for _, m := range members {
		b = append(append(append(b, m.head...), m.body...), m.fill...)
	}
	return append(b, end...)
}

// find gives the place of a member.
func find(t testing.TB, members []raw, prefix string) int {
	t.Helper()
	i := slices.IndexFunc(members, func(m raw) bool { return len(m.name) >= len(prefix) && m.name[:len(prefix)] == prefix })
	if i < 0 {
		t.Fatalf("no member %s", prefix)
	}
	return i
}

// forge writes a backup whose manifest a device that has all keys has changed and
// signed; body gives the members, those of the snapshot where it knows none.
func (s *source) forge(change func(*seal.Manifest), body func(name string) []byte) []byte {
	s.t.Helper()
	b := s.prepare(Options{})
	var honest bytes.Buffer
	if err := b.WriteTo(s.t.Context(), &honest); err != nil {
		s.t.Fatal(err)
	}
	members, end := split(s.t, honest.Bytes())
	bodies := map[string][]byte{}
	for _, m := range members {
		bodies[m.name] = m.body
	}
	change(b.Manifest)
	manifest, err := b.Manifest.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	sig, mac, err := b.s.Sign(manifest)
	if err != nil {
		s.t.Fatal(err)
	}
	bodies[nameManifest], bodies[nameSig], bodies[nameMAC] = manifest, sig, mac
	names := []string{nameManifest, nameSig, nameMAC}
	for i := range b.Manifest.Files {
		names = append(names, b.Manifest.Files[i].Name())
	}
	var out []raw
	for _, name := range names {
		data := bodies[name]
		if body != nil {
			if other := body(name); other != nil {
				data = other
			}
		}
		out = append(out, raw{name, memberHead(name, int64(len(data)), b.Manifest.Created), data, make([]byte, padding(int64(len(data))))})
	}
	b.Close()
	return join(out, end)
}

// wantErr checks the class of an error.
func wantErr(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: %v; want %v", what, err, want)
}
