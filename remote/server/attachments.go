package server

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

func (s *Server) listParents(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	limit, err := c.query("limit", 0, api.MaxList)
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = api.MaxList
	}
	after, err := c.after(parentCursor)
	if err != nil {
		return err
	}
	list, err := s.o.DB.Parents(c.ctx(), c.account.ID, after, int(limit))
	if err != nil {
		return err
	}
	out := api.Parents{Parents: list}
	if out.Parents == nil {
		out.Parents = []api.Parent{}
	}
	if len(list) == int(limit) {
		last := list[len(list)-1].Type + "/" + list[len(list)-1].ID
		out.Next = &last
	}
	writeJSON(c, http.StatusOK, out)
	return nil
}

func (s *Server) putParent(c *call) error {
	id, err := c.idOf("id")
	if err != nil {
		return err
	}
	if err := s.other(c); err != nil {
		return err
	}
	var in api.PutParent
	if err := c.json(api.MaxSmall, &in); err != nil {
		return err
	}
	if !validTitle(in.TitleEncrypted) || in.TitleEncrypted == "" {
		return api.BadField("title_encrypted", "1 to %d bytes, none of them zero", api.MaxField)
	}
	made, err := s.o.DB.PutParent(c.ctx(), c.account.ID, api.Parent{Type: c.r.PathValue("type"), ID: id, TitleEncrypted: in.TitleEncrypted,
		Epoch: in.Epoch, State: api.StateLive, By: c.by()})
	if err != nil {
		return err
	}
	s.wake(c.account.ID)
	c.begin(map[bool]int{true: http.StatusCreated, false: http.StatusOK}[made])
	return nil
}

// validTitle says whether it can be kept: a database has no zero byte in a text.
func validTitle(title string) bool {
	return len(title) <= api.MaxField && strings.IndexByte(title, 0) < 0
}

func (s *Server) deleteParent(c *call) error {
	id, err := c.idOf("id")
	if err != nil {
		return err
	}
	if err := s.take(c.ctx(), c.account.ID, s.classDelete()); err != nil {
		return err
	}
	if err := s.o.DB.DeleteParent(c.ctx(), c.account.ID, c.r.PathValue("type"), id, c.by()); err != nil {
		return err
	}
	s.wake(c.account.ID)
	c.begin(http.StatusNoContent)
	return nil
}

func (s *Server) listAttachments(c *call) error {
	q := c.r.URL.Query()
	typ, parent := q.Get("parent_type"), q.Get("parent_id")
	if !api.ValidID(parent) {
		return api.BadField("parent_id", "not an id")
	}
	limit, err := c.query("limit", 0, api.MaxList)
	if err != nil {
		return err
	}
	after, err := c.after(api.ValidID)
	if err != nil {
		return err
	}
	if err := s.take(c.ctx(), c.account.ID, s.classList()); err != nil {
		return err
	}
	if err := s.o.DB.HasParent(c.ctx(), c.account.ID, typ, parent); err != nil {
		return err
	}
	if limit == 0 {
		return s.listAll(c, typ, parent, after)
	}
	rows, err := s.o.DB.Rows(c.ctx(), c.account.ID, typ, parent, after, int(limit))
	if err != nil {
		return err
	}
	out := api.List{Attachments: rows}
	if len(rows) == int(limit) {
		out.Next = &rows[len(rows)-1].ID
	}
	writeJSON(c, http.StatusOK, out)
	return nil
}

// listAll sends all rows as the seed has them, and holds no more than a page of
// them in memory.
func (s *Server) listAll(c *call, typ, parent, after string) error {
	rows, err := s.o.DB.Rows(c.ctx(), c.account.ID, typ, parent, after, api.MaxList)
	if err != nil {
		return err
	}
	if len(rows) < api.MaxList {
		writeJSON(c, http.StatusOK, api.List{Attachments: rows})
		return nil
	}
	c.w.Header().Set("Content-Type", api.TypeJSON)
	c.begin(http.StatusOK)
	c.send([]byte(`{"attachments":`))
	for open := byte('['); len(rows) > 0; open = ',' {
		page, err := json.Marshal(rows)
		if err != nil {
			return err
		}
		page[0] = open
		c.send(page[:len(page)-1])
		if rows, err = s.o.DB.Rows(c.ctx(), c.account.ID, typ, parent, rows[len(rows)-1].ID, api.MaxList); err != nil {
			return err
		}
	}
	c.send([]byte(`],"next":null}`))
	return nil
}

// liveRow finds an attachment of the account whose parent is the account's too.
// Errors: not_found, deleted.
func (s *Server) liveRow(c *call) (api.Row, error) {
	id, err := c.idOf("id")
	if err != nil {
		return api.Row{}, err
	}
	row, err := s.o.DB.Row(c.ctx(), c.account.ID, id)
	if err != nil {
		return row, err
	}
	if row.State == api.StateDeleted {
		return row, api.Errorf(api.CodeDeleted, "the attachment was deleted")
	}
	if err := s.o.DB.HasParent(c.ctx(), c.account.ID, row.ParentType, row.ParentID); err != nil {
		return row, metadb.ErrNotFound
	}
	return row, nil
}

