package vaultcore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Unverified is something that a server of ours says and no device has signed, or
// that a revocation took back. It is shown and can be read; nothing else happens
// to it before a person takes it over or refuses it.
type Unverified struct {
	ID string `json:"id"`
	// Path is that below the directory unverified/; of a deletion that of the file
	// on the drive.
	Path  string `json:"path"`
	State string `json:"state"` // unverified, deletion, revoked
	Kind  string `json:"kind"`  // asset, folder, file, symlink
	Size  int64  `json:"size"`
	// Added is when it came, by the server's word; zero where it does not say.
	Added time.Time `json:"added,omitzero"`
	// Problem says why it can neither be read nor taken over.
	Problem string `json:"problem,omitempty"`
	// Reseal: its key is not that of now, so it would be sealed anew.
	Reseal bool `json:"reseal,omitempty"`

	asset   seal.ID
	version string
}

// Version tells a row from what the server said under the same id before.
func (u *Unverified) Version() string { return u.version }

// States of what is unverified.
const (
	UnverifiedRow      = "unverified" // no device has signed it
	UnverifiedDeletion = "deletion"   // a client asked to delete a file of the drive
	UnverifiedRevoked  = "revoked"    // a revoked device had put it there
)

// Asset is the id of the asset it belongs to.
func (u *Unverified) Asset() seal.ID { return u.asset }

// InDir says whether it is shown in the directory unverified/.
func (u *Unverified) InDir() bool { return u.State != UnverifiedDeletion }

// CountUnverified counts files that nobody signed, or else assets, and deletions
// that somebody asked for, without opening any.
func (v *Vault) CountUnverified() (files, deletions int) {
	if !v.LedgerOn() {
		return 0, 0
	}
	rows, err := v.openKeys()
	if err != nil {
		return 0, 0
	}
	assets := 0
	for i := range rows {
		switch f := &rows[i]; {
		case !v.stillOpen(f):
		case f.state == serverAsked:
			deletions++
		case f.key.asset:
			assets++
		default:
			files++
		}
	}
	if files == 0 {
		files = assets // else they come with the files
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	for _, t := range v.trash {
		if t.takenBack && !t.node.isDir() {
			files++
		}
	}
	return files, deletions
}

// Unverified lists what a person has to decide about, by path. Without a server
// of ours there is nothing. Errors: ErrClosed, those of the database.
func (v *Vault) Unverified(ctx context.Context) ([]Unverified, error) {
	if _, err := v.useLedger(ctx); err != nil {
		if !v.LedgerOn() {
			return nil, nil
		}
		return nil, err
	}
	rows, err := v.openRows("1")
	if err != nil {
		return nil, err
	}
	l := newUnverifiedList(v)
	for i := range rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f := &rows[i]
		switch {
		case !v.stillOpen(f):
		case f.state == serverAsked:
			l.addDeletion(f.key.id)
		default:
			l.add(v.openRow(f.row))
		}
	}
	l.addTakenBack()
	return l.finish(), nil
}

// unverifiedList gives names to what is found.
type unverifiedList struct {
	v      *Vault
	rows   []unattested
	titles map[seal.ID]string // of unattested assets
	dirs   map[seal.ID]string // names of the assets' directories
	taken  map[string]bool    // paths of files
	above  map[string]bool    // directories
	out    []Unverified
}

func newUnverifiedList(v *Vault) *unverifiedList {
	return &unverifiedList{
		v: v, titles: make(map[seal.ID]string), dirs: make(map[seal.ID]string), taken: make(map[string]bool), above: make(map[string]bool),
	}
}

func (l *unverifiedList) add(u unattested) {
	if u.row.Asset {
		l.titles[u.row.ID] = u.stored()
	}
	l.rows = append(l.rows, u)
}

func (l *unverifiedList) addDeletion(id seal.ID) {
	v := l.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	n := v.liveNode(id)
	if n == nil {
		return
	}
	asset, _ := v.storedName(n)
	l.out = append(l.out, Unverified{
		ID: id.UUID(), Path: shownPath(n), State: UnverifiedDeletion, Kind: n.kind.String(), Size: n.size, asset: asset.id,
	})
}

// addTakenBack adds the contents that a revocation took back; they lie in the
// trash.
func (l *unverifiedList) addTakenBack() {
	v := l.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	for _, t := range v.trash {
		if !t.takenBack || t.node.isDir() {
			continue
		}
		l.out = append(l.out, Unverified{
			ID: t.key.UUID(), Path: t.name, State: UnverifiedRevoked, Kind: t.node.kind.String(), Size: t.node.size,
			Added: time.Unix(0, t.deleted), asset: t.asset,
		})
	}
}

// finish gives every entry its path: whoever came first has the plain one.
func (l *unverifiedList) finish() []Unverified {
	for i := range l.rows {
		l.out = append(l.out, l.entry(&l.rows[i]))
	}
	slices.SortFunc(l.out, func(a, b Unverified) int {
		return cmp.Or(a.Added.Compare(b.Added), cmp.Compare(a.ID, b.ID))
	})
	for i := range l.out {
		l.reserve(&l.out[i])
	}
	for i := range l.out {
		l.place(&l.out[i])
	}
	slices.SortFunc(l.out, func(a, b Unverified) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.State, b.State), cmp.Compare(a.ID, b.ID))
	})
	return l.out
}

