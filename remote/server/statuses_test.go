package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// TestStatuses has a case for every status that the document lists for every
// route, and one without a case is a failure. What comes back is checked against
// the document where it is received.
func TestStatuses(t *testing.T) {
	onBoth(t, Options{FileLimit: 1 << 30, Limits: NoLimits()}, func(t *testing.T, w *world) {
		tight := NoLimits()
		for _, l := range []*int64{&tight.JSONUploads, &tight.RawUploads, &tight.RawPremium, &tight.Downloads, &tight.Lists, &tight.Deletes,
			&tight.BlobReads, &tight.LogReads, &tight.LogPushes, &tight.Other, &tight.Headers, &tight.Registrations} {
			*l = 1
		}
		tight.Challenges, tight.Bodies = 3, 1
		e := &statusEnv{store: &hookedStore{Store: w.blobs}}
		w.o.Blobs = e.store
		lax := w.o.Limits
		t.Cleanup(func() {
			if e.away != nil {
				must(t, e.away.Close())
			}
		})
		for _, route := range api.Routes {
			for status := range published().Paths[route.Path][strings.ToLower(route.Method)].Responses {
				code, err := strconv.Atoi(status)
				must(t, err)
				t.Run(route.Method+" "+route.Path+" "+status, func(t *testing.T) {
					w.t = t
					w.o.Limits = lax
					if code == http.StatusTooManyRequests {
						w.o.Limits = tight.withDefaults()
					}
					w.bodies, w.memory = newBodies(w.o.Limits), newMemoryRates(w.o.Now)
					e.world, e.route, e.blob = w, route, strings.Repeat("0", 32)
					e.person = w.register()
					caseOf(t, route, code)(e).want(code)
				})
			}
		}
	})
}

// statusEnv is what a case has at hand: an account of its own.
type statusEnv struct {
	*world
	*person
	route api.Route
	store *hookedStore
	blob  string     // for the path
	away  *metadb.DB // one whose server went away; nil: not yet
}

// hookedStore is a store that fails, or has something done in the middle.
type hookedStore struct {
	blob.Store
	down   atomic.Bool
	finish func() // before an upload in parts is finished
}

func (h *hookedStore) trouble() error {
	if h.down.Load() {
		return blob.ErrUnavailable
	}
	return nil
}

func (h *hookedStore) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	if err := h.trouble(); err != nil {
		return err
	}
	return h.Store.Put(ctx, key, r, size, createOnly)
}

func (h *hookedStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := h.trouble(); err != nil {
		return nil, err
	}
	return h.Store.Get(ctx, key, off, n)
}

func (h *hookedStore) Start(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	if err := h.trouble(); err != nil {
		return up, err
	}
	return h.Store.Start(ctx, up)
}

func (h *hookedStore) Part(ctx context.Context, up blob.Upload, n int, r io.Reader, size int64) (blob.Part, error) {
	if err := h.trouble(); err != nil {
		return blob.Part{}, err
	}
	return h.Store.Part(ctx, up, n, r, size)
}

func (h *hookedStore) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	if err := h.trouble(); err != nil {
		return err
	}
	if h.finish != nil && len(up.Parts) > 0 {
		h.finish()
	}
	return h.Store.Finish(ctx, up, createOnly)
}

// call sends something to the route of the case.
func (e *statusEnv) call(body any, headers ...string) *answer {
	e.world.t.Helper()
	return e.as(e.person, body, headers...)
}

func (e *statusEnv) as(p *person, body any, headers ...string) *answer {
	e.world.t.Helper()
	return p.do(e.route.Method, e.path(), body, headers...)
}

// path fills the route's path with ids of the account, most of nothing there.
func (e *statusEnv) path() string {
	path := strings.NewReplacer("{vault}", e.person.vault, "{blob}", e.blob, "{device}", e.person.device, "{seq}", "1", "{name}",
		fmt.Sprintf("%020d-%s", 1, e.person.device), "{part}", "1", "{pair}", strings.Repeat("7", 32), "{side}", "q", "{upload}", e.blob,
		"{type}", "item", "{id}", "11111111-1111-4111-8111-111111111111").Replace(e.route.Path)
	if strings.HasSuffix(path, "/attachments") && e.route.Method == "GET" {
		path += "?parent_type=item&parent_id=11111111-1111-4111-8111-111111111111"
	}
	return path
}

// broken has the body fail under the server's hands.
func (e *statusEnv) broken(path, typ string, length int64, err error) *answer {
	e.world.t.Helper()
	req := httptest.NewRequest(e.route.Method, e.http.URL+path, io.NopCloser(failingReader{err}))
	req.ContentLength = length
	req.Header.Set("Content-Type", typ)
	req.Header.Set("Authorization", "Bearer "+e.token)
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, req)
	a := &answer{t: e.world.t, what: req.Method + " " + path, status: rec.Code, header: rec.Result().Header, body: rec.Body.Bytes()}
	a.asDocumented(req)
	return a
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// parts begins an upload of three parts, of zeros.
func (e *statusEnv) parts() (m api.Metadata, st api.UploadState) { return e.partsFor() }

