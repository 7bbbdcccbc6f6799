package history

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// thread is what is known of one id: all records and all ends, live or not.
// Most threads have one record; versions and ends are slices without spare
// room, because a vault holds 100,000 of them.
type thread struct {
	id       seal.ID
	versions []version // a record that two authors made stands here twice
	ends     []end
	birth    *stamp             // of a first record that is dropped, nil if none is
	known    map[known]struct{} // versions, once they are a crowd
}

// known tells versions apart as compare does.
type known struct {
	digest, prev Digest
	stamp
}

// crowdSize is how many versions are looked through one by one.
const crowdSize = 256

// device is an author; it is shared by all its ops.
type device struct {
	id    seal.ID
	names []DeviceName
}

// stamp is At with the author shared.
type stamp struct {
	hlc HLC
	seq uint64
	dev *device
}

func (a stamp) compare(b stamp) int {
	if c := cmp.Compare(a.hlc, b.hlc); c != 0 || a.dev == b.dev {
		return c
	}
	return bytes.Compare(a.dev.id[:], b.dev.id[:])
}

// version is a record of an attachment or an asset. An asset has its title as
// name and its ctime as mtime, and neither parent, MIME nor blob.
type version struct {
	digest, prev Digest
	stamp
	rev         uint64
	parent      *asset
	name, mime  string
	blob        seal.ID
	mtime, size int64
	mode        uint32
	ptype       uint8 // type of the parent, or of the asset itself
}

// compare orders versions by (HLC, device). All ops of a batch share these, so
// the digest and then prev decide between ops of one batch.
func (a *version) compare(b *version) int {
	if c := a.stamp.compare(b.stamp); c != 0 {
		return c
	}
	if c := bytes.Compare(a.digest[:], b.digest[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.seq, b.seq), bytes.Compare(a.prev[:], b.prev[:]))
}

// sameWork says whether b changed nothing of its parent a that outlives a
// delete: mtime and mode do not, and a value sealed anew is no change at all. A
// change of a merged file repeats the name another tip gave it, which is a
// rename by what this record and the one before say; so it lives.
func (a *version) sameWork(b *version) bool {
	return a.blob == b.blob && a.name == b.name && a.sameParent(b) && a.mime == b.mime
}

func (a *version) sameParent(b *version) bool { return a.parent == b.parent && a.ptype == b.ptype }

// end is a del.
type end struct {
	prev Digest
	stamp
}

// addVersion and addEnd return false for what is known already.
func (t *thread) addVersion(v version) bool {
	if t.has(&v) {
		return false
	}
	t.versions = grown(t.versions, v)
	if t.known != nil {
		t.known[v.known()] = struct{}{}
	}
	return true
}

func (t *thread) has(v *version) bool {
	if len(t.versions) < crowdSize {
		return slices.ContainsFunc(t.versions, func(o version) bool { return o.compare(v) == 0 })
	}
	if t.known == nil {
		t.known = make(map[known]struct{}, 2*len(t.versions))
		for i := range t.versions {
			t.known[t.versions[i].known()] = struct{}{}
		}
	}
	_, has := t.known[v.known()]
	return has
}

func (v *version) known() known { return known{v.digest, v.prev, v.stamp} }

func (t *thread) addEnd(e end) bool {
	if slices.Contains(t.ends, e) {
		return false
	}
	t.ends = grown(t.ends, e)
	return true
}

// grown appends without spare room while a slice is short.
func grown[T any](s []T, v T) []T {
	if len(s) >= 16 {
		return append(s, v)
	}
	out := make([]T, len(s)+1)
	copy(out, s)
	out[len(s)] = v
	return out
}

// only gives the part of t that a predicate on batches leaves.
func (t *thread) only(keep func(stamp) bool) *thread {
	part := &thread{id: t.id}
	for i := range t.versions {
		if keep(t.versions[i].stamp) {
			part.versions = append(part.versions, t.versions[i])
		}
	}
	for _, e := range t.ends {
		if keep(e.stamp) {
			part.ends = append(part.ends, e)
		}
	}
	return part
}

// born is when the id was first heard of: its earliest record.
func (t *thread) born() stamp {
	if len(t.versions) == 0 {
		return stamp{hlc: ^HLC(0)}
	}
	first := t.versions[0].stamp
	if t.birth != nil && t.birth.compare(first) < 0 {
		first = *t.birth
	}
	for i := range t.versions[1:] {
		if s := t.versions[i+1].stamp; s.compare(first) < 0 {
			first = s
		}
	}
	return first
}

// find gives the record with a digest, nil if it is not known.
func (t *thread) find(d Digest) *version {
	var found *version
	for i := range t.versions {
		if v := &t.versions[i]; v.digest == d && (found == nil || v.compare(found) < 0) {
			found = v
		}
	}
	return found
}
