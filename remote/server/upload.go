package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// smallBody is the longest body that is kept in memory, and that needs no
// intent: one transaction for everything.
const smallBody = 256 << 10

// upload answers both forms of POST attachments.
func (s *Server) upload(c *call) error {
	typ, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil {
		return api.Errorf(api.CodeUnsupportedMedia, "send %s or multipart/form-data", api.TypeJSON)
	}
	if err := c.uncoded(); err != nil {
		return err
	}
	if c.r.ContentLength < 0 {
		return api.Errorf(api.CodeLengthRequired, "send Content-Length")
	}
	switch typ {
	case api.TypeJSON:
		return s.guarded(c, true, s.uploadJSON)
	case "multipart/form-data":
		if c.session.Device == api.ZeroID {
			return api.Errorf(api.CodePageSession, "only a device of the vault may do this")
		}
		if !validBoundary(params["boundary"]) {
			return api.Errorf(api.CodeUnsupportedMedia, "a boundary of 1 to 70 characters belongs to multipart/form-data")
		}
		return s.guarded(c, false, func(c *call) error { return s.uploadMultipart(c, params["boundary"]) })
	}
	return api.Errorf(api.CodeUnsupportedMedia, "send %s or multipart/form-data", api.TypeJSON)
}

// guarded bounds uploads: those at once, those an hour, those that fail. A slot
// of the hour is taken when the upload is let in, and given back if nothing came
// of it.
func (s *Server) guarded(c *call, json bool, run func(*call) error) error {
	if err := s.fits(c, json); err != nil {
		return err
	}
	leave, err := s.bodies.enter(c.account.ID, json)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.mayFail(c); err != nil {
		return err
	}
	taken, err := s.takeUpload(c, json)
	if err != nil {
		return err
	}
	if err = run(c); err == nil {
		return nil
	}
	s.giveBack(c, taken...)
	ctx := context.WithoutCancel(c.ctx())
	if failed := s.take(ctx, c.account.ID, s.classFailed()); failed != nil && !api.IsCode(failed, api.CodeRateLimited) {
		s.log.Error("failure not counted", "request", c.id, "err", failed)
	}
	return err
}

// giveBack returns slots of an upload that came to nothing. The client may be
// gone by then.
func (s *Server) giveBack(c *call, taken ...metadb.Slot) {
	for _, slot := range taken {
		if err := s.o.DB.Return(context.WithoutCancel(c.ctx()), c.account.ID, slot); err != nil {
			s.log.Error("slot not given back", "request", c.id, "err", err)
		}
	}
}

// mayFail refuses an account whose uploads failed too often.
func (s *Server) mayFail(c *call) error {
	l := s.classFailed()
	if l.Max == 0 {
		return nil
	}
	used, _, err := s.o.DB.Used(c.ctx(), c.account.ID, l)
	if err == nil && used >= l.Max {
		err = api.Limited(api.CodeRateLimited, time.Minute, "too many uploads failed")
	}
	return err
}

// fits refuses by Content-Length, before anything is read or counted.
func (s *Server) fits(c *call, json bool) error {
	n := c.r.ContentLength
	switch {
	case json && n > api.MaxJSONUpload:
		return api.Errorf(api.CodeBodyTooLarge, "at most %d bytes", api.MaxJSONUpload)
	case !json && n > api.MaxWhole+2*api.MaxMetadata:
		return api.Errorf(api.CodeBodyTooLarge, "above %d bytes an upload has parts", api.MaxWhole)
	}
	// What cannot fit is not read. The exact count comes with the reservation.
	least := n - 64<<10
	if json {
		least = (n - 64<<10) / 4 * 3
	}
	if json && least > c.account.Remaining {
		e := api.Errorf(api.CodeQuotaExceeded, "the storage of this account is used up")
		e.Quota = &c.account.Quota
		return e
	}
	return nil
}

func (s *Server) takeUpload(c *call, json bool) ([]metadb.Slot, error) {
	if json {
		slot, err := s.o.DB.Take(c.ctx(), c.account.ID, s.classJSON(), 1)
		return []metadb.Slot{slot}, err
	}
	count, err := s.o.DB.Take(c.ctx(), c.account.ID, s.classRaw(c.account.Plan), 1)
	if err != nil {
		return nil, err
	}
	size, err := s.o.DB.Take(c.ctx(), c.account.ID, s.classRawBytes(c.account.Plan), c.r.ContentLength)
	if err != nil {
		return nil, errors.Join(err, s.o.DB.Return(context.WithoutCancel(c.ctx()), c.account.ID, count))
	}
	return []metadb.Slot{count, size}, nil
}

// spool takes a body of unknown length: small ones in memory, others in a file.
type spool struct {
	dir  string
	mem  bytes.Buffer
	file *os.File
	hash hash.Hash
	n    int64
}