// partsFor is such an upload in the place of blobs.
func (e *statusEnv) partsFor(release ...string) (m api.Metadata, st api.UploadState) {
	e.world.t.Helper()
	size, _ := api.SealedSize(4, 33<<20)
	m = api.Metadata{BlobID: hex.EncodeToString(randomBytes(16)), StoredBytes: size, SHA256: zerosHash(size), SizeBytes: 33 << 20, EncryptionVersion: 4, Release: release}
	e.do("POST", api.PathVault(e.person.vault)+"/uploads", m).want(201).into(&st)
	e.blob = st.Upload
	return m, st
}

func zerosHash(n int64) string {
	h := sha256.New()
	_, _ = io.CopyN(h, zeros{}, n) // neither side fails
	return hex.EncodeToString(h.Sum(nil))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// sendParts sends all of an upload.
func (e *statusEnv) sendParts(m api.Metadata, st api.UploadState) {
	e.world.t.Helper()
	for n, left := 1, m.StoredBytes; left > 0; n++ {
		size := min(left, st.PartSize)
		e.do("PUT", api.PathPart(e.person.vault, st.Upload, n), make([]byte, size)).want(204)
		left -= size
	}
}

// rival is another attempt at the same blob.
func (e *statusEnv) rival(m api.Metadata) metadb.Upload {
	account, err := e.o.DB.AccountByVault(context.Background(), e.person.vault)
	must(e.world.t, err)
	key := hex.EncodeToString(randomBytes(16))
	return metadb.Upload{Account: account.ID, Slot: m.BlobID, Attempt: key, Blob: m.BlobID, StorageKey: storageKey(e.person.vault, key),
		Stored: m.StoredBytes, SHA256: m.SHA256, By: e.person.device}
}

// row stores a small attachment.
func (e *statusEnv) row() api.Row {
	e.world.t.Helper()
	row := e.upload("item", e.parent("item"), randomBytes(100))
	e.blob = row.BlobID
	return row
}

// lose deletes the objects of the store.
func (e *statusEnv) lose() {
	e.world.t.Helper()
	for attrs, err := range e.blobs.List(context.Background(), "vaults/"+e.person.vault, "") {
		must(e.world.t, err)
		must(e.world.t, e.blobs.Delete(context.Background(), attrs.Key))
	}
}

// whileDown asks while the store does not answer.
func (e *statusEnv) whileDown(ask func() *answer) *answer {
	e.store.down.Store(true)
	defer e.store.down.Store(false)
	return ask()
}

// withoutDatabase asks while the database does not answer.
func (e *statusEnv) withoutDatabase(ask func() *answer) *answer {
	e.world.t.Helper()
	if e.away == nil {
		address, leave := metatest.Away(e.world.t)
		db, err := metadb.Open(context.Background(), address)
		must(e.world.t, err)
		leave()
		e.away = db
	}
	kept := e.o.DB
	e.o.DB = e.away
	defer func() { e.o.DB = kept }()
	return ask()
}

// until asks again until the status comes.
func (e *statusEnv) until(status int, ask func() *answer) *answer {
	e.world.t.Helper()
	a := ask()
	for range 5 {
		if a.status == status {
			break
		}
		a = ask()
	}
	return a
}

// disabled is a session of an account that was disabled in the same moment.
func (e *statusEnv) disabled() *person {
	yes := true
	account := e.person.set(nil, nil, &yes)
	p := *e.person
	token := randomBytes(api.TokenSize)
	sum := sha256.Sum256(token)
	p.token = tokenText(token)
	must(e.world.t, e.o.DB.AddSession(context.Background(), hex.EncodeToString(sum[:]),
		metadb.Session{Account: account.ID, Device: e.person.device, Expires: e.o.Now().UnixMilli() + 60_000}))
	return &p
}

// newPerson is one that is not registered.
func (w *world) newPerson() *person {
	return &person{w: w, vault: newID(), identity: newKey(), device: newID(), key: newKey(), boot: randomBytes(16)}
}

func (p *person) registration() api.Register {
	sum := sha256.Sum256(p.boot)
	p.headers = nil
	return api.Register{Header: p.header(nil), Boot: hex.EncodeToString(sum[:])}
}

func (p *person) challenge() api.AskChallenge {
	return api.AskChallenge{DID: p.did(), Device: p.device}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// errSlow is what a read gives whose deadline has passed.
var errSlow = os.ErrDeadlineExceeded

func spaces(n int) string { return string(bytes.Repeat([]byte(" "), n)) }
