package vaultcore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vaultdrive/vaultdrive/vaultcore/history"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// unattested is a row of the server that no op names, with what its key shows. A
// client without the log wrote it, or the server made it up: nothing in it is
// believed beyond what the keys of the vault authenticate.
type unattested struct {
	row   ServerRow
	epoch uint32 // under which its key, or its title, opens; 0: under none
	name  string // as stored, or the title of an asset; "": there is none to be had
	mime  string
	whole bool  // name and MIME type, or title, are what the row says
	err   error // why nothing can be read of it, nor taken over
}

// Why an unattested row is of no use.
var (
	errNoKey  = fmt.Errorf("%w: its key opens under no key of this vault", ErrDamaged)
	errNoType = fmt.Errorf("%w: its sizes or its version are none that a content has", ErrDamaged)
)

// openRow opens a row as far as it goes.
func (v *Vault) openRow(r *ServerRow) unattested {
	u := unattested{row: *r}
	if r.Asset {
		u.name, u.epoch = v.openRowTitle(r)
		u.whole = u.epoch != 0
		return u
	}
	sealed, err := seal.SealedSize(int(r.Version), r.Size)
	if err != nil || sealed != r.Len || r.Blob.IsZero() {
		u.err = errNoType
	}
	key, epoch, err := v.openRowKey(r)
	if err != nil {
		u.err = errNoKey
		return u
	}
	defer key.Wipe()
	u.epoch = epoch
	vault := v.keys.vaultID()
	name, nameErr := seal.OpenField(int(r.Version), &key, vault, r.ID, seal.FieldName, r.Name)
	mime, mimeErr := seal.OpenField(int(r.Version), &key, vault, r.ID, seal.FieldMIME, r.MIME)
	if nameErr == nil && len(name) <= MaxName && history.Nameable(name) {
		u.name = name
	}
	if u.mime = mimeDefault; mimeErr == nil && len(mime) <= MaxMIME {
		u.mime = mime
	}
	if u.mime == mimeFolder && r.Size > 0 {
		u.mime = mimeDefault // no folder has a content
	}
	u.whole = u.name == name && u.mime == mime && nameErr == nil && mimeErr == nil
	return u
}

// openRowKey tries the epoch that a row names, or all where it names none.
func (v *Vault) openRowKey(r *ServerRow) (key seal.Key, epoch uint32, err error) {
	for _, e := range v.epochsOf(r) {
		if key, err = v.keys.unwrap(e, r.Key); err == nil {
			return key, e, nil
		}
	}
	return key, 0, errNoKey
}

func (v *Vault) openRowTitle(r *ServerRow) (title string, epoch uint32) {
	for _, e := range v.epochsOf(r) {
		if title, err := v.keys.openTitle(e, r.ID, r.Name); err == nil && title != "" && len(title) <= MaxTitle {
			return title, e
		}
	}
	return "", 0
}

func (v *Vault) epochsOf(r *ServerRow) []uint32 {
	newest := v.keys.epoch()
	if r.Epoch != 0 && r.Epoch <= newest {
		return []uint32{r.Epoch}
	}
	var all []uint32
	for e := newest; e > 0 && r.Epoch == 0; e-- {
		all = append(all, e)
	}
	return all
}

// kind says what a row is, as far as its MIME type says it.
func (u *unattested) kind() Kind {
	switch {
	case u.row.Asset:
		return KindAsset
	case u.mime == mimeFolder:
		return KindFolder
	case u.mime == mimeSymlink:
		return KindSymlink
	}
	return KindFile
}

// exact says whether an op can say exactly what the row says.
func (u *unattested) exact(v *Vault) bool {
	return u.err == nil && u.whole && u.epoch == v.keys.epoch()
}

// stored is the name, or title, that the row gets when it is taken over.
func (u *unattested) stored() string {
	if u.name == "" {
		return seal.UnnamedName(u.row.ID)
	}
	return u.name
}

// maxUnattested bounds the rows that are looked at: whatever a server makes up
// costs no more than a vault of the largest size that is foreseen.
const maxUnattested = 100_000

// foundRow is an entry of server_rows that a person has to decide about.
type foundRow struct {
	key   rowKey
	state int64
	row   *ServerRow // of serverUnnamed
}

// openRows lists what is not settled of the server's rows, unopened.
func (v *Vault) openRows(where string, args ...dbValue) ([]foundRow, error) {
	return v.queryOpen("row", where, args...)
}

