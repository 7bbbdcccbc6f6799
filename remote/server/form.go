package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"mime/multipart"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// maxFormHead bounds what stands before the content: mime/multipart would take
// megabytes of header lines.
const maxFormHead = api.MaxMetadata + 16<<10

// validBoundary: RFC 2046 section 5.1.1. Any other has no end that could be found.
func validBoundary(b string) bool {
	const marks = "'()+_,-./:=? "
	bad := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(marks, r)
	}
	return len(b) >= 1 && len(b) <= 70 && b[len(b)-1] != ' ' && strings.IndexFunc(b, bad) < 0
}

// uploadMultipart is a device's: metadata, then the raw content.
func (s *Server) uploadMultipart(c *call, boundary string) error {
	head := &headReader{r: c.body(api.MaxWhole + 2*api.MaxMetadata), left: maxFormHead}
	form := multipart.NewReader(head, boundary)
	part, err := form.NextRawPart()
	if err != nil || part.FormName() != api.PartMetadata {
		return cmp.Or(head.wrong(err), bad("the first part is %s", api.PartMetadata))
	}
	raw, err := io.ReadAll(io.LimitReader(part, api.MaxMetadata+1))
	if err != nil {
		return head.wrong(err)
	}
	m, err := s.metadata(raw)
	if err != nil {
		return err
	}
	if m.StoredBytes > api.MaxWhole {
		return api.Errorf(api.CodeBodyTooLarge, "above %d bytes an upload has parts", api.MaxWhole)
	}
	part, err = form.NextRawPart()
	if err != nil || part.FormName() != api.PartContent {
		return cmp.Or(head.wrong(err), bad("the second part is %s", api.PartContent))
	}
	head.done = true
	r := &checkedReader{head: head, r: part, left: m.StoredBytes, want: m.SHA256, hash: sha256.New()}
	stored, err := s.store(c, s.uploadOf(c, m), r)
	if err != nil {
		return err
	}
	s.answerUpload(c, m, stored)
	return nil
}

// headReader gives at most left bytes until it is done. It keeps what went wrong,
// which the parser of the form may forget.
type headReader struct {
	r    io.Reader
	left int64
	done bool
	err  error
}

func (h *headReader) Read(b []byte) (int, error) {
	if !h.done && h.left <= 0 {
		h.err = api.Errorf(api.CodeBodyTooLarge, "more than %d bytes before the content", maxFormHead)
		return 0, h.err
	}
	if !h.done {
		b = b[:min(int64(len(b)), h.left)]
	}
	n, err := h.r.Read(b)
	h.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		h.err = err
	}
	return n, err
}

// wrong: what the parser of forms does not like, the client has sent.
func (h *headReader) wrong(err error) error {
	var e *api.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e), errors.As(h.err, &e):
		return e
	}
	return bad("the form is not well-formed, or ended early")
}

// checkedReader gives exactly the announced bytes, or an error in place of the
// end: what the store has taken then, it forgets.
type checkedReader struct {
	head *headReader
	r    io.Reader
	left int64
	want string
	hash hash.Hash
}

func (k *checkedReader) Read(b []byte) (int, error) {
	n, err := k.r.Read(b)
	k.hash.Write(b[:n])
	k.left -= int64(n)
	switch {
	case k.left < 0:
		return 0, api.Errorf(api.CodeLengthMismatch, "the content is longer than announced")
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, k.head.wrong(err)
	case k.left > 0:
		return 0, api.Errorf(api.CodeLengthMismatch, "the content is %d bytes shorter than announced", k.left)
	case hex.EncodeToString(k.hash.Sum(nil)) != k.want:
		return 0, api.Errorf(api.CodeHashMismatch, "the content has another SHA-256 than announced")
	}
	return n, err
}
