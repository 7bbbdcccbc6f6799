package vaultcore

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Info describes one thing by its path, for commands.
type Info struct {
	Path     string    `json:"path"`
	Kind     string    `json:"kind"`           // asset, folder, file, symlink
	Type     string    `json:"type,omitempty"` // of an asset: password, note, item
	ID       string    `json:"id"`
	Size     int64     `json:"size"`
	Mode     uint32    `json:"mode"`
	Mtime    time.Time `json:"mtime"`
	MIME     string    `json:"mime,omitempty"`
	State    string    `json:"state"` // clean, dirty, scratch, draft, damaged, remote
	Revision uint64    `json:"revision"`
	Version  int       `json:"version,omitempty"` // of the content's format
	// Content says where the content is: present, partial, remote-only, pending.
	Content string `json:"content,omitempty"`
	Here    int64  `json:"here,omitempty"` // sealed bytes of it on this device
	Pinned  bool   `json:"pinned,omitempty"`
}

// splitPath cuts a path of shown names.
func splitPath(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// Find gives the node of a path. Errors: ErrNotFound, ErrNotDir, naming the
// part that is missing.
func (v *Vault) Find(path string) (*Node, error) {
	n := v.root
	for i, part := range splitPath(path) {
		child, _, err := v.Lookup(n, part)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, strings.Join(splitPath(path)[:i+1], "/"))
		}
		n = child
	}
	return n, nil
}

// parentOf gives the directory of a path's last part, and that part.
func (v *Vault) parentOf(path string) (*Node, string, error) {
	parts := splitPath(path)
	if len(parts) == 0 {
		return nil, "", fmt.Errorf("%w: the root itself", ErrInvalid)
	}
	dir, err := v.Find(strings.Join(parts[:len(parts)-1], "/"))
	return dir, parts[len(parts)-1], err
}

// Stat describes what a path leads to.
func (v *Vault) Stat(path string) (Info, error) {
	n, err := v.Find(path)
	if err != nil {
		return Info{}, err
	}
	return v.InfoOf(n), nil
}

// InfoOf describes a node.
func (v *Vault) InfoOf(n *Node) Info {
	i, c := v.infoOf(n)
	i.Content, i.Here = v.residence(c)
	return i
}

// infoOf describes a node but for where its content is.
func (v *Vault) infoOf(n *Node) (i Info, c *content) {
	o := n.open.Load()
	v.tree.RLock()
	defer v.tree.RUnlock()
	i = Info{
		Path: shownPath(n), Kind: n.kind.String(), Size: n.size, Mode: uint32(n.mode),
		Mtime: time.Unix(0, n.mtime), Revision: n.rev(), State: n.state(o),
		Pinned: v.pinned(n),
	}
	if !n.id.IsZero() {
		i.ID = n.id.UUID()
	}
	switch n.kind {
	case KindAsset:
		i.Type = n.atype.String()
	case KindFile:
		i.MIME = v.mimeOf(n)
	}
	if n.content != nil {
		i.Version = int(n.content.ref.version)
	}
	if n.kind == KindFile || n.kind == KindSymlink {
		c = n.content
	}
	return i, c
}

// state is the word for how far a node is from being saved and synced.
func (n *Node) state(o *openState) string {
	switch {
	case n.has(flagDamaged):
		return "damaged"
	case n.kind == KindFile && (n.n == 0 || (o != nil && o.writers > 0)):
		return "draft"
	case n.has(flagScratch):
		return "scratch"
	case n.dirty != 0 || n.has(flagAttrs) || !n.draftID.IsZero():
		return "dirty"
	case n.content != nil && n.content.place.Load() == placeElsewhere:
		return "remote" // the content is there only
	}
	return "clean"
}

// List calls fn with what a path leads to: the children of a directory, with
// recursive all below it, each directory before what is in it; a file alone.
func (v *Vault) List(path string, recursive bool, fn func(Info) error) error {
	n, err := v.Find(path)
	if err != nil {
		return err
	}
	if !n.isDir() {
		return fn(v.InfoOf(n))
	}
	return v.listDir(n, recursive, fn)
}

