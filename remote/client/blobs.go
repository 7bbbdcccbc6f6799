package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// parallel bounds the questions asked at once.
const parallel = 8

// collectEvery is how often what is stored is held against what is named.
const collectEvery = 24 * time.Hour

// listAbove is from how many blobs on it is cheaper to list than to ask.
const listAbove = 32

// GetBlob implements syncer.Remote.
func (r *Remote) GetBlob(ctx context.Context, id string, off, n int64) (io.ReadCloser, error) {
	if !syncer.ValidBlob(id) {
		return nil, fmt.Errorf("blob %.40q: %w", id, syncer.ErrKey)
	}
	if n == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	q := request{method: http.MethodGet, path: api.PathBlob(r.o.Vault, id), header: http.Header{}}
	if off > 0 || n > 0 {
		spec := fmt.Sprintf("bytes=%d-", off)
		if n > 0 {
			spec += strconv.FormatInt(off+n-1, 10)
		}
		q.header.Set("Range", spec)
	}
	res, err := r.bytes(ctx, q)
	if api.IsCode(err, api.CodeRangeInvalid) {
		return io.NopCloser(bytes.NewReader(nil)), nil // beyond the end there is nothing
	}
	if err != nil {
		return nil, fmt.Errorf("get blob %s: %w", id, err)
	}
	if q.header.Get("Range") != "" && res.StatusCode != http.StatusPartialContent {
		res.Body.Close()
		return nil, fmt.Errorf("get blob %s: %w: the server gave another range", id, syncer.ErrUnavailable)
	}
	return &blobBody{ctx: ctx, paced: newPaced(res.Body), left: res.ContentLength}, nil
}

// blobBody ends with an error where the connection was cut.
type blobBody struct {
	ctx context.Context
	*paced
	left int64 // -1: not known
}

func (b *blobBody) Read(p []byte) (int, error) {
	n, err := b.paced.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if err == nil || errors.Is(err, io.EOF) && b.left <= 0 {
		return n, err
	}
	if b.ctx.Err() != nil {
		return n, b.ctx.Err()
	}
	return n, fmt.Errorf("%w: the transfer was cut: %w", syncer.ErrUnavailable, io.ErrUnexpectedEOF)
}