// entry describes a row; its path is the stored name yet.
func (l *unverifiedList) entry(u *unattested) Unverified {
	e := Unverified{ID: u.row.ID.UUID(), Path: u.stored(), State: UnverifiedRow, Kind: u.kind().String(), Size: u.row.Size, asset: u.row.Parent}
	e.version = u.row.version()
	if u.row.Created != 0 {
		e.Added = time.Unix(0, u.row.Created)
	}
	if u.row.Asset {
		e.Size, e.asset = 0, u.row.ID
		return e
	}
	e.Size = max(e.Size, 0)
	if u.err != nil {
		e.Problem = u.err.Error()
		return e
	}
	e.Reseal = !u.exact(l.v)
	return e
}

// reserve cuts a stored name into what is shown, and notes the directories in it:
// a file never has the name of one.
func (l *unverifiedList) reserve(e *Unverified) {
	if !e.InDir() {
		return
	}
	dir := l.assetDir(e.asset)
	if e.Kind == KindAsset.String() {
		e.Path = dir
		l.above[dir] = true
		return
	}
	parts := plainParts(e.Path)
	at := dir
	l.above[at] = true
	for _, p := range parts[:len(parts)-1] {
		at += "/" + p
		l.above[at] = true
	}
	e.Path = at + "/" + parts[len(parts)-1]
	if e.Kind == KindFolder.String() {
		l.above[e.Path] = true
	}
}

// place makes a reserved path unique.
func (l *unverifiedList) place(e *Unverified) {
	if !e.InDir() || e.Kind == KindAsset.String() || e.Kind == KindFolder.String() {
		return
	}
	id, err := seal.ParseUUID(e.ID)
	if err != nil {
		return
	}
	at := strings.LastIndexByte(e.Path, '/') + 1
	dir, name := e.Path[:at], e.Path[at:]
	for digits := 4; l.taken[e.Path] || l.above[e.Path]; digits += 4 {
		if digits > 32 {
			e.Path = dir + "unnamed-" + id.Hex()
			break
		}
		e.Path = dir + withSuffix(name, id, digits)
	}
	l.taken[e.Path] = true
}

// assetDir names the directory of an asset: as the drive shows it, else by its
// unattested title, else by its id.
func (l *unverifiedList) assetDir(id seal.ID) string {
	if name, ok := l.dirs[id]; ok {
		return name
	}
	v := l.v
	name := ""
	v.tree.RLock()
	if n := v.rows.assets[id]; n != nil && n.kind == KindAsset {
		name = n.name
		if n.has(flagUnlinked) {
			name = shownTitle(n.name)
		}
	}
	v.tree.RUnlock()
	if name == "" {
		name = shownTitle(cmp.Or(l.titles[id], seal.UnnamedName(id)))
	}
	name = plainComponent(name)
	plain := name
	for digits := 4; l.above[name] && digits <= 32; digits += 4 {
		name = withSuffix(plain, id, digits)
	}
	l.dirs[id], l.above[name] = name, true
	return name
}

// SelectUnverified picks from a list what paths and ids mean. A directory stands
// for all files in it, never for a deletion or for what a revocation took back:
// those are named one by one. deletions picks among those alone. Errors:
// ErrNotFound, ErrInvalid for a path that means two things.
func SelectUnverified(list []Unverified, refs []string, deletions bool) ([]Unverified, error) {
	picked := make(map[string]bool)
	for _, ref := range refs {
		ref = strings.Trim(ref, "/")
		var exact, below []string
		for i := range list {
			u := &list[i]
			switch key := u.State + u.ID; {
			case deletions && u.State != UnverifiedDeletion:
			case u.ID == ref:
				exact = []string{key}
			case u.Path == ref && u.Kind != KindAsset.String():
				exact = append(exact, key)
			case u.State == UnverifiedRow && (u.Path == ref || strings.HasPrefix(u.Path, ref+"/")):
				below = append(below, key)
			}
		}
		switch {
		case len(exact)+len(below) == 0:
			return nil, fmt.Errorf("%w among what is unverified: %s", ErrNotFound, ref)
		case len(exact) > 1:
			return nil, fmt.Errorf("%w: %s means more than one thing", ErrInvalid, ref)
		}
		for _, key := range append(exact, below...) {
			picked[key] = true
		}
	}
	var out []Unverified
	for i := range list {
		if picked[list[i].State+list[i].ID] {
			out = append(out, list[i])
		}
	}
	return out, nil
}

// AllUnverified picks all files that no device signed, or all deletions that
// somebody asked for. What a revocation took back is named one by one.
func AllUnverified(list []Unverified, deletions bool) (out []Unverified) {
	want := UnverifiedRow
	if deletions {
		want = UnverifiedDeletion
	}
	for i := range list {
		if list[i].State == want {
			out = append(out, list[i])
		}
	}
	return out
}

// version tells a row from others under its id.
func (r *ServerRow) version() string {
	h := sha256.New()
	for _, part := range [][]byte{r.Blob[:], r.SHA256[:], r.Key, r.Name, r.MIME, r.Parent[:]} {
		h.Write(part)
	}
	return fmt.Sprintf("%d-%x", r.Number, h.Sum(nil)[:8])
}
