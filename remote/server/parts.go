package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Uploads in parts are for blobs above api.MaxWhole. What the store needs to go
// on lies in the intent, so any process can take any part.

// partSize is that of CRYPTO.md section 5: at most 9,999 parts.
func partSize(stored int64) int64 {
	const unit, most = 1 << 20, 9999
	least := (stored + most - 1) / most
	return max(16<<20, (least+unit-1)/unit*unit)
}

func (s *Server) beginUpload(c *call) error {
	slot, err := s.o.DB.Take(c.ctx(), c.account.ID, s.classRaw(c.account.Plan), 1)
	if err != nil {
		return err
	}
	err = s.begin(c)
	if err != nil {
		s.giveBack(c, slot)
	}
	return err
}

func (s *Server) begin(c *call) error {
	raw, err := c.small(api.MaxMetadata)
	if err != nil {
		return err
	}
	m, err := s.metadata(raw)
	if err != nil {
		return err
	}
	if m.StoredBytes <= api.MaxWhole {
		return bad("up to %d bytes an upload is one request", api.MaxWhole)
	}
	u := s.uploadOf(c, m)
	u.Attempt = hex.EncodeToString(randomBytes(16))
	u.StorageKey = storageKey(c.account.Vault, u.Attempt)
	have, left, err := s.o.DB.Admit(c.ctx(), u)
	if err != nil {
		return err
	}
	s.abandon(c.ctx(), left)
	if have {
		return s.commitParts(c, u, m)
	}
	up, err := s.o.Blobs.Start(c.ctx(), blob.Upload{Key: u.StorageKey, PartSize: partSize(m.StoredBytes)})
	if err == nil {
		err = s.keepUpload(c.ctx(), u, up, raw)
	}
	if err != nil {
		ctx := context.WithoutCancel(c.ctx())
		s.abandonParts(ctx, up)
		return errors.Join(err, s.o.DB.Abort(ctx, u))
	}
	writeJSON(c, http.StatusCreated, uploadState(u.Attempt, up))
	return nil
}

// abandon frees what the store has of an upload in parts, by the state that the
// database kept of it; "" for none.
func (s *Server) abandon(ctx context.Context, state string) {
	if state == "" {
		return
	}
	var up blob.Upload
	if err := json.Unmarshal([]byte(state), &up); err != nil {
		s.log.Error("state of an upload", "err", err)
		return
	}
	s.abandonParts(context.WithoutCancel(ctx), up)
}

// abandonParts leaves what cannot be freed now to the store's own sweep.
func (s *Server) abandonParts(ctx context.Context, up blob.Upload) {
	if up.Parts = nil; up.ID == "" {
		return
	}
	if err := s.o.Blobs.Finish(ctx, up, true); err != nil && !errors.Is(err, blob.ErrNotFound) {
		s.log.Warn("parts of an upload not freed yet", "key", up.Key, "err", err)
	}
}

func (s *Server) keepUpload(ctx context.Context, u metadb.Upload, up blob.Upload, metadata []byte) error {
	state, err := json.Marshal(blob.Upload{Key: up.Key, ID: up.ID, PartSize: up.PartSize})
	if err != nil {
		return err
	}
	return s.o.DB.Keep(ctx, metadb.Intent{Upload: u, State: string(state), Metadata: string(metadata)})
}

func uploadState(attempt string, up blob.Upload) api.UploadState {
	st := api.UploadState{Upload: attempt, PartSize: up.PartSize, Parts: []int{}}
	for _, p := range up.Parts {
		st.Parts = append(st.Parts, p.Number)
	}
	return st
}

// current finds the upload in the path, and if asked what is stored of it.
func (s *Server) current(c *call, parts bool) (metadb.Intent, *api.Metadata, blob.Upload, error) {
	var up blob.Upload
	attempt := c.r.PathValue("upload")
	if !api.ValidBlob(attempt) {
		return metadb.Intent{}, nil, up, metadb.ErrNotFound
	}
	i, err := s.o.DB.Intent(c.ctx(), c.account.ID, attempt)
	if err != nil {
		return i, nil, up, err
	}
	m, err := s.metadata([]byte(i.Metadata))
	if err != nil {
		return i, nil, up, fmt.Errorf("kept metadata: %v", err) // it was good when it came
	}
	if err := json.Unmarshal([]byte(i.State), &up); err != nil {
		return i, nil, up, err
	}
	if parts {
		up, err = s.o.Blobs.Start(c.ctx(), up)
	}
	return i, m, up, err
}

