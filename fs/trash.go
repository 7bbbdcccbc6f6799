package fs

import (
	"path"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// trashFresh is how long a listing of the trash serves lookups of names that
// are in it: those of one ls -l share it.
const trashFresh = time.Second

// trashView shows the deleted files of the vault as one flat directory. An
// entry keeps its cookie and nodeid as long as it is in the trash.
type trashView struct {
	vault *vaultcore.Vault

	mu     sync.Mutex
	read   time.Time // when the list was read; zero for never
	list   []*trashFile
	byName map[string]*trashFile
	byID   map[string]*trashFile
	ids    nodeids[*trashFile]
}

type trashFile struct {
	viewNode
	id      string
	name    string
	size    int64
	deleted int64
}

func newTrashView(v *vaultcore.Vault) *trashView {
	return &trashView{vault: v, byID: make(map[string]*trashFile), ids: newNodeids[*trashFile](hiddenTrashFiles)}
}

// readLocked reads the trash from the vault.
func (t *trashView) readLocked() error {
	entries, err := t.vault.Trash()
	if err != nil {
		return err
	}
	old := t.byID
	t.list, t.byID, t.byName = nil, make(map[string]*trashFile), make(map[string]*trashFile)
	for i := range entries {
		if e := &entries[i]; e.Kind == vaultcore.KindFile.String() {
			t.addLocked(e, old[e.ID])
		}
	}
	for id, f := range old {
		if t.byID[id] == nil {
			t.ids.unlist(f)
		}
	}
	sort.Slice(t.list, func(i, j int) bool { return t.list[i].node < t.list[j].node })
	t.read = time.Now()
	return nil
}

func (t *trashView) addLocked(e *vaultcore.TrashEntry, f *trashFile) {
	if f == nil {
		f = &trashFile{id: e.ID, name: trashName(e), size: e.Size, deleted: e.Deleted.UnixNano()}
		t.ids.add(f)
	}
	f.listed = true
	t.list = append(t.list, f)
	t.byID[f.id], t.byName[f.name] = f, f
}

// lookup gives the nodeid behind a name and counts a reference; 0 if there
// is no such name.
func (t *trashView) lookup(name string) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.byName[name]
	if f == nil || time.Since(t.read) > trashFresh {
		if err := t.readLocked(); err != nil {
			return 0, err
		}
		if f = t.byName[name]; f == nil {
			return 0, nil
		}
	}
	f.lookups++
	return f.node, nil
}

func (t *trashView) forget(node, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids.forget(node, lookups)
}

func (t *trashView) get(node uint64) (trashFile, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.ids.nodes[node]
	if f == nil {
		return trashFile{}, false
	}
	return *f, true
}

// entries writes the listing after a cookie; from the beginning, it is read
// from the vault.
func (t *trashView) entries(after uint64, add func(fuse.DirEntry) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after <= cookieParent {
		if err := t.readLocked(); err != nil {
			return err
		}
	}
	i := sort.Search(len(t.list), func(i int) bool { return t.ids.cookie(t.list[i]) > after })
	for _, f := range t.list[i:] {
		if !add(fuse.DirEntry{Name: f.name, Ino: f.node, Off: t.ids.cookie(f), Mode: fuse.S_IFREG}) {
			break
		}
	}
	return nil
}

// trashName is the file's last name with the first digits of its id, which
// tells apart what was deleted under one name, before the extension, which
// programs go by.
func trashName(e *vaultcore.TrashEntry) string {
	id := strings.ReplaceAll(e.ID, "-", "")
	base := path.Base(e.Path)
	ext := path.Ext(base)
	if len(ext) > 32 || len(ext) == len(base) {
		ext = ""
	}
	stem, suffix := strings.TrimSuffix(base, ext), "~"+id[:min(12, len(id))]+ext
	for len(stem)+len(suffix) > maxName || !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return stem + suffix
}
