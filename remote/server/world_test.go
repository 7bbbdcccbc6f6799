package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// world is a real server over HTTP, with a clock that stands.
type world struct {
	*Server
	t     testing.TB
	http  *httptest.Server
	blobs *blob.Dir
	dir   string
	logs  *lockedBuffer
	clock atomic.Int64

	client *http.Client
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// onBoth runs a test with SQLite and with PostgreSQL.
func onBoth(t *testing.T, o Options, run func(t *testing.T, w *world)) {
	t.Run("sqlite", func(t *testing.T) { run(t, newWorld(t, filepath.Join(t.TempDir(), "meta.db"), o)) })
	t.Run("postgres", func(t *testing.T) { run(t, newWorld(t, metatest.Postgres(t), o)) })
}

func newWorld(t testing.TB, database string, o Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), logs: &lockedBuffer{}, client: http.DefaultClient}
	w.serve(t, database, o)
	return w
}

// serve starts the server of a world.
func (w *world) serve(t testing.TB, database string, o Options) {
	t.Helper()
	w.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	o.Now = func() time.Time { return time.UnixMilli(w.clock.Load()) }
	db, err := metadb.Open(context.Background(), database)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	db.SetClock(o.Now)
	must(t, os.Mkdir(filepath.Join(w.dir, "blobs"), 0o700))
	w.blobs, err = blob.OpenDir(filepath.Join(w.dir, "blobs"))
	must(t, err)
	o.DB, o.Blobs, o.Temp = db, w.blobs, filepath.Join(w.dir, "tmp")
	o.Log = slog.New(slog.NewJSONHandler(w.logs, nil))
	if o.Registration == "" {
		o.Registration = RegistrationOpen
	}
	if w.http == nil {
		w.http = httptest.NewUnstartedServer(nil)
	}
	o.Audience = "http://" + w.http.Listener.Addr().String()
	w.Server, err = New(context.Background(), o)
	must(t, err)
	w.http.Config = w.HTTP()
	w.http.Start()
	t.Cleanup(w.http.Close)
}

// beside gives another process on the same database and store.
func (w *world) beside() *world {
	w.t.Helper()
	o := w.o
	o.Temp += "2"
	second := &world{t: w.t, dir: w.dir, logs: w.logs, blobs: w.blobs, client: w.client}
	second.clock.Store(w.clock.Load())
	var s *Server
	second.http = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { s.ServeHTTP(rw, r) }))
	w.t.Cleanup(second.http.Close)
	s, err := New(context.Background(), o)
	must(w.t, err)
	second.Server = s
	return second
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()) }

func (w *world) pass(d time.Duration) { w.clock.Add(d.Milliseconds()) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// person is a vault with one device, as seen from the outside.
type person struct {
	w        *world
	vault    string
	identity ed25519.PrivateKey
	device   string
	key      ed25519.PrivateKey
	boot     []byte
	headers  []*api.ClearHeader
	batches  []*api.ClearBatch
	token    string
}

func newKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(randomBytes(32)) }

// register makes a vault, its account, and logs its device in.
func (w *world) register() *person {
	w.t.Helper()
	p := &person{w: w, vault: newID(), identity: newKey(), device: newID(), key: newKey(), boot: randomBytes(16)}
	header := p.header(nil)
	sum := sha256.Sum256(p.boot)
	res := p.do("POST", api.PathVaults, api.Register{Header: header, Boot: hex.EncodeToString(sum[:])})
	res.want(http.StatusCreated)
	p.login()
	return p
}

func (p *person) did() string { return didkey.Format(p.identity.Public().(ed25519.PublicKey)) }

// header makes the next header; change edits its fields.
func (p *person) header(change func(map[string]any)) json.RawMessage {
	p.w.t.Helper()
	var prev [32]byte
	if n := len(p.headers); n > 0 {
		prev = p.headers[n-1].Hash
	}
	fields := map[string]any{"v": 1, "vault": p.vault, "did": p.did(), "seq": len(p.headers) + 1, "prev": prev[:], "epoch": 1, "cut": map[string]any{},
		"devices": []any{map[string]any{"id": p.device, "pk": []byte(p.key.Public().(ed25519.PublicKey)), "revoked": false}}}
	if change != nil {
		change(fields)
	}
	payload, err := json.Marshal(fields)
	must(p.w.t, err)
	sig := ed25519.Sign(p.identity, append([]byte("vaultdrive/v1/header\x00"), payload...))
	body, err := json.Marshal(map[string]any{"payload": payload, "sig": sig})
	must(p.w.t, err)
	h, err := api.ParseHeader(body)
	must(p.w.t, err)
	p.headers = append(p.headers, h)
	return body
}