func (s *Server) getUpload(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	i, _, up, err := s.current(c, true)
	if err != nil {
		return err
	}
	writeJSON(c, http.StatusOK, uploadState(i.Attempt, up))
	return nil
}

func (s *Server) putUploadPart(c *call) error {
	number, err := strconv.Atoi(c.r.PathValue("part"))
	if err != nil || number < 1 {
		return metadb.ErrNotFound
	}
	_, m, up, err := s.current(c, false)
	if err != nil {
		return err
	}
	want, err := lengthOfPart(m.StoredBytes, up.PartSize, number)
	if err != nil {
		return err
	}
	switch n := c.r.ContentLength; {
	case n < 0:
		return api.Errorf(api.CodeLengthRequired, "send Content-Length")
	case n != want:
		return api.Errorf(api.CodeLengthMismatch, "part %d has %d bytes, not %d", number, want, n)
	}
	leave, err := s.bodies.enter(c.account.ID, false)
	if err != nil {
		return err
	}
	defer leave()
	if _, err := s.o.Blobs.Part(c.ctx(), up, number, c.body(want), want); err != nil {
		return putError(err)
	}
	c.begin(http.StatusNoContent)
	return nil
}

func lengthOfPart(stored, size int64, number int) (int64, error) {
	parts := (stored + size - 1) / size
	switch {
	case int64(number) > parts:
		return 0, bad("there are %d parts", parts)
	case int64(number) == parts:
		return stored - (parts-1)*size, nil
	}
	return size, nil
}

func (s *Server) finishUpload(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	i, m, up, err := s.current(c, true)
	if err != nil {
		return err
	}
	var have int64
	for n, p := range up.Parts {
		if p.Number != n+1 {
			return api.Errorf(api.CodeLengthMismatch, "part %d is missing", n+1)
		}
		have += p.Size
	}
	if have != m.StoredBytes {
		return api.Errorf(api.CodeLengthMismatch, "%d of %d bytes are here", have, m.StoredBytes)
	}
	if err := s.o.Blobs.Finish(c.ctx(), up, true); err != nil && !errors.Is(err, blob.ErrExist) {
		return err
	}
	u := s.uploadOf(c, m)
	u.Attempt, u.StorageKey = i.Attempt, i.StorageKey
	if err := s.verifyObject(c, u); err != nil {
		return errors.Join(err, s.o.DB.Abort(context.WithoutCancel(c.ctx()), u))
	}
	return s.commitParts(c, u, m)
}

// verifyObject reads the whole back: parts came in any order, so nothing has seen
// all of it in one piece.
func (s *Server) verifyObject(c *call, u metadb.Upload) error {
	body, err := s.o.Blobs.Get(c.ctx(), u.StorageKey, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	h := sha256.New()
	n, err := io.Copy(h, body)
	if err != nil {
		return err
	}
	if n != u.Stored || hex.EncodeToString(h.Sum(nil)) != u.SHA256 {
		return api.Errorf(api.CodeHashMismatch, "the content has another SHA-256 than announced")
	}
	return nil
}

func (s *Server) commitParts(c *call, u metadb.Upload, m *api.Metadata) error {
	u.By, u.Request = c.by(), c.id
	stored, err := s.o.DB.Commit(context.WithoutCancel(c.ctx()), u, true)
	if err != nil {
		return err
	}
	s.wake(c.account.ID)
	s.answerUpload(c, m, stored)
	return nil
}

func (s *Server) dropUpload(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	i, _, up, err := s.current(c, false)
	if err != nil {
		return err
	}
	up.Parts = nil
	if err := s.o.Blobs.Finish(c.ctx(), up, true); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if err := s.o.DB.Abort(c.ctx(), i.Upload); err != nil {
		return err
	}
	c.begin(http.StatusNoContent)
	return nil
}
