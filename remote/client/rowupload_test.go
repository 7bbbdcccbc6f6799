package client

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// rowUpload is an upload with the row of a new attachment, and what becomes of it.
func rowUpload(t *testing.T, content []byte, plain int64, cursor []byte, asset seal.ID) (*syncer.Upload, *[]syncer.RowResult) {
	t.Helper()
	blob := seal.NewID()
	version := uint8(3)
	if size, ok := api.SealedSize(4, plain); ok && size == int64(len(content)) {
		version = 4
	}
	row := &syncer.Row{ID: seal.NewID(), Type: 3, Parent: asset, Name: random(40), MIME: random(40), Key: random(60), Version: version, Epoch: 1,
		Size: plain, Len: int64(len(content)), Blob: blob, SHA256: sha256.Sum256(content)}
	var wrote []syncer.RowResult
	return &syncer.Upload{Blob: blob.Hex(), Size: int64(len(content)), SHA256: row.SHA256, Row: row, Cursor: cursor,
		Wrote: func(r syncer.RowResult) { wrote = append(wrote, r) }}, &wrote
}

// asset makes one and gives the cursor behind it.
func (w *world) asset(r *Remote) (seal.ID, []byte) {
	w.t.Helper()
	id := seal.NewID()
	c, err := r.Changes(w.t.Context(), nil, 0)
	must(w.t, err)
	done, err := r.Settle(w.t.Context(), syncer.Settlement{Cursor: c.Next, Rows: []syncer.Row{{ID: id, Asset: true, Type: 3, Name: random(40), Epoch: 1}}})
	must(w.t, err)
	must(w.t, done.Rows[0].Refused)
	c, err = r.Changes(w.t.Context(), c.Next, 0)
	must(w.t, err)
	return id, c.Next
}

func (w *world) listed(asset seal.ID) []api.Row {
	w.t.Helper()
	rows, err := w.db.Rows(w.t.Context(), 1, "item", asset.UUID(), "", 0)
	must(w.t, err)
	return rows
}

// A row is there with its content, whatever the form of the upload, and a refused
// one refuses no content.
func TestUploadWithRow(t *testing.T) {
	w := newWorld(t, server.Options{FileLimit: 1 << 30})
	r := w.enabled()
	asset, cursor := w.asset(r)
	put := func(up *syncer.Upload, content []byte) {
		t.Helper()
		must(t, r.PutBlob(t.Context(), *up, bytes.NewReader(content)))
		if n, err := r.StatBlobs(t.Context(), []string{up.Blob}); err != nil || n[0] != up.Size {
			t.Fatalf("%v bytes are there: %v", n, err)
		}
	}
	size4, _ := api.SealedSize(4, 50<<20)
	for n, c := range []struct{ size, plain int64 }{{1028, 1000}, {size4, 50 << 20}} {
		content := random(int(c.size))
		up, wrote := rowUpload(t, content, c.plain, cursor, asset)
		put(up, content)
		rows := w.listed(asset)
		if len(*wrote) != 1 || (*wrote)[0] != (syncer.RowResult{Number: 1}) || len(rows) != n+1 {
			t.Fatalf("%d bytes: wrote %v, listed %d", c.size, *wrote, len(rows))
		}
		got, err := w.db.Row(t.Context(), 1, up.Row.ID.UUID())
		must(t, err)
		if back, ok := rowOf(api.Change{Row: &got}); !ok || back.Blob != up.Row.Blob || back.SHA256 != up.SHA256 || !bytes.Equal(back.Name, up.Row.Name) || !bytes.Equal(back.Key, up.Row.Key) {
			t.Errorf("row %+v", got)
		}
		put(up, content) // the answer was lost: the row is there by now
		wantErr(t, "the row again", (*wrote)[1].Refused, syncer.ErrStale)
	}
	content := random(100)
	up, wrote := rowUpload(t, content, 72, cursor, seal.NewID())
	put(up, content)
	wantErr(t, "an asset nobody knows", (*wrote)[0].Refused, syncer.ErrNoParent)
	up, _ = rowUpload(t, content, 72, cursor, asset)
	up.Row.SHA256[0]++
	wantErr(t, "a row of another content", r.PutBlob(t.Context(), *up, bytes.NewReader(content)), syncer.ErrKey)
	if n := len(w.listed(asset)); n != 2 {
		t.Errorf("%d rows", n)
	}
}

// Parts that another process goes on with carry the row of the one that began;
// of that the changes tell.
func TestResumedUploadWithRow(t *testing.T) {
	w := newWorld(t, server.Options{FileLimit: 1 << 30})
	r := w.enabled()
	asset, cursor := w.asset(r)
	size, _ := api.SealedSize(4, 50<<20)
	content := random(int(size))
	up, wrote := rowUpload(t, content, 50<<20, cursor, asset)
	up.Save = func(s []byte) error { up.State = bytes.Clone(s); return nil }
	wantErr(t, "a broken source", r.PutBlob(t.Context(), *up, breaking{bytes.NewReader(content), 33 << 20}), errBroken)
	if n := len(w.listed(asset)); n != 0 {
		t.Fatalf("%d rows before the content", n)
	}
	renamed := *up.Row
	renamed.Name = random(50)
	first := up.Row
	up.Row = &renamed
	must(t, w.remote().PutBlob(t.Context(), *up, bytes.NewReader(content)))
	if len(*wrote) != 0 {
		t.Errorf("told of a row that was not written: %v", *wrote)
	}
	rows := w.listed(asset)
	if len(rows) != 1 || !bytes.Equal(wireBytes(rows[0].FileNameEncrypted), first.Name) {
		t.Errorf("rows %+v", rows)
	}
}

// An answer that says nothing of the row tells nothing of it.
func TestUploadOldServer(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	asset, cursor := w.asset(r)
	content := random(100)
	up, wrote := rowUpload(t, content, 72, cursor, asset)
	for _, answer := range []string{`{"blob_id":"` + up.Blob + `"}`, `{"blob_id":"` + up.Blob + `","id":"` + seal.NewID().UUID() + `","version":1}`, `{}`} {
		restore := w.around(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
				if q.URL.Path != api.PathAttachments {
					next.ServeHTTP(rw, q)
					return
				}
				rw.WriteHeader(http.StatusCreated)
				fmt.Fprint(rw, answer)
			})
		})
		must(t, r.PutBlob(t.Context(), *up, bytes.NewReader(content)))
		restore()
	}
	if len(*wrote) != 0 {
		t.Errorf("told %v", *wrote)
	}
}
