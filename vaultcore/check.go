package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// CheckOptions: Deep opens every chunk of every content, Repair mends what
// can be mended without deleting anything that a row names.
type CheckOptions struct {
	Deep, Repair bool
	Progress     func(done, total int64) // bytes of contents looked at; may be nil
}

// Problem is one thing that is not as it should be.
type Problem struct {
	Kind     string `json:"kind"` // damaged, missing, row, wire, orphan, leftover, header, draft
	ID       string `json:"id,omitempty"`
	Path     string `json:"path,omitempty"`
	Detail   string `json:"detail"`
	Repaired bool   `json:"repaired"`
}

// CheckReport is what a check found.
type CheckReport struct {
	Assets  int   `json:"assets"`
	Folders int   `json:"folders"`
	Files   int   `json:"files"`
	Trash   int   `json:"trash"`
	Bytes   int64 `json:"bytes"`
	Orphans int   `json:"orphans"`
	// Unverified and Deletions wait for a person at a server of ours; nothing of
	// them is checked before.
	Unverified int       `json:"unverified"`
	Deletions  int       `json:"deletions_asked"`
	Deep       bool      `json:"deep"`
	Problems   []Problem `json:"problems"`
}

// Check holds rows, wire fields, contents and files against each other. It
// works beside a mount; with Repair it removes files that nothing names and
// puts an undo row back where a content is bad.
func (v *Vault) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	c := &checker{v: v, ctx: ctx, o: o, named: make(map[string]bool), rows: make(map[seal.ID]bool)}
	c.report.Deep, c.report.Problems = o.Deep, []Problem{}
	if !v.opt.ReadOnly {
		if err := v.removeLeftovers(); err != nil {
			return c.report, err
		}
		if err := v.Barrier(ctx); err != nil {
			return c.report, err
		}
		v.retired.wait()
	}
	before, err := v.listFiles()
	if err != nil {
		return c.report, err
	}
	c.countAll()
	c.report.Unverified, c.report.Deletions = v.CountUnverified()
	for _, step := range []func() error{c.integrity, c.header, c.assets, c.attachments} {
		if err := step(); err != nil {
			return c.report, err
		}
	}
	return c.report, c.orphans(before)
}

type checker struct {
	v           *Vault
	ctx         context.Context
	o           CheckOptions
	report      CheckReport
	named       map[string]bool
	rows        map[seal.ID]bool // assets that have a row, or were reported as lost
	done, total int64
}

func (c *checker) problem(p Problem) { c.report.Problems = append(c.report.Problems, p) }

func (c *checker) countAll() {
	v := c.v
	v.tree.RLock()
	defer v.tree.RUnlock()
	c.report.Assets, c.report.Folders, c.report.Files, c.report.Bytes = v.counts.assets, v.counts.folders, v.counts.files, v.counts.bytes
	for _, t := range v.trash {
		if !t.node.isDir() {
			c.report.Trash++
		}
		c.total += t.node.size
	}
	c.total += v.counts.bytes
}

func (c *checker) query(sql string, fn func([]dbValue) error, args ...dbValue) error {
	c.v.readMu.Lock()
	defer c.v.readMu.Unlock()
	if c.v.reader == nil {
		return ErrClosed
	}
	return c.v.reader.query(sql, fn, args...)
}

// integrity asks SQLite about its own file.
func (c *checker) integrity() error {
	pragma := "PRAGMA quick_check"
	if c.o.Deep {
		pragma = "PRAGMA integrity_check"
	}
	return c.query(pragma, func(r []dbValue) error {
		if s, _ := r[0].(string); s != "ok" {
			c.problem(Problem{Kind: "row", Detail: "database: " + s})
		}
		return nil
	})
}