// StatBlobs implements syncer.Remote.
func (r *Remote) StatBlobs(ctx context.Context, ids []string) ([]int64, error) {
	for _, id := range ids {
		if !syncer.ValidBlob(id) {
			return nil, fmt.Errorf("blob %.40q: %w", id, syncer.ErrKey)
		}
	}
	sizes := make([]int64, len(ids))
	if len(ids) > listAbove {
		have := make(map[string]int64)
		err := r.eachBlob(ctx, func(b api.Blob) {
			if b.State == api.BlobPresent || b.State == api.BlobReleased {
				have[b.BlobID] = b.StoredBytes
			}
		})
		for i, id := range ids {
			n, ok := have[id]
			if sizes[i] = n; !ok {
				sizes[i] = syncer.Missing
			}
		}
		return sizes, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, id := range ids {
		group.Go(func() (err error) {
			sizes[i], err = r.stat(ctx, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return sizes, nil
}

func (r *Remote) stat(ctx context.Context, id string) (int64, error) {
	res, err := r.do(ctx, request{method: http.MethodHead, path: api.PathBlob(r.o.Vault, id)})
	if errors.Is(err, syncer.ErrNotFound) {
		return syncer.Missing, nil
	}
	if err != nil {
		return 0, err
	}
	res.Body.Close()
	return res.ContentLength, nil
}

// eachBlob lists what is stored.
func (r *Remote) eachBlob(ctx context.Context, fn func(api.Blob)) error {
	after := ""
	for {
		var page api.BlobList
		if _, err := r.json(ctx, http.MethodGet, api.PathVault(r.o.Vault)+"/blobs?after="+after, nil, &page); err != nil {
			return err
		}
		for _, b := range page.Blobs {
			fn(b)
		}
		if page.Next == nil {
			return nil
		}
		if *page.Next <= after {
			return fmt.Errorf("%w: the server's list goes round", syncer.ErrUnavailable)
		}
		after = *page.Next
	}
}

// metadata describes a blob, with the row that is written with it. Without one it
// is not known which version sealed it, and all that the server makes of that is
// the length: any version that fits will do.
func (r *Remote) metadata(up syncer.Upload) (api.Metadata, error) {
	if up.Row != nil {
		return r.metadataOfRow(up)
	}
	m := api.Metadata{BlobID: up.Blob, StoredBytes: up.Size, SHA256: hex.EncodeToString(up.SHA256[:]), EncryptionVersion: 3, SizeBytes: up.Size - api.Overhead3}
	if m.SizeBytes >= 0 && m.SizeBytes <= api.MaxFile {
		return m, nil
	}
	plain, ok := api.PlainSize4(up.Size)
	if !ok {
		return m, fmt.Errorf("blob %s of %d bytes: %w", up.Blob, up.Size, syncer.ErrKey)
	}
	m.EncryptionVersion, m.SizeBytes = 4, plain
	return m, nil
}

func (r *Remote) metadataOfRow(up syncer.Upload) (m api.Metadata, err error) {
	in := up.Row
	if in.Asset || in.Deleted || in.Blob.Hex() != up.Blob || in.Len != up.Size || in.SHA256 != up.SHA256 {
		return m, fmt.Errorf("blob %s with a row of something else: %w", up.Blob, syncer.ErrKey)
	}
	at, err := parseCursor(up.Cursor)
	if err != nil {
		return m, err
	}
	row := r.rowFor(in)
	return api.Metadata{BlobID: up.Blob, StoredBytes: up.Size, SHA256: row.SHA256, SizeBytes: row.SizeBytes, EncryptionVersion: row.EncryptionVersion,
		Row: &row, At: at.N}, nil
}

// wrote tells what the server made of the row of an upload. An answer without a
// word of that row tells nothing.
func wrote(up syncer.Upload, out api.Uploaded) {
	switch {
	case up.Row == nil || up.Wrote == nil:
	case out.RowError != nil:
		up.Wrote(syncer.RowResult{Refused: refused(out.RowError)})
	case out.Row != nil && out.Row.ID == up.Row.ID.UUID() && out.BlobID == up.Blob && out.Row.Version > 0:
		up.Wrote(syncer.RowResult{Number: out.Row.Version})
	}
}

// PutBlob implements syncer.Remote.
func (r *Remote) PutBlob(ctx context.Context, up syncer.Upload, content io.ReaderAt) error {
	if !syncer.ValidBlob(up.Blob) || up.Size < 0 {
		return fmt.Errorf("blob %.40q of %d bytes: %w", up.Blob, up.Size, syncer.ErrKey)
	}
	m, err := r.metadata(up)
	if err != nil {
		return err
	}
	if up.Size > api.MaxWhole {
		s := &sending{r: r, up: up, content: content, m: m}
		err = s.send(ctx)
	} else {
		err = r.putWhole(ctx, up, m, content)
	}
	if err != nil {
		return fmt.Errorf("put blob %s: %w", up.Blob, err)
	}
	return nil
}

// putWhole sends metadata and content as one form, of a length known before.
func (r *Remote) putWhole(ctx context.Context, up syncer.Upload, m api.Metadata, content io.ReaderAt) error {
	var head bytes.Buffer
	form := multipart.NewWriter(&head)
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := errors.Join(part(form, api.PartMetadata, api.TypeJSON, raw), part(form, api.PartContent, api.TypeBlob, nil)); err != nil {
		return err
	}
	tail := "\r\n--" + form.Boundary() + "--\r\n"
	source := &sourceError{r: content}
	body := func() (io.Reader, int64) {
		return io.MultiReader(bytes.NewReader(head.Bytes()), io.NewSectionReader(source, 0, up.Size), bytes.NewReader([]byte(tail))),
			int64(head.Len()) + up.Size + int64(len(tail))
	}
	var out api.Uploaded
	_, err = r.read(ctx, request{method: http.MethodPost, path: api.PathAttachments, body: body,
		header: http.Header{"Content-Type": {form.FormDataContentType()}}}, &out)
	if broken := source.get(); broken != nil {
		return broken
	}
	if err != nil {
		return err
	}
	if wrote(up, out); up.Sent != nil {
		up.Sent(up.Size)
	}
	return nil
}

func part(form *multipart.Writer, name, typ string, content []byte) error {
	h := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + name + `"; filename="` + name + `"`}, "Content-Type": {typ}}
	w, err := form.CreatePart(h)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
}

// Settle implements syncer.Remote. Pairings end by themselves here.
func (r *Remote) Settle(ctx context.Context, s syncer.Settlement) (syncer.Settled, error) {
	for _, key := range s.Done {
		if k, err := syncer.ParseKey(key); err != nil || k.Kind != syncer.KeyPair {
			return syncer.Settled{}, fmt.Errorf("settle %.80q: %w", key, syncer.ErrKey)
		}
	}
	if err := ctx.Err(); err != nil {
		return syncer.Settled{}, err
	}
	if len(s.False) > 0 {
		return syncer.Settled{}, fmt.Errorf("%w: a server lets nobody replace what it has", syncer.ErrDenied)
	}
	var out syncer.Settled
	if err := r.release(ctx, s.Release, nil); err != nil {
		return out, err
	}
	if err := r.claim(ctx, s.Claim, &out); err != nil {
		return out, err
	}
	if err := r.putRows(ctx, s, &out); err != nil || s.Collect == nil {
		return out, err
	}
	return r.collect(ctx, s.Collect)
}

// collect puts what nobody names into the server's trash, where it can be had
// back for 30 days, and lets batches go that a checkpoint covers.
func (r *Remote) collect(ctx context.Context, c *syncer.Collection) (out syncer.Settled, err error) {
	r.mu.Lock()
	due := r.o.Now().Sub(r.collected) >= collectEvery
	r.mu.Unlock()
	if !due {
		return out, nil
	}
	var unnamed []string
	err = r.eachBlob(ctx, func(b api.Blob) {
		if b.State == api.BlobPresent && !c.Named(b.BlobID) {
			unnamed = append(unnamed, b.BlobID)
		}
	})
	if err != nil {
		return out, err
	}
	if err := r.release(ctx, unnamed, &out); err != nil {
		return out, err
	}
	if len(c.Heads) > 0 {
		var done api.Collected
		_, err := r.json(ctx, http.MethodPost, api.PathVault(r.o.Vault)+"/collect", api.Collect{Heads: c.Heads}, &done)
		if err != nil && !api.IsCode(err, api.CodeBehind) { // behind: its checkpoints are too young yet
			return out, err
		}
		out.Removed += done.Removed
	}
	r.mu.Lock()
	r.collected = r.o.Now()
	r.mu.Unlock()
	out.Collected = true
	return out, nil
}

func (r *Remote) release(ctx context.Context, ids []string, out *syncer.Settled) error {
	for len(ids) > 0 {
		step := ids[:min(len(ids), api.MaxBlobs)]
		ids = ids[len(step):]
		var res api.BlobResults
		if _, err := r.json(ctx, http.MethodPost, api.PathVault(r.o.Vault)+"/blobs/release", api.BlobIDs{Blobs: step}, &res); err != nil {
			return err
		}
		for _, b := range res.Results {
			if out != nil && b.State == api.BlobReleased {
				out.Removed++
				out.Freed += b.StoredBytes
			}
		}
	}
	return nil
}

// claim has blobs back from the trash.
func (r *Remote) claim(ctx context.Context, ids []string, out *syncer.Settled) error {
	for len(ids) > 0 {
		step := ids[:min(len(ids), api.MaxBlobs)]
		ids = ids[len(step):]
		var res api.BlobResults
		if _, err := r.json(ctx, http.MethodPost, api.PathVault(r.o.Vault)+"/blobs/claim", api.BlobIDs{Blobs: step}, &res); err != nil {
			return err
		}
		have := make(map[string]bool)
		for _, b := range res.Results {
			have[b.BlobID] = b.State == api.BlobPresent
		}
		for _, id := range step {
			if !have[id] {
				out.Unclaimed = append(out.Unclaimed, id)
			}
		}
	}
	return nil
}

// sourceError remembers that it was our own side that could not be read.
type sourceError struct {
	r   io.ReaderAt
	err atomic.Pointer[error]
}

func (s *sourceError) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err.Store(&err)
	}
	return n, err
}

func (s *sourceError) get() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}