// batch makes the next batch of the device.
func (p *person) batch() []byte {
	p.w.t.Helper()
	var prev [32]byte
	if n := len(p.batches); n > 0 {
		prev = p.batches[n-1].Hash
	}
	b := p.frame(0, uint64(len(p.batches)+1), prev)
	parsed, err := api.ParseBatch(b)
	must(p.w.t, err)
	p.batches = append(p.batches, parsed)
	return b
}

func (p *person) frame(flags byte, seq uint64, prev [32]byte) []byte {
	vault, err := api.ParseID(p.vault)
	must(p.w.t, err)
	device, err := api.ParseID(p.device)
	must(p.w.t, err)
	b := append([]byte("VDRB\x01"), flags, 0, 0)
	b = append(append(b, vault[:]...), device[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, 100)
	b = append(append(b, prev[:]...), randomBytes(112)...)
	hash := sha256.Sum256(b)
	return append(b, ed25519.Sign(p.key, append([]byte("vaultdrive/v1/replica-batch\x00"), hash[:]...))...)
}

// proof signs a nonce.
func (p *person) proof(nonce string, device string, key ed25519.PrivateKey, audience string) api.Login {
	now := p.w.clock.Load()
	in := api.Login{DID: p.did(), Device: device, Nonce: nonce, IAT: now, Exp: now + 60_000}
	raw, err := base64.StdEncoding.DecodeString(nonce)
	must(p.w.t, err)
	id, err := api.ParseID(device)
	must(p.w.t, err)
	msg := (&api.LoginProof{Audience: audience, DID: in.DID, Device: id, Nonce: [32]byte(raw), IssuedAt: in.IAT, Expires: in.Exp}).Message()
	in.Sig = base64.StdEncoding.EncodeToString(ed25519.Sign(key, msg))
	return in
}

func (p *person) nonce(device string) string {
	p.w.t.Helper()
	var c api.Challenge
	p.do("POST", api.PathChallenge, api.AskChallenge{DID: p.did(), Device: device}).want(http.StatusOK).into(&c)
	return c.Nonce
}

func (p *person) login() {
	p.w.t.Helper()
	var s api.Session
	p.do("POST", api.PathSession, p.proof(p.nonce(p.device), p.device, p.key, p.w.http.URL)).want(http.StatusCreated).into(&s)
	p.token = s.Token
}

// page gives the same person logged in as a page, with the identity.
func (p *person) page() *person {
	p.w.t.Helper()
	q := *p
	var s api.Session
	q.do("POST", api.PathSession, p.proof(p.nonce(api.ZeroID), api.ZeroID, p.identity, p.w.http.URL)).want(http.StatusCreated).into(&s)
	q.token = s.Token
	return &q
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// do sends a value as JSON, or bytes and readers as they are.
func (p *person) do(method, path string, body any, headers ...string) *answer {
	p.w.t.Helper()
	return p.w.send(p.request(method, path, body, headers...))
}

func (p *person) request(method, path string, body any, headers ...string) *http.Request {
	p.w.t.Helper()
	var r io.Reader
	typ := api.TypeJSON
	switch b := body.(type) {
	case nil:
	case []byte:
		r, typ = bytes.NewReader(b), api.TypeBlob
	case io.Reader:
		r, typ = b, api.TypeBlob
	case string:
		r = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		must(p.w.t, err)
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, p.w.http.URL+path, r)
	must(p.w.t, err)
	if r != nil {
		req.Header.Set("Content-Type", typ)
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func (w *world) send(req *http.Request) *answer {
	w.t.Helper()
	a, err := w.try(req)
	must(w.t, err)
	a.asDocumented(req)
	return a
}

// try is send to a server that may end under it.
func (w *world) try(req *http.Request) (*answer, error) {
	res, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return &answer{t: w.t, what: req.Method + " " + req.URL.Path, status: res.StatusCode, header: res.Header, body: b}, err
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d %.300s, want %d", a.what, a.status, a.body, status)
	}
	return a
}

// code checks a refusal: status, code, and the id that the log has.
func (a *answer) code(code api.Code) *api.Error {
	a.t.Helper()
	var e api.Error
	if err := json.Unmarshal(a.body, &e); err != nil || e.Code != code || a.status != code.Status() {
		a.t.Fatalf("%s: %d %.300s, want %d %s", a.what, a.status, a.body, code.Status(), code)
	}
	if e.RequestID == "" || e.RequestID != a.header.Get(api.HeaderRequest) || e.Text == "" {
		a.t.Errorf("%s: %+v under request %q", a.what, e, a.header.Get(api.HeaderRequest))
	}
	return &e
}

func (a *answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: %.300s: %v", a.what, a.body, err)
	}
}

// parent makes one, of a type.
func (p *person) parent(typ string) string {
	p.w.t.Helper()
	id := newID()
	p.do("PUT", api.PathParent(typ, id), api.PutParent{TitleEncrypted: "title", Epoch: 1}).want(http.StatusCreated)
	return id
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func sealedText() string {
	return fmt.Sprintf(`{"iv":"%s","ciphertext":"%s"}`, b64(randomBytes(12)), b64(randomBytes(24)))
}

func wrappedKey() *api.WrappedKey {
	return &api.WrappedKey{IV: b64(randomBytes(12)), Ciphertext: b64(randomBytes(48))}
}

// uploadBody is the seed's, for content sealed as version 3.
func uploadBody(typ, parent string, content []byte) map[string]any {
	return map[string]any{"parent_id": parent, "parent_type": typ, "file_name_encrypted": sealedText(), "content_type_encrypted": sealedText(),
		"size_bytes": len(content) - 28, "wrapped_file_key": wrappedKey(), "encryption_version": 3, "encrypted_content": b64(content)}
}

func (p *person) upload(typ, parent string, content []byte) api.Row {
	p.w.t.Helper()
	var row api.Row
	p.do("POST", api.PathAttachments, uploadBody(typ, parent, content)).want(http.StatusCreated).into(&row)
	return row
}

// form is a device's upload.
func (p *person) form(m api.Metadata, content []byte) *answer {
	p.w.t.Helper()
	body, typ := formBody(m, content)
	return p.do("POST", api.PathAttachments, body, "Content-Type", typ)
}

func formBody(m api.Metadata, content []byte) (body []byte, typ string) {
	const boundary = "xxBOUNDARYxx"
	var b bytes.Buffer
	fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n%s\r\n", boundary, mustJSON(m))
	fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"content\"; filename=\"b\"\r\nContent-Type: application/octet-stream\r\n\r\n", boundary)
	b.Write(content)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes(), "multipart/form-data; boundary=" + boundary
}

// metadataOf describes content as version 3, without a row.
func metadataOf(content []byte) api.Metadata {
	sum := sha256.Sum256(content)
	return api.Metadata{BlobID: hex.EncodeToString(randomBytes(16)), StoredBytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:]),
		SizeBytes: int64(len(content)) - 28, EncryptionVersion: 3}
}

// objects counts what lies in the store.
func (w *world) objects() (n int) {
	w.t.Helper()
	for _, err := range w.blobs.List(context.Background(), "", "") {
		must(w.t, err)
		n++
	}
	return n
}

// onDisk is how many bytes lie in the directory of the store, whatever they are.
func (w *world) onDisk() (size int64) {
	w.t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Join(w.dir, "blobs"))
	must(w.t, err)
	must(w.t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	}))
	return size
}

// files counts the files in the directory of the store.
func (w *world) files() (n int64) {
	w.t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Join(w.dir, "blobs"))
	must(w.t, err)
	must(w.t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	return n
}

// tls is a certificate for loopback.
func (w *world) tls() tls.Certificate {
	w.t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0]
}
