package vaultcore

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// RescueRow is one content that Rescue can write out.
type RescueRow struct {
	Ref   string    `json:"ref"`
	Path  string    `json:"path"`
	Size  int64     `json:"size"`
	State string    `json:"state"` // live, trash, undo, draft
	Mtime time.Time `json:"mtime"`
}

// RescueList lists the contents of all rows: live, deleted, replaced and not
// yet behind the barrier, and unfinished ones.
func (v *Vault) RescueList() ([]RescueRow, error) {
	if !v.opt.ReadOnly {
		// What undo keeps for a power cut goes with the barrier: the list is
		// the same beside a mount and without one.
		if err := v.Barrier(v.ctx); err != nil {
			return nil, err
		}
	}
	var out []RescueRow
	paths := v.pathsByID()
	add := func(r *attRow, ref, state string) {
		row := RescueRow{Ref: ref, Path: paths[r.id], Size: r.size, State: state}
		if v.openAtt(r) == nil {
			if r.f.mime == mimeFolder {
				return
			}
			row.Mtime = time.Unix(0, r.f.mtime)
			if row.Path == "" {
				row.Path = r.f.name
			}
		}
		out = append(out, row)
	}
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	for _, table := range []string{"asset_attachments", "undo"} {
		err := v.reader.query("SELECT "+attColumns+" FROM "+table, func(c []dbValue) error {
			r := &attRow{}
			if scanAtt(c, r) != nil && r.id.IsZero() {
				return nil
			}
			switch {
			case table == "undo":
				add(r, fmt.Sprintf("undo:%s:%d", r.id.UUID(), r.commitNo), "undo")
			case r.deleted != 0:
				add(r, "trash:"+r.id.UUID(), "trash")
			default:
				add(r, "live:"+r.id.UUID(), "live")
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	err := v.reader.query("SELECT id,file,commit_no,sealed FROM drafts", func(c []dbValue) error {
		s := rowScanner{c: c}
		d := draftRow{id: s.id()}
		d.file, _ = s.next().(string)
		s.num()
		row := RescueRow{Ref: "draft:" + d.id.UUID(), State: "draft"}
		if d.open(v, s.blob()) == nil {
			row.Path, row.Mtime = paths[d.att], time.Unix(0, d.mtime)
		}
		out = append(out, row)
		return nil
	})
	return out, err
}

const rescueStep = 1 << 20

// Rescue writes the content that ref names: one of RescueList, a path or an
// id. With partial what cannot be authenticated is left out as zeros and the
// rest is written; without, it ends at the first bad part. It gives the
// bytes that were authenticated. Errors: ErrNotFound, ErrDamaged.
func (v *Vault) Rescue(ctx context.Context, ref string, w io.Writer, partial bool) (int64, error) {
	size, readAt, done, err := v.rescueSource(ref)
	if err != nil {
		return 0, err
	}
	defer done()
	var good int64
	var firstBad error
	buf := make([]byte, rescueStep)
	defer clear(buf)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return good, err
		}
		part := buf[:min(int64(len(buf)), size-off)]
		n, err := rescuePart(readAt, part, off, partial)
		good += n
		if err != nil && firstBad == nil {
			firstBad = err
		}
		if err != nil && !partial {
			return good, err
		}
		if _, err := w.Write(part); err != nil {
			return good, err
		}
	}
	return good, firstBad
}

// rescuePart reads one step; when that fails and parts are wanted, chunk by
// chunk.
func rescuePart(readAt func([]byte, int64) (int, error), part []byte, off int64, partial bool) (good int64, err error) {
	if _, err = readAt(part, off); err == nil {
		return int64(len(part)), nil
	}
	if !partial {
		return 0, err
	}
	for i := 0; i < len(part); i += seal.ChunkSize {
		chunk := part[i:min(i+seal.ChunkSize, len(part))]
		if _, e := readAt(chunk, off+int64(i)); e != nil {
			clear(chunk)
			continue
		}
		good += int64(len(chunk))
	}
	return good, err
}

func (v *Vault) rescueSource(ref string) (size int64, readAt func([]byte, int64) (int, error), done func(), err error) {
	if id, ok := strings.CutPrefix(ref, "draft:"); ok {
		return v.rescueDraft(id)
	}
	r, err := v.rescueRow(ref)
	if err != nil {
		return 0, nil, nil, err
	}
	c := v.store.newContent(r.ref(), r.place, r.n)
	c.acquire()
	return r.size, func(p []byte, off int64) (int, error) { return v.readAnywhere(c, p, off) }, c.release, nil
}

// rescueRow finds a row. Its sealed column need not open: the file key and
// the content are authenticated by themselves.
func (v *Vault) rescueRow(ref string) (*attRow, error) {
	kind, rest, ok := strings.Cut(ref, ":")
	if !ok || (kind != "live" && kind != "trash" && kind != "undo") {
		if n, err := v.Find(ref); err == nil && !n.isDir() {
			v.tree.RLock()
			rest = n.id.UUID()
			v.tree.RUnlock()
		} else {
			rest = ref
		}
		kind = "live"
	}
	table, where := "asset_attachments", "id=?"
	text, commit, _ := strings.Cut(rest, ":")
	id, err := seal.ParseUUID(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	args := []dbValue{id[:]}
	if kind == "undo" {
		no, err := strconv.ParseInt(commit, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
		}
		table, where, args = "undo", "id=? AND commit_no=?", append(args, no)
	}
	var r *attRow
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT "+attColumns+" FROM "+table+" WHERE "+where, func(c []dbValue) error {
		found := &attRow{}
		if err := scanAtt(c, found); err != nil {
			return err
		}
		r = found
		return nil
	}, args...)
	if err == nil && r == nil {
		err = fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	return r, err
}

// contentOf gives the content of an attachment, which a draft may lie over;
// nil if there is none.
func (v *Vault) contentOf(id seal.ID) (c *content) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	v.walk(v.root, func(n *Node) {
		if n.id == id {
			c = n.content
		}
	})
	return c
}

func (v *Vault) rescueDraft(text string) (int64, func([]byte, int64) (int, error), func(), error) {
	id, err := seal.ParseUUID(text)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("%w: draft %s", ErrNotFound, text)
	}
	drafts, err := v.draftRows()
	if err != nil {
		return 0, nil, nil, err
	}
	for _, d := range drafts {
		if d.id != id {
			continue
		}
		if d.bad != nil {
			return 0, nil, nil, d.bad
		}
		dr, err := v.store.recoverDraft(d.id, d.state, v.contentOf(d.att))
		if err != nil {
			return 0, nil, nil, err
		}
		return dr.size(), dr.readAt, func() { dr.dropped() }, nil
	}
	return 0, nil, nil, fmt.Errorf("%w: draft %s", ErrNotFound, text)
}