// openKeys is openRows without what the rows say.
func (v *Vault) openKeys() ([]foundRow, error) { return v.queryOpen("NULL", "1") }

func (v *Vault) queryOpen(row, where string, args ...dbValue) (out []foundRow, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	sql := "SELECT kind,id,number,state," + row + " FROM server_rows WHERE state>2 AND state<5 AND " + where + " LIMIT ?"
	err = v.reader.query(sql, func(c []dbValue) error {
		s := rowScanner{c: c}
		f := foundRow{key: rowKey{s.num() == 1, s.id()}}
		number := s.num()
		f.state = s.num()
		if raw := s.blob(); f.state == serverUnnamed {
			f.row = &ServerRow{}
			if json.Unmarshal(raw, f.row) != nil || f.row.key() != f.key {
				f.row = &ServerRow{ID: f.key.id, Asset: f.key.asset, Number: number}
			}
		}
		if !s.bad {
			out = append(out, f)
		}
		return nil
	}, append(args, int64(maxUnattested))...)
	return out, err
}

// rowOfID finds the unattested row of an attachment or asset. Error: ErrNotFound.
func (v *Vault) rowOfID(id seal.ID) (*foundRow, error) {
	rows, err := v.openRows("kind IN (0,1) AND id=?", id[:]) // the primary key
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if v.stillOpen(&rows[i]) {
			return &rows[i], nil
		}
	}
	return nil, fmt.Errorf("%w among what is unverified: %s", ErrNotFound, id.UUID())
}

// IsUnverified says whether something of Unverified still waits for a person.
func (v *Vault) IsUnverified(u Unverified) bool {
	id, err := seal.ParseUUID(u.ID)
	if err != nil {
		return false
	}
	if u.State == UnverifiedRevoked {
		return v.isTakenBack(id)
	}
	_, err = v.rowOfID(id)
	return !errors.Is(err, ErrNotFound)
}

// stillOpen says whether a row is not settled by what was done here since it was
// compared: what was taken over is in the tree before it is in the log.
func (v *Vault) stillOpen(f *foundRow) bool {
	v.tree.RLock()
	defer v.tree.RUnlock()
	var live bool
	if f.key.asset {
		n := v.rows.assets[f.key.id]
		live = n != nil && !n.has(flagUnlinked)
	} else {
		live = v.liveNode(f.key.id) != nil
	}
	return live == (f.state == serverAsked)
}

// liveNode finds what is shown of an attachment: the file with its own name, if
// there are several; tree is held.
func (v *Vault) liveNode(id seal.ID) (found *Node) {
	row, ok := v.rows.byID.one[id]
	if !ok {
		return nil
	}
	for _, r := range append([]int64{row}, v.rows.byID.more[id]...) {
		n := v.rows.get(r)
		if n == nil || n.has(flagUnlinked) {
			continue
		}
		if _, copied := v.suffixed(n); found == nil || !copied {
			found = n
		}
	}
	return found
}

// UnsafeRune says whether a character of a name does something other than to
// stand there: control, format and bidi characters. The two joiners are none:
// scripts and emoji need them, and they move nothing.
func UnsafeRune(r rune) bool {
	const zwnj, zwj = 0x200c, 0x200d
	if r == zwnj || r == zwj {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// plainComponent shows a stored component that nobody vouches for: as the tree
// does, and without characters that make a name look like another.
func plainComponent(stored string) string {
	if strings.ContainsFunc(stored, UnsafeRune) || !utf8.ValidString(stored) {
		var b strings.Builder
		for i, r := range stored {
			size := utf8.RuneLen(r)
			if bad := r == utf8.RuneError && !strings.HasPrefix(stored[i:], "\uFFFD"); bad || UnsafeRune(r) {
				if bad {
					size = 1
				}
				for _, c := range []byte(stored[i : i+size]) {
					fmt.Fprintf(&b, "%%%02X", c)
				}
				continue
			}
			b.WriteRune(r)
		}
		stored = b.String()
	}
	return history.ShownComponent(stored)
}

// deepest is how many folders of a name are shown as such.
const deepest = 32

// plainParts cuts a stored name into components as they are shown.
func plainParts(stored string) []string {
	parts := strings.Split(stored, "/")
	if len(parts) > deepest {
		return []string{plainComponent(stored)}
	}
	for i, p := range parts {
		parts[i] = plainComponent(p)
	}
	return parts
}