func newSpool(dir string) *spool { return &spool{dir: dir, hash: sha256.New()} }

func (p *spool) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	p.hash.Write(b)
	if p.file == nil && p.n > smallBody {
		var err error
		if p.file, err = os.CreateTemp(p.dir, "body-"); err != nil {
			return 0, spoolError(err)
		}
		if _, err := p.file.Write(p.mem.Bytes()); err != nil {
			return 0, spoolError(err)
		}
		p.mem = bytes.Buffer{}
	}
	if p.file == nil {
		return p.mem.Write(b)
	}
	n, err := p.file.Write(b)
	return n, spoolError(err)
}

// spoolError: a full disk of the server is its trouble, and passes.
func spoolError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
}

func (p *spool) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

func (p *spool) reader() (io.Reader, error) {
	if p.file == nil {
		return bytes.NewReader(p.mem.Bytes()), nil
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return p.file, spoolError(err)
}

func (p *spool) close() {
	if p.file != nil {
		p.file.Close()
		os.Remove(p.file.Name())
	}
}

// uploadJSON is the upload of the seed.
func (s *Server) uploadJSON(c *call) error {
	body := newSpool(s.o.Temp)
	defer body.close()
	raw, err := scanUpload(c.body(api.MaxJSONUpload), body)
	if err != nil {
		return bodyError(err)
	}
	var in api.UploadJSON
	if err := api.Unmarshal(raw, &in); err != nil {
		return api.BadJSON(err)
	}
	row, err := s.rowOf(in)
	if err != nil {
		return err
	}
	if in.SizeBytes > s.o.FileLimit {
		return api.Errorf(api.CodeFileTooLarge, "a file has at most %d bytes", s.o.FileLimit)
	}
	if body.n != in.SizeBytes+api.Overhead3 {
		return api.Errorf(api.CodeLengthMismatch, "%d bytes of content, and size_bytes is %d", body.n, in.SizeBytes)
	}
	if err := s.o.DB.HasParent(c.ctx(), c.account.ID, row.ParentType, row.ParentID); err != nil {
		return err
	}
	u := metadb.Upload{Account: c.account.ID, Blob: hex.EncodeToString(randomBytes(16)), Stored: body.n, SHA256: body.sum(), Row: row, Whole: true, At: -1}
	u.Slot = u.Blob
	if key := c.r.Header.Get(api.HeaderIdempotency); key != "" {
		if !validKey(key) {
			return api.BadField(api.HeaderIdempotency, "at most 255 characters of ASCII")
		}
		sum := sha256.Sum256(append([]byte(u.SHA256), raw...))
		u.Slot, u.Print = "key/"+key, hex.EncodeToString(sum[:])
	}
	r, err := body.reader()
	if err != nil {
		return err
	}
	stored, err := s.store(c, u, r)
	if err != nil {
		return err
	}
	writeJSON(c, uploadStatus(stored), stored.Row)
	return nil
}

func validKey(key string) bool {
	return len(key) <= 255 && strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func uploadStatus(stored metadb.Stored) int {
	if stored.Again {
		return http.StatusOK
	}
	return http.StatusCreated
}

// rowOf checks the fields of the seed's upload.
func (s *Server) rowOf(in api.UploadJSON) (*api.Row, error) {
	if in.EncryptionVersion != 3 {
		return nil, api.Errorf(api.CodeUnsupportedVersion, "encryption_version %d: JSON uploads are of version 3", in.EncryptionVersion)
	}
	r := &api.Row{ID: newID(), ParentID: in.ParentID, ParentType: in.ParentType, FileNameEncrypted: string(in.FileNameEncrypted),
		ContentTypeEncrypted: string(in.ContentTypeEncrypted), SizeBytes: in.SizeBytes, WrappedFileKey: in.WrappedFileKey, EncryptionVersion: 3,
		State: api.StateLive, Epoch: in.Epoch, BlobID: "00000000000000000000000000000000"}
	return r, checkRow(r)
}

// store puts the bytes into the store and then makes them the account's: the
// object first, the row second, so that a row never points at nothing.
func (s *Server) store(c *call, u metadb.Upload, r io.Reader) (stored metadb.Stored, err error) {
	u.Attempt, u.By, u.Request = hex.EncodeToString(randomBytes(16)), c.by(), c.id
	u.StorageKey = storageKey(c.account.Vault, u.Attempt)
	admitted := u.Stored > smallBody
	if admitted {
		have, left, err := s.o.DB.Admit(c.ctx(), u)
		if err != nil {
			return stored, err
		}
		s.abandon(c.ctx(), left)
		admitted = !have
	}
	defer func() {
		if err == nil {
			return
		}
		ctx := context.WithoutCancel(c.ctx())
		if aborted := s.o.DB.Abort(ctx, u); aborted != nil {
			s.log.Error("upload not aborted; the sweep will do it", "request", c.id, "err", aborted)
		}
	}()
	if err := s.o.Blobs.Put(c.ctx(), u.StorageKey, r, u.Stored, true); err != nil {
		return stored, putError(err)
	}
	// A store that asks for no more than it needs has not seen the end, where the
	// reader says whether these were the announced bytes.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return stored, putError(err)
	}
	// From here the bytes are there: a client that goes away changes nothing.
	stored, err = s.o.DB.Commit(context.WithoutCancel(c.ctx()), u, admitted)
	if err == nil {
		s.wake(c.account.ID)
	}
	return stored, err
}

// putError: bytes that are not what was announced are the client's mistake.
func putError(err error) error {
	if errors.Is(err, blob.ErrSize) {
		return api.Errorf(api.CodeLengthMismatch, "the content is not as long as announced")
	}
	return bodyError(err)
}

// storageKey is where an attempt's bytes lie: never the same for two attempts, so
// none can be in another's way.
func storageKey(vault, attempt string) string { return "vaults/" + vault + "/" + attempt + ".bin" }

func (s *Server) uploadOf(c *call, m *api.Metadata) metadb.Upload {
	return metadb.Upload{Account: c.account.ID, Slot: m.BlobID, Blob: m.BlobID, Stored: m.StoredBytes, SHA256: m.SHA256, Release: m.Release, Row: m.Row, At: m.At}
}

func (s *Server) answerUpload(c *call, m *api.Metadata, stored metadb.Stored) {
	writeJSON(c, uploadStatus(stored), api.Uploaded{Row: stored.Row, BlobID: m.BlobID, RowError: stored.RowFail})
}

// metadata reads and checks what a device says of a blob.
func (s *Server) metadata(raw []byte) (*api.Metadata, error) {
	if len(raw) > api.MaxMetadata {
		return nil, api.Errorf(api.CodeBodyTooLarge, "metadata has at most %d bytes", api.MaxMetadata)
	}
	var m api.Metadata
	if err := api.Unmarshal(raw, &m); err != nil {
		e := api.BadJSON(err)
		e.Field = cmp.Or(e.Field, api.PartMetadata)
		return nil, e
	}
	size, ok := api.SealedSize(m.EncryptionVersion, m.SizeBytes)
	switch {
	case !api.ValidBlob(m.BlobID):
		return nil, api.BadField("blob_id", "not a blob id")
	case !api.ValidHash(m.SHA256):
		return nil, api.BadField("sha256", "not a SHA-256 in hex")
	case m.EncryptionVersion != 3 && m.EncryptionVersion != 4:
		return nil, api.Errorf(api.CodeUnsupportedVersion, "encryption_version is 3 or 4")
	case m.SizeBytes < 0:
		return nil, api.BadField("size_bytes", "negative")
	case m.At < 0:
		return nil, api.BadField("at", "negative")
	case m.SizeBytes > s.o.FileLimit || !ok:
		return nil, api.Errorf(api.CodeFileTooLarge, "a file has at most %d bytes", s.o.FileLimit)
	case m.StoredBytes != size:
		return nil, api.Errorf(api.CodeLengthMismatch, "%d bytes of plaintext are %d sealed, not %d", m.SizeBytes, size, m.StoredBytes)
	case len(m.Release) > api.MaxRelease:
		return nil, api.BadField("release", "at most %d blobs", api.MaxRelease)
	}
	for _, id := range m.Release {
		if !api.ValidBlob(id) || id == m.BlobID {
			return nil, api.BadField("release", "not a blob id: %.40q", id)
		}
	}
	return &m, uploadedRow(&m)
}

// uploadedRow checks the row that comes with a content: it is live and names that
// very content, or leaves out what it repeats.
func uploadedRow(m *api.Metadata) error {
	r := m.Row
	if r == nil {
		return nil
	}
	r.State, r.BlobID = cmp.Or(r.State, api.StateLive), cmp.Or(r.BlobID, m.BlobID)
	r.StoredBytes, r.SHA256 = cmp.Or(r.StoredBytes, m.StoredBytes), cmp.Or(r.SHA256, m.SHA256)
	if err := checkRow(r); err != nil {
		return err
	}
	switch {
	case r.State != api.StateLive:
		return api.BadField("row", "a row with its content is live")
	case r.SizeBytes != m.SizeBytes || r.EncryptionVersion != m.EncryptionVersion:
		return api.BadField("row", "not the size or version of the content")
	case r.BlobID != m.BlobID || r.StoredBytes != m.StoredBytes || r.SHA256 != m.SHA256:
		return api.BadField("row", "another content than the one it comes with")
	}
	return nil
}
