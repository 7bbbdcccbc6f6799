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
	byNode map[uint64]*trashFile // listed or known to the kernel
	next   uint64                // next nodeid; cookies count beside it
}

type trashFile struct {
	id      string
	name    string
	node    uint64
	size    int64
	deleted int64
	lookups uint64
	listed  bool
}

func (t *trashFile) cookie() uint64 { return t.node - hiddenTrashFiles + cookieParent + 1 }

func newTrashView(v *vaultcore.Vault) *trashView {
	return &trashView{
		vault:  v,
		byID:   make(map[string]*trashFile),
		byNode: make(map[uint64]*trashFile),
		next:   hiddenTrashFiles,
	}
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
			f.listed = false
			t.dropLocked(f)
		}
	}
	sort.Slice(t.list, func(i, j int) bool { return t.list[i].node < t.list[j].node })
	t.read = time.Now()
	return nil
}

func (t *trashView) addLocked(e *vaultcore.TrashEntry, f *trashFile) {
	if f == nil {
		f = &trashFile{id: e.ID, name: trashName(e), node: t.next, size: e.Size, deleted: e.Deleted.UnixNano()}
		t.next++
		t.byNode[f.node] = f
	}
	f.listed = true
	t.list = append(t.list, f)
	t.byID[f.id], t.byName[f.name] = f, f
}

// dropLocked lets go of a file that is neither listed nor known to the kernel.
func (t *trashView) dropLocked(f *trashFile) {
	if !f.listed && f.lookups == 0 {
		delete(t.byNode, f.node)
	}
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
	if f := t.byNode[node]; f != nil {
		f.lookups -= min(lookups, f.lookups)
		t.dropLocked(f)
	}
}

func (t *trashView) get(node uint64) (trashFile, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.byNode[node]
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
	i := sort.Search(len(t.list), func(i int) bool { return t.list[i].cookie() > after })
	for _, f := range t.list[i:] {
		if !add(fuse.DirEntry{Name: f.name, Ino: f.node, Off: f.cookie(), Mode: fuse.S_IFREG}) {
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
