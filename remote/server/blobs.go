package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

func (s *Server) listBlobs(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	after, err := c.after(api.ValidBlob)
	if err != nil {
		return err
	}
	list, err := s.o.DB.Blobs(c.ctx(), c.account.ID, after, api.MaxBlobs)
	if err != nil {
		return err
	}
	out := api.BlobList{Blobs: list}
	if len(list) == api.MaxBlobs {
		out.Next = &list[len(list)-1].BlobID
	}
	writeJSON(c, http.StatusOK, out)
	return nil
}

func (s *Server) getBlob(c *call) error {
	id := c.r.PathValue("blob")
	if !api.ValidBlob(id) {
		return api.Errorf(api.CodeNotFound, "not a blob id")
	}
	if err := s.memory.take("blob "+c.account.Vault, s.o.Limits.BlobReads, 1); err != nil {
		return err
	}
	return s.sendBlob(c, id)
}

// sendBlob answers GET and HEAD, whole or one range (RFC 9110 section 14).
func (s *Server) sendBlob(c *call, id string) error {
	b, err := s.o.DB.Blob(c.ctx(), c.account.ID, id)
	if err != nil {
		return err
	}
	h := c.w.Header()
	etag := `"` + id + `"`
	h.Set("ETag", etag)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", "private, no-store")
	if matches(c.r.Header.Get("If-None-Match"), etag) {
		c.begin(http.StatusNotModified)
		return nil
	}
	asked := c.r.Header.Get("Range")
	if ir := c.r.Header.Get("If-Range"); ir != "" && ir != etag {
		asked = "" // of another content, whatever it asks for
	}
	off, n, partial, err := parseRange(asked, b.Stored)
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", b.Stored))
		return err
	}
	if c.r.Method != http.MethodHead {
		if err := s.memory.take("bytes "+c.account.Vault, s.o.Limits.BlobBytes, n); err != nil {
			return err
		}
	}
	if s.redirects(c, n) {
		return s.redirect(c, b)
	}
	h.Set("Content-Type", api.TypeBlob)
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	status := http.StatusOK
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, b.Stored))
		status = http.StatusPartialContent
	}
	if c.r.Method == http.MethodHead {
		c.begin(status)
		return nil
	}
	body, err := s.o.Blobs.Get(c.ctx(), b.StorageKey, off, n)
	if err != nil {
		h.Del("Content-Length")
		h.Del("Content-Range")
		return s.lostObject(c, b, err)
	}
	defer body.Close()
	c.begin(status)
	return copyExactly(c, body, n)
}

// lostObject notes that the store has not what the database says, so that a
// device brings it again.
func (s *Server) lostObject(c *call, b metadb.Blob, err error) error {
	if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	s.log.Error("object missing", "request", c.id, "key", b.StorageKey)
	if err := s.o.DB.Missing(c.ctx(), b.StorageKey); err != nil {
		return err
	}
	s.wake(c.account.ID)
	return api.Errorf(api.CodeBlobGone, "the blob is missing")
}

// blobChange is Release or Claim of the database.
type blobChange func(ctx context.Context, account int64, ids []string) ([]api.Blob, error)

func (s *Server) releaseBlobs(c *call) error { return s.changeBlobs(c, s.o.DB.Release) }

func (s *Server) claimBlobs(c *call) error { return s.changeBlobs(c, s.o.DB.Claim) }

func (s *Server) changeBlobs(c *call, change blobChange) error {
	if err := s.other(c); err != nil {
		return err
	}
	var in api.BlobIDs
	if err := c.json(api.MaxSmall, &in); err != nil {
		return err
	}
	if len(in.Blobs) > api.MaxBlobs {
		return api.Errorf(api.CodeBodyTooLarge, "at most %d blobs", api.MaxBlobs)
	}
	for _, id := range in.Blobs {
		if !api.ValidBlob(id) {
			return api.BadField("blobs", "not a blob id: %.40q", id)
		}
	}
	list, err := change(c.ctx(), c.account.ID, in.Blobs)
	if err != nil {
		return err
	}
	s.wake(c.account.ID)
	writeJSON(c, http.StatusOK, api.BlobResults{Results: list})
	return nil
}

func (s *Server) usage(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	a := c.account
	out := api.Usage{Remote: a.Remote, Plan: a.Plan, Quota: a.Quota, Trash: a.Trash, Log: a.Log, FileLimit: s.o.FileLimit, Versions: []int{3, 4}, Gates: []api.Gate{}}
	for _, l := range []metadb.Limit{s.classJSON(), s.classRaw(a.Plan), s.classRawBytes(a.Plan), s.classDownload(), s.classList(), s.classDelete()} {
		if l.Max == 0 {
			continue
		}
		used, reset, err := s.o.DB.Used(c.ctx(), a.ID, l)
		if err != nil {
			return err
		}
		out.Gates = append(out.Gates, api.Gate{Class: l.Class, Limit: l.Max, Used: used, Window: int64(l.Window / time.Second), Reset: reset})
	}
	writeJSON(c, http.StatusOK, out)
	return nil
}