// header checks the chain of accepted headers and the file against it.
func (c *checker) header() error {
	h, err := c.v.home.ReadHeader()
	if err != nil {
		c.problem(Problem{Kind: "header", Detail: err.Error()})
		return nil
	}
	var last *seal.SignedHeader
	err = c.query("SELECT payload,sig FROM headers ORDER BY seq", func(r []dbValue) error {
		s := rowScanner{c: r}
		payload, sig := s.blob(), s.blob()
		next, err := seal.ParseStored(payload, sig)
		if err == nil && last != nil {
			err = next.VerifyNext(last)
		}
		if err != nil {
			c.problem(Problem{Kind: "header", Detail: "chain of headers: " + err.Error()})
			return nil
		}
		last = next
		return nil
	})
	if err != nil {
		return err
	}
	if last != nil && last.Hash() != h.Hash() {
		c.problem(Problem{Kind: "header", Detail: "header.json is not the newest header of the database"})
	}
	return nil
}

func (c *checker) assets() error {
	return c.query("SELECT "+assetColumns+" FROM assets", func(cols []dbValue) error {
		var r assetRow
		if err := scanAsset(cols, &r); err != nil {
			c.problem(Problem{Kind: "row", Detail: err.Error()})
			return nil
		}
		c.rows[r.id] = true
		if err := c.v.openAsset(&r); err != nil {
			c.problem(Problem{Kind: "row", ID: r.id.UUID(), Detail: err.Error()})
			return nil
		}
		title, err := c.v.keys.openTitle(r.epoch, r.id, r.title)
		if err != nil || title != r.f.title {
			c.problem(Problem{Kind: "wire", ID: r.id.UUID(), Path: r.f.title, Detail: "the title a remote would see does not open to the asset's title"})
		}
		return nil
	})
}

const checkPage = 500

// attachments goes over the rows a page at a time, so that no long read
// keeps the database's log from being reused.
func (c *checker) attachments() error {
	paths := c.v.pathsByID()
	for after := int64(0); ; {
		var page []*attRow
		err := c.query("SELECT "+attColumns+" FROM asset_attachments WHERE n>? ORDER BY n LIMIT ?", func(cols []dbValue) error {
			r := &attRow{}
			if err := scanAtt(cols, r); err != nil {
				c.problem(Problem{Kind: "row", ID: r.id.UUID(), Detail: err.Error()})
				r.sealed = nil
			}
			page = append(page, r)
			return nil
		}, after, int64(checkPage))
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range page {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			after = r.n
			c.named[binName(r.blob)] = true
			c.attachment(r, paths[r.id])
			c.done += r.size
			if c.o.Progress != nil {
				c.o.Progress(c.done, max(c.total, c.done))
			}
		}
	}
}

// pathsByID gives the shown path of every attachment, deleted ones too.
func (v *Vault) pathsByID() map[seal.ID]string {
	v.tree.RLock()
	defer v.tree.RUnlock()
	m := make(map[seal.ID]string)
	v.walk(v.root, func(n *Node) {
		if n.kind > KindAsset {
			m[n.id] = shownPath(n)
		}
	})
	for id, t := range v.trash {
		m[id] = t.shown + " (trash)"
	}
	return m
}

func (c *checker) attachment(r *attRow, path string) {
	v := c.v
	if r.sealed == nil {
		return // reported with its columns
	}
	if err := v.openAtt(r); err != nil {
		c.problem(Problem{Kind: "row", ID: r.id.UUID(), Path: path, Detail: err.Error()})
		return
	}
	c.assetOf(r, path)
	key, err := v.keys.unwrap(r.epoch, r.wrapped)
	if err != nil {
		c.problem(Problem{Kind: "wire", ID: r.id.UUID(), Path: path, Detail: "file key: " + err.Error()})
		return
	}
	defer key.Wipe()
	c.wire(r, path, &key)
	err = c.content(r)
	if err == nil || c.replacedMeanwhile(r) {
		return
	}
	kind := "damaged"
	if errors.Is(err, blob.ErrNotFound) {
		kind = "missing"
	}
	p := Problem{Kind: kind, ID: r.id.UUID(), Path: path, Detail: err.Error()}
	p.Repaired = c.o.Repair && c.repair(r)
	c.problem(p)
}