func (v *Vault) listDir(dir *Node, recursive bool, fn func(Info) error) error {
	var nodes []*Node
	if err := v.ReadDir(dir, 0, func(e *DirEntry) bool {
		nodes = append(nodes, e.Node)
		return true
	}); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := fn(v.InfoOf(n)); err != nil {
			return err
		}
		if recursive && n.isDir() {
			if err := v.listDir(n, true, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// Reading is a file open for reading. Close gives it back.
type Reading struct {
	v    *Vault
	n    *Node
	info Info
	off  int64
}

// OpenRead opens a file by its path.
func (v *Vault) OpenRead(path string) (*Reading, error) {
	n, err := v.Find(path)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, fmt.Errorf("%w: %s", ErrIsDir, path)
	}
	return v.reading(n, v.InfoOf(n).Path)
}

func (v *Vault) reading(n *Node, path string) (*Reading, error) {
	if err := v.Open(n, false, false); err != nil {
		return nil, err
	}
	r := &Reading{v: v, n: n, info: v.InfoOf(n)}
	r.info.Path = path
	return r, nil
}

// Info describes the file as it was when opened.
func (r *Reading) Info() Info { return r.info }

// Size is the file's size now.
func (r *Reading) Size() int64 { return r.v.Attr(r.n).Size }

// ReadAt is that of io.ReaderAt.
func (r *Reading) ReadAt(p []byte, off int64) (int, error) {
	return r.ReadAtUntil(Caller{}, p, off)
}

// ReadAtUntil is ReadAt for a caller that may not wait to the end. Further
// error: ErrInterrupted.
func (r *Reading) ReadAtUntil(who Caller, p []byte, off int64) (int, error) {
	n, err := r.v.ReadAtUntil(who, r.n, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Read is that of io.Reader.
func (r *Reading) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Close gives the handle back.
func (r *Reading) Close() error {
	r.v.Release(r.n, false)
	return nil
}

// WriteOptions say how OpenWrite makes its file.
type WriteOptions struct {
	Mode    uint32    // 0: that of the file replaced, or 0600
	Mtime   time.Time // zero: now
	Parents bool      // make the asset and folders on the way
}

// Writing is a file being written; nobody sees it before Commit, which puts
// it in place as one new revision. Abort leaves all as it was.
type Writing struct {
	v    *Vault
	n    *Node
	dir  *Node
	name string
	temp string
	o    WriteOptions
	off  int64
	done bool
}

// OpenWrite begins to write a file by its path.
func (v *Vault) OpenWrite(path string, o WriteOptions) (*Writing, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	if o.Parents {
		parts := splitPath(path)
		if err := v.makeDirs(parts[:max(len(parts)-1, 0)]); err != nil {
			return nil, err
		}
	}
	dir, name, err := v.parentOf(path)
	if err != nil {
		return nil, err
	}
	if err := v.fileName(dir, name); err != nil {
		return nil, err
	}
	w := &Writing{v: v, dir: dir, name: name, o: o}
	if old, a, err := v.Lookup(dir, name); err == nil {
		if old.isDir() {
			return nil, fmt.Errorf("%w: %s", ErrIsDir, path)
		}
		if w.o.Mode == 0 {
			w.o.Mode = a.Mode
		}
	}
	if w.o.Mode == 0 {
		w.o.Mode = 0o600
	}
	// Without a name until Commit, so that a listing never shows a half.
	w.n, _, err = v.Tmpfile(dir, w.o.Mode)
	return w, err
}

func (v *Vault) makeDirs(parts []string) error {
	dir := v.root
	for _, p := range parts {
		n, _, err := v.Lookup(dir, p)
		if errors.Is(err, ErrNotFound) {
			if n, _, err = v.Mkdir(dir, p, 0o700); err == nil {
				v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: p, Node: n})
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, p)
		}
		if !n.isDir() {
			return fmt.Errorf("%w: %s", ErrNotDir, p)
		}
		dir = n
	}
	return nil
}

// Write appends.
func (w *Writing) Write(p []byte) (int, error) {
	n, err := w.v.WriteAt(w.n, p, w.off)
	w.off += int64(n)
	return n, err
}

// Abort throws away what was written.
func (w *Writing) Abort() {
	if !w.done {
		w.done = true
		w.v.Release(w.n, true)
	}
}

// Commit saves the file under its name. When it returns nil the file is as
// safe as after a close through the mount.
func (w *Writing) Commit() error {
	if w.done {
		return ErrClosed
	}
	if err := w.place(); err != nil {
		w.Abort()
		return err
	}
	w.done = true
	w.v.Release(w.n, true)
	changes := []Change{{Kind: ChangeEntry, Dir: w.dir, Name: w.name, Node: w.n}}
	if w.temp != "" { // a listing may have shown it in between
		changes = append(changes, Change{Kind: ChangeEntry, Dir: w.dir, Name: w.temp})
	}
	w.v.changed(changes...)
	return nil
}

func (w *Writing) place() error {
	if !w.o.Mtime.IsZero() {
		t := w.o.Mtime.UnixNano()
		if _, err := w.v.SetAttr(w.n, SetAttr{Mtime: &t}); err != nil {
			return err
		}
	}
	_, err := w.v.Link(w.n, w.dir, w.name)
	if !errors.Is(err, ErrExist) {
		return err
	}
	w.temp = ".vaultdrive-" + w.n.tempName()
	if _, err := w.v.Link(w.n, w.dir, w.temp); err != nil {
		return err
	}
	if err := w.v.Rename(w.dir, w.temp, w.dir, w.name, 0); err != nil {
		return errors.Join(err, w.v.Unlink(w.dir, w.temp))
	}
	return nil
}

func (n *Node) tempName() string { return n.id.Hex()[:12] }

// Remove deletes a file, or with recursive a directory and all in it.
func (v *Vault) Remove(path string, recursive bool) error {
	dir, name, err := v.parentOf(path)
	if err != nil {
		return err
	}
	n, _, err := v.Lookup(dir, name)
	if err != nil {
		return fmt.Errorf("%w: %s", err, path)
	}
	return v.removeTree(dir, name, n, recursive)
}

func (v *Vault) removeTree(dir *Node, name string, n *Node, recursive bool) error {
	if !n.isDir() {
		if err := v.Unlink(dir, name); err != nil {
			return err
		}
		v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: name})
		return nil
	}
	if recursive {
		var entries []DirEntry
		if err := v.ReadDir(n, 0, func(e *DirEntry) bool {
			entries = append(entries, *e)
			return true
		}); err != nil {
			return err
		}
		for _, e := range entries {
			if err := v.removeTree(n, e.Name, e.Node, true); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	if err := v.Rmdir(dir, name); err != nil {
		return fmt.Errorf("%w: %s", err, name)
	}
	v.changed(Change{Kind: ChangeRemovedDir, Dir: dir, Name: name, Node: n})
	return nil
}

// Move renames as mv does: into a directory if to is one.
func (v *Vault) Move(from, to string) error {
	dir, name, err := v.parentOf(from)
	if err != nil {
		return err
	}
	newDir, newName, err := v.moveTarget(to, name)
	if err != nil {
		return err
	}
	n, _, err := v.Lookup(dir, name)
	if err != nil {
		return fmt.Errorf("%w: %s", err, from)
	}
	if err := v.Rename(dir, name, newDir, newName, 0); err != nil {
		return err
	}
	v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: name},
		Change{Kind: ChangeEntry, Dir: newDir, Name: newName, Node: n})
	return nil
}