// download is the seed's: JSON with the content in base64, streamed.
func (s *Server) download(c *call) error {
	if err := s.take(c.ctx(), c.account.ID, s.classDownload()); err != nil {
		return err
	}
	row, err := s.liveRow(c)
	if err != nil {
		return err
	}
	if row.EncryptionVersion != 3 {
		writeJSON(c, http.StatusOK, api.Download{Row: row})
		return nil
	}
	b, err := s.o.DB.Blob(c.ctx(), c.account.ID, row.BlobID)
	if err != nil {
		return err
	}
	body, err := s.o.Blobs.Get(c.ctx(), b.StorageKey, 0, b.Stored)
	if err != nil {
		return s.lostObject(c, b, err)
	}
	defer body.Close()
	head, err := json.Marshal(row)
	if err != nil {
		return err
	}
	head = append(head[:len(head)-1], `,"encrypted_content":"`...)
	const tail = `"}`
	size := int64(len(head)) + (b.Stored+2)/3*4 + int64(len(tail))
	c.w.Header().Set("Content-Type", api.TypeJSON)
	c.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	c.begin(http.StatusOK)
	c.send(head)
	out := bufio.NewWriterSize(c, 32<<10)
	enc := base64.NewEncoder(base64.StdEncoding, out)
	if err := copyExactly(enc, body, b.Stored); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, _ = out.WriteString(tail) // what went wrong, Flush says
	return out.Flush()
}

// copyExactly copies what r has, which must be n bytes: that length was promised.
func copyExactly(w io.Writer, r io.Reader, n int64) error {
	sent, err := io.Copy(w, r)
	if err == nil && sent != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (s *Server) content(c *call) error {
	if err := s.memory.take("content "+c.account.Vault, s.o.Limits.BlobReads, 1); err != nil {
		return err
	}
	row, err := s.liveRow(c)
	if err != nil {
		return err
	}
	if err := s.takeContent(c, row.BlobID); err != nil {
		return err
	}
	return s.sendBlob(c, row.BlobID)
}

// rangesTogether is how long ranges of one file count as one download.
const rangesTogether = 10 * time.Minute

func (s *Server) takeContent(c *call, blobID string) error {
	key := "range " + c.account.Vault + " " + blobID
	if s.memory.seen(key, rangesTogether) {
		return nil
	}
	// Two at once may both be counted; one that was refused is not seen.
	err := s.take(c.ctx(), c.account.ID, s.classDownload())
	if err == nil {
		s.memory.note(key)
	}
	return err
}

func (s *Server) deleteAttachment(c *call) error {
	id, err := c.idOf("id")
	if err != nil {
		return err
	}
	if err := s.take(c.ctx(), c.account.ID, s.classDelete()); err != nil {
		return err
	}
	row, err := s.o.DB.Row(c.ctx(), c.account.ID, id)
	if err != nil {
		return err
	}
	if row.State == api.StateLive {
		if err := s.o.DB.HasParent(c.ctx(), c.account.ID, row.ParentType, row.ParentID); err != nil {
			return metadb.ErrNotFound
		}
	}
	if err := s.o.DB.DeleteRow(c.ctx(), c.account.ID, id, c.by(), c.id); err != nil {
		return err
	}
	s.wake(c.account.ID)
	c.begin(http.StatusNoContent)
	return nil
}

func (s *Server) putRows(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	var in api.PutRows
	if err := c.json(api.MaxJSON, &in); err != nil {
		return err
	}
	if len(in.Rows)+len(in.Parents) > api.MaxRows {
		return api.Errorf(api.CodeBodyTooLarge, "at most %d rows and parents", api.MaxRows)
	}
	for i, r := range in.Rows {
		if err := checkRow(&r); err != nil {
			return api.BadField("rows", "row %d: %w", i, err)
		}
	}
	for i, p := range in.Parents {
		if !api.ValidID(p.ID) || !validTitle(p.TitleEncrypted) || p.State != api.StateLive && p.State != api.StateDeleted {
			return api.BadField("parents", "parent %d is not well-formed", i)
		}
	}
	out, err := s.o.DB.PutRows(c.ctx(), c.account.ID, c.session.Device, in)
	if err != nil {
		return err
	}
	s.wake(c.account.ID)
	writeJSON(c, http.StatusOK, out)
	return nil
}

// checkRow checks what can be seen of a row without a key. Of a deleted one only
// its id counts, and the version that was read.
func checkRow(r *api.Row) error {
	switch {
	case !api.ValidID(r.ID) || !api.ValidID(r.ParentID):
		return api.BadField("id", "not an id")
	case r.State != api.StateLive && r.State != api.StateDeleted:
		return api.BadField("state", "live or deleted")
	case r.Version < 0:
		return api.BadField("version", "negative")
	case r.State == api.StateDeleted:
		return nil
	case !api.ValidBlob(r.BlobID):
		return api.BadField("blob_id", "not a blob id")
	case len(r.FileNameEncrypted) > api.MaxField || len(r.ContentTypeEncrypted) > api.MaxField:
		return api.BadField("file_name_encrypted", "longer than %d bytes", api.MaxField)
	case r.EncryptionVersion != 3 && r.EncryptionVersion != 4:
		return api.Errorf(api.CodeUnsupportedVersion, "encryption_version is 3 or 4")
	case r.SizeBytes < 0:
		return api.BadField("size_bytes", "negative")
	}
	if err := api.Sealed3(r.FileNameEncrypted); err != nil {
		return api.BadField("file_name_encrypted", "%w", err)
	}
	if err := api.Sealed3(r.ContentTypeEncrypted); err != nil {
		return api.BadField("content_type_encrypted", "%w", err)
	}
	if err := r.WrappedFileKey.Check(); err != nil {
		return api.BadField("wrapped_file_key", "%w", err)
	}
	return nil
}
