package integration

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// A name composed, as Linux and Windows type it, and decomposed, as a Mac may send
// it, is two names: each reads back byte for byte what its program has written, and
// both devices show both.
func TestComposedAndDecomposedNames(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	needTool(t, "rsync", "rsync")
	composed, decomposed := norm.NFC.String("Übergröße é.txt"), norm.NFD.String("Übergröße é.txt")
	remote := "file://" + shortTemp(t, "nas")
	ada := newDevice(t, "ada", remote, nil, nil)
	bob := newDevice(t, "bob", remote, nil, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	here.asset("A")
	syncAll(ada, bob)
	// Each device makes its own, neither knowing of the other's.
	must(t, os.WriteFile(here.path("A", composed), []byte("by ada, composed"), 0o600))
	must(t, os.WriteFile(there.path("A", decomposed), []byte("by bob, decomposed"), 0o600))
	syncAll(ada, bob)
	files := map[string][]byte{composed: []byte("by ada, composed"), decomposed: []byte("by bob, decomposed")}
	for _, m := range []*mount{here, there} {
		m.sameFiles(files)
		m.names("A", composed, decomposed)
	}
	// An edit, a rename and a deletion concern the one that is named.
	must(t, os.WriteFile(here.path("A", decomposed), []byte("edited by ada"), 0o600))
	must(t, os.Rename(there.path("A", composed), there.path("A", "plain.txt")))
	syncAll(ada, bob)
	for _, m := range []*mount{here, there} {
		m.sameFiles(map[string][]byte{decomposed: []byte("edited by ada"), "plain.txt": []byte("by ada, composed")})
		m.names("A", "plain.txt", decomposed)
	}
	must(t, os.Remove(there.path("A", decomposed)))
	// A tree from a Mac and the same from Linux, one after the other.
	mac, linux := shortTemp(t, "mac"), shortTemp(t, "linux")
	for dir, form := range map[string]norm.Form{mac: norm.NFD, linux: norm.NFC} {
		must(t, os.MkdirAll(filepath.Join(dir, form.String("Äpfel/é")), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, form.String("Äpfel/é/über")), []byte(filepath.Base(dir)), 0o600))
	}
	tool(t, mac, "rsync", "-a", mac+"/", here.path("A")+"/")
	tool(t, linux, "rsync", "-a", linux+"/", there.path("A")+"/")
	syncAll(ada, bob)
	for _, m := range []*mount{here, there} {
		m.names("A", "plain.txt", norm.NFC.String("Äpfel"), norm.NFD.String("Äpfel"))
		for _, dir := range []string{mac, linux} {
			if moved := tool(t, dir, "rsync", "-ainO", dir+"/", m.path("A")+"/"); moved != "" {
				t.Errorf("rsync of %s would move:\n%s", dir, moved)
			}
		}
	}
	there.unmount()
	here.unmount()
	ada.checkClean()
	bob.checkClean()
}

// names wants a directory to list exactly these names.
func (m *mount) names(dir string, want ...string) {
	m.b.t.Helper()
	entries, err := os.ReadDir(m.path(dir))
	must(m.b.t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.b.t.Errorf("%s lists %+q, want %+q", dir, got, want)
	}
}
