package history

import "github.com/vaultdrive/vaultdrive/vaultcore/seal"

// Presence says where the bytes of a blob are known to be.
type Presence uint8

// Nowhere is a blob whose author has not said that it uploaded it.
const (
	Nowhere Presence = iota
	Remote
	Here
)

// Attachment is what an id shows.
type Attachment struct {
	ID   seal.ID
	Live []File // in branch order, the main one first; none: the id is dead
	Dead []File // what deletes ended and nothing replaced, for the trash
}

// File is one visible (or dead) content of an attachment.
type File struct {
	At             // of the record that brought the content: who wrote it, and when
	Content Digest // that record
	Blob    seal.ID
	Size    int64
	MIME    string // "inode/directory" is a folder
	// Base are the tips merged into the file, that of its content first: what
	// a change of the file is made on.
	Base   []Digest
	Rev    uint64 // of Base[0]
	Parent Parent
	Stored string // name as records have it; a change that is no rename repeats it
	Name   string // name as shown in the asset, unique in it; "" if dead
	Mode   uint32
	Mtime  int64
	Twin   bool // a folder that an earlier born folder of the same path shows
	// Pending: the content is neither here nor on the remote. Then Shows is
	// the record of the nearest earlier content that is here, zero if none is.
	Pending   bool
	Shows     Digest
	ShowsBlob seal.ID
	ShowsSize int64
	Deleted   HLC // when the last of its branches ended, 0 while live
}

// ContentBase is what a change of content is made on: Base, but for a pending
// file the record whose content its user sees. The pending content was never
// seen, so a save may not replace it and becomes a branch of its own. Nil makes
// the save a first record: if the id has died when it is sealed, it takes a new
// id, because CheckRecord of others would refuse it.
func (f *File) ContentBase() []Digest {
	switch {
	case !f.Pending:
		return f.Base
	case f.Shows == Digest{}:
		return nil
	}
	return []Digest{f.Shows}
}

// Put gives what a write, rename, move or attribute change made on a base has
// to say: the prev of its record, and the records that need a del each.
func Put(base []Digest) (prev Digest, dels []Digest) {
	if len(base) == 0 {
		return Digest{}, nil
	}
	return base[0], base[1:]
}

// Delete gives the records that need a del each when a file (or asset) seen
// with this base is deleted.
func Delete(base []Digest) []Digest { return base }

// Attachment evaluates an id. where answers for blobs; nil takes all as here.
func (h *History) Attachment(id seal.ID, where func(blob seal.ID) Presence) Attachment {
	out := Attachment{ID: id}
	t := h.files[id]
	if t == nil || len(t.versions) == 0 {
		return out
	}
	w, born := t.evaluate(), t.born()
	for i := range w.live {
		f := w.file(&w.live[i], where)
		c := w.claim(t, i, born)
		f.Name, f.Twin = c.place.names.shownAs(c.claim)
		out.Live = append(out.Live, f)
	}
	for i := range w.dead {
		f := w.file(&w.dead[i], where)
		for _, k := range w.dead[i].tips {
			f.Deleted = max(f.Deleted, w.ended[k])
		}
		out.Dead = append(out.Dead, f)
	}
	return out
}

func (w *view) file(b *branch, where func(seal.ID) Presence) File {
	v, in := w.v[b.content], b.values[attrParent]
	f := File{
		At:      At{Device: v.dev.id, Seq: v.seq, HLC: v.hlc},
		Content: v.digest, Blob: v.blob, Size: v.size,
		MIME:   b.values[attrMIME].mime,
		Rev:    w.v[b.tips[0]].rev,
		Parent: Parent{Type: in.ptype, ID: in.parent.id},
		Stored: b.values[attrName].name,
		Mode:   b.values[attrMode].mode,
		Mtime:  b.values[attrMtime].mtime,
	}
	for _, k := range b.tips {
		f.Base = append(f.Base, w.v[k].digest)
	}
	if where == nil || where(v.blob) != Nowhere {
		return f
	}
	f.Pending = true
	for k := w.up[b.content]; k >= 0; k = w.up[k] {
		if c := w.v[k]; where(c.blob) == Here {
			c = w.v[w.content[k]]
			f.Shows, f.ShowsBlob, f.ShowsSize = c.digest, c.blob, c.size
			break
		}
	}
	return f
}

// Named says whether a live tip of an attachment holds the content in a blob: it
// is a visible file, or becomes one when those that replaced it end.
func (h *History) Named(id, blob seal.ID) bool {
	t := h.files[id]
	if t == nil || len(t.versions) == 0 {
		return false
	}
	w := t.evaluate()
	for k := range w.v {
		if w.leaf(k) && w.ended[k] == 0 && w.v[w.content[k]].blob == blob {
			return true
		}
	}
	return false
}

// Rev gives the revision of a record, for the next one made on it.
func (h *History) Rev(id seal.ID, d Digest) (uint64, bool) {
	for _, t := range []*thread{h.files[id], h.assetThread(id)} {
		if t != nil {
			if v := t.find(d); v != nil {
				return v.rev, true
			}
		}
	}
	return 0, false
}

// Seen says whether an author had seen a batch when it sealed another.
type Seen func(device seal.ID, seq uint64) bool

// CheckRecord refuses a record with zero prev on an id that its author had seen
// die; seen covers the author's own earlier batches too. Every other record
// lives, whatever its author knew: a draft may have been open when the del came.
// Only for a batch all of whose seen is applied: in one that goes on without, a
// living branch may be what is missing, and refusing would lose a content.
// Error: ErrResurrect; the op is skipped and not given to Add.
func (h *History) CheckRecord(r *Record, seen Seen) error {
	return checkRoot(h.files[r.ID], r.Prev, seen)
}

// CheckAsset is CheckRecord for assets.
func (h *History) CheckAsset(r *AssetRecord, seen Seen) error {
	return checkRoot(h.assetThread(r.ID), r.Prev, seen)
}

func checkRoot(t *thread, prev Digest, seen Seen) error {
	if t == nil || prev != (Digest{}) || len(t.ends) == 0 {
		return nil
	}
	known := t.only(func(s stamp) bool { return seen(s.dev.id, s.seq) })
	// A tombstone whose records are dropped still says that the id is dead.
	if len(known.ends) == 0 || known.alive() {
		return nil
	}
	return ErrResurrect
}

func (t *thread) alive() bool {
	if len(t.versions) == 0 {
		return false
	}
	return t.evaluate().alive()
}