// moveTarget gives where a move to a path ends, for a thing called name.
func (v *Vault) moveTarget(to, name string) (*Node, string, error) {
	if t, err := v.Find(to); err == nil && t.isDir() {
		return t, name, nil
	}
	return v.parentOf(to)
}

// MakeDir makes an asset or folder, with parents those above it too.
func (v *Vault) MakeDir(path string, parents bool) (Info, error) {
	if parents {
		if err := v.makeDirs(splitPath(path)); err != nil {
			return Info{}, err
		}
		return v.Stat(path)
	}
	dir, name, err := v.parentOf(path)
	if err != nil {
		return Info{}, err
	}
	n, _, err := v.Mkdir(dir, name, 0o700)
	if err != nil {
		return Info{}, fmt.Errorf("%w: %s", err, path)
	}
	v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: name, Node: n})
	return v.InfoOf(n), nil
}

// MakeLink makes a symbolic link; with replace over a file or link of that
// name, else that is ErrExist.
func (v *Vault) MakeLink(path, target string, replace bool) (Info, error) {
	dir, name, err := v.parentOf(path)
	if err != nil {
		return Info{}, err
	}
	if old, _, err := v.Lookup(dir, name); err == nil && (!replace || old.isDir()) {
		return Info{}, fmt.Errorf("%w: %s", ErrExist, path)
	}
	temp := ".vaultdrive-" + seal.NewBlobID().Hex()[:12]
	n, _, err := v.Symlink(dir, temp, target)
	if err != nil {
		return Info{}, err
	}
	flags := RenameNoReplace
	if replace {
		flags = 0
	}
	if err := v.Rename(dir, temp, dir, name, flags); err != nil {
		return Info{}, errors.Join(err, v.Unlink(dir, temp))
	}
	v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: name, Node: n})
	return v.InfoOf(n), nil
}

// SetPathAttr changes the mode and times of what a path leads to.
func (v *Vault) SetPathAttr(path string, s SetAttr) error {
	n, err := v.Find(path)
	if err != nil {
		return err
	}
	if _, err := v.SetAttr(n, s); err != nil {
		return err
	}
	v.changed(Change{Kind: ChangeAttr, Node: n})
	return nil
}

// AddAsset makes an asset of a type.
func (v *Vault) AddAsset(title, typ string) (Info, error) {
	t, err := ParseAssetType(typ)
	if err != nil {
		return Info{}, fmt.Errorf("%w: asset type %q", err, typ)
	}
	n, err := v.makeAsset(title, t, 0o700)
	if err != nil {
		return Info{}, fmt.Errorf("%w: %s", err, title)
	}
	v.changed(Change{Kind: ChangeEntry, Dir: v.root, Name: title, Node: n})
	return v.InfoOf(n), nil
}

// RenameAsset gives an asset another title, which must be free.
func (v *Vault) RenameAsset(from, to string) error {
	n, err := v.AssetByTitle(from)
	if err != nil {
		return err
	}
	if err := v.Rename(v.root, from, v.root, to, RenameNoReplace); err != nil {
		return err
	}
	v.changed(Change{Kind: ChangeEntry, Dir: v.root, Name: from},
		Change{Kind: ChangeEntry, Dir: v.root, Name: to, Node: n})
	return nil
}

// RemoveAsset deletes an asset, with recursive all in it.
func (v *Vault) RemoveAsset(title string, recursive bool) error {
	n, err := v.AssetByTitle(title)
	if err != nil {
		return err
	}
	return v.removeTree(v.root, title, n, recursive)
}