// assetOf reports, once, an asset whose row, and with it its title, is lost.
func (c *checker) assetOf(r *attRow, path string) {
	if c.rows[r.asset] || c.bornMeanwhile(r.asset) {
		return
	}
	c.rows[r.asset] = true
	shown, _, _ := strings.Cut(path, "/")
	c.problem(Problem{Kind: "missing", ID: r.asset.UUID(), Path: shown, Detail: "the row of the asset is lost, and its title with it; its files are there"})
}

// bornMeanwhile: beside a mount an asset may be younger than the list of them.
func (c *checker) bornMeanwhile(asset seal.ID) bool {
	found := false
	err := c.query("SELECT 1 FROM assets WHERE id=?", func([]dbValue) error {
		found = true
		return nil
	}, asset[:])
	return err == nil && found
}

func (c *checker) wire(r *attRow, path string, key *seal.Key) {
	for _, f := range []struct {
		field seal.Field
		wire  []byte
		want  string
		what  string
	}{{seal.FieldName, r.name, r.f.name, "name"}, {seal.FieldMIME, r.mime, r.f.mime, "type"}} {
		got, err := seal.OpenField(int(r.version), key, c.v.keys.vaultID(), r.id, f.field, f.wire)
		if err == nil && got != f.want {
			err = errors.New("it opens to another value than the row's")
		}
		if err != nil {
			c.problem(Problem{Kind: "wire", ID: r.id.UUID(), Path: path, Detail: fmt.Sprintf("the %s a remote would see: %v", f.what, err)})
		}
	}
}

func (c *checker) content(r *attRow) error {
	if r.place == placeElsewhere {
		return nil
	}
	ct := c.v.store.newContent(r.ref(), r.place, r.n)
	ct.acquire()
	defer ct.release()
	return c.v.store.verify(ct, c.o.Deep)
}

// replacedMeanwhile: beside a mount a row may have changed since it was read.
func (c *checker) replacedMeanwhile(r *attRow) bool {
	same := false
	err := c.query("SELECT place FROM asset_attachments WHERE n=? AND blob=?", func(cols []dbValue) error {
		same = cols[0] == int64(r.place)
		return nil
	}, r.n, r.blob[:])
	return err == nil && !same
}

// repair puts the undo row of a bad content back, if it has one.
func (c *checker) repair(r *attRow) bool {
	v := c.v
	if v.writable() != nil {
		return false
	}
	old, err := v.goodUndo(r.n)
	if err != nil || old == nil {
		return false
	}
	n := v.nodesByRow()[r.n]
	return n != nil && v.restoreUndo(old, n) == nil
}

// orphans names the files that nothing names.
func (c *checker) orphans(before []string) error {
	v := c.v
	arriving := v.arriving()
	named, ended, err := v.namedFiles()
	if err != nil {
		return err
	}
	for name := range ended {
		named[name] = true
	}
	for name := range v.draftFiles() {
		named[name] = true
	}
	sort.Strings(before)
	for _, name := range before {
		if named[name] || c.named[name] || arriving[name] {
			continue
		}
		p := Problem{Kind: "orphan", Detail: "nothing names the file " + name}
		if strings.HasPrefix(name, "scratch/") || strings.HasSuffix(name, partExt) || strings.HasSuffix(name, sparseExt) {
			p.Kind, p.Detail = "leftover", "left by an interrupted write: "+name
		}
		if !v.stillThere(name) {
			continue
		}
		c.report.Orphans++
		if c.o.Repair && ours(name) && v.writable() == nil {
			p.Repaired = v.removeListed(name) == nil
		}
		c.problem(p)
	}
	return nil
}

func (v *Vault) stillThere(name string) bool {
	dir := v.attachments
	if base, ok := strings.CutPrefix(name, "scratch/"); ok {
		dir, name = v.scratchDir, base
	}
	_, err := dir.Stat(name)
	return err == nil
}
