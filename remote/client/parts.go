package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// partsAtOnce bounds the parts of one blob under way.
const partsAtOnce = 4

// sending is one attempt to send a blob in parts.
type sending struct {
	r       *Remote
	up      syncer.Upload
	content io.ReaderAt
	m       api.Metadata
	resumed bool       // by what an earlier attempt began
	mu      sync.Mutex // around Save
}

// kept is what Upload.Save keeps.
type kept struct {
	Upload string `json:"upload"`
}

func (s *sending) send(ctx context.Context) error {
	st, done, err := s.begin(ctx)
	if err != nil || done {
		return errors.Join(err, s.forget(done))
	}
	if st.PartSize <= 0 || st.PartSize > api.MaxPart || (s.up.Size+st.PartSize-1)/st.PartSize > 10_000 {
		return fmt.Errorf("%w: the server asks for parts of %d bytes", syncer.ErrUnavailable, st.PartSize)
	}
	group, partCtx := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	for n := int64(0); n*st.PartSize < s.up.Size; n++ {
		number := int(n) + 1
		if slices.Contains(st.Parts, number) {
			continue
		}
		group.Go(func() error { return s.part(partCtx, st, number) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var out api.Uploaded
	if _, err := s.r.json(ctx, http.MethodPost, api.PathUpload(s.r.o.Vault, st.Upload)+"/finish", nil, &out); err != nil {
		return err
	}
	if !s.resumed { // else the server has the row of the first attempt
		wrote(s.up, out)
	}
	return s.forget(true)
}

// begin takes an upload up again, or begins one; done: the blob is there.
func (s *sending) begin(ctx context.Context) (st api.UploadState, done bool, err error) {
	var k kept
	if json.Unmarshal(s.up.State, &k) == nil && api.ValidBlob(k.Upload) {
		_, err := s.r.json(ctx, http.MethodGet, api.PathUpload(s.r.o.Vault, k.Upload), nil, &st)
		if err == nil || !errors.Is(err, syncer.ErrNotFound) {
			s.resumed = true
			return st, false, err
		}
	}
	var answer struct {
		api.UploadState
		api.Uploaded
	}
	if _, err := s.r.json(ctx, http.MethodPost, api.PathVault(s.r.o.Vault)+"/uploads", s.m, &answer); err != nil {
		return st, false, err
	}
	if answer.Upload == "" && answer.Uploaded.BlobID == s.up.Blob {
		wrote(s.up, answer.Uploaded)
		return st, true, nil
	}
	return answer.UploadState, false, s.save(answer.Upload)
}

func (s *sending) save(upload string) error {
	if s.up.Save == nil {
		return nil
	}
	raw, err := json.Marshal(kept{Upload: upload})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up.Save(raw)
}

func (s *sending) forget(done bool) error {
	if !done || s.up.Save == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up.Save(nil)
}

func (s *sending) part(ctx context.Context, st api.UploadState, number int) error {
	off := int64(number-1) * st.PartSize
	size := min(st.PartSize, s.up.Size-off)
	source := &sourceError{r: s.content}
	_, err := s.r.read(ctx, request{method: http.MethodPut, path: api.PathPart(s.r.o.Vault, st.Upload, number),
		header: http.Header{"Content-Type": {api.TypeBlob}},
		body:   func() (io.Reader, int64) { return io.NewSectionReader(source, off, size), size }}, nil)
	if broken := source.get(); broken != nil {
		return broken
	}
	if err == nil && s.up.Sent != nil {
		s.up.Sent(size)
	}
	return err
}
