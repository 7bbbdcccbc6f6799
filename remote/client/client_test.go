package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"github.com/vaultdrive/vaultdrive/remote/server"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

const (
	testVault  = "0f000000-0000-4000-8000-000000000001"
	testDevice = "aaaaaaaa-0000-4000-8000-000000000001"
)

// world is a real server and the keys of a vault with one device.
type world struct {
	t        *testing.T
	dir      string
	http     *httptest.Server
	db       *metadb.DB
	blobs    blob.Store
	handler  atomic.Pointer[http.Handler] // what answers, for faults
	clock    atomic.Int64
	identity ed25519.PrivateKey
	device   ed25519.PrivateKey
	last     [32]byte
	seq      uint64
}

// signer puts the label in front, as a device does.
type signer struct{ key ed25519.PrivateKey }

func (s signer) Sign(m []byte) []byte {
	return ed25519.Sign(s.key, append([]byte("vaultdrive/v1/did-session\x00"), m...))
}

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newWorld(t *testing.T, o server.Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), identity: newKey(), device: newKey()}
	w.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	w.http = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*w.handler.Load()).ServeHTTP(rw, r) }))
	t.Cleanup(w.http.Close)
	w.serve(o)
	return w
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()) }

// serve starts the server on the directory, anew if it ran before.
func (w *world) serve(o server.Options) {
	w.t.Helper()
	db, err := metadb.Open(context.Background(), filepath.Join(w.dir, "meta.db"))
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, db.Close()) })
	db.SetClock(w.now)
	must(w.t, os.MkdirAll(filepath.Join(w.dir, "blobs"), 0o700))
	blobs, err := blob.OpenDir(filepath.Join(w.dir, "blobs"))
	must(w.t, err)
	o.DB, o.Blobs, o.Temp, o.Audience, o.Registration, o.Now = db, blobs, filepath.Join(w.dir, "tmp"), w.http.URL, server.RegistrationOpen, w.now
	s, err := server.New(context.Background(), o)
	must(w.t, err)
	var h http.Handler = s
	w.db, w.blobs = db, blobs
	w.handler.Store(&h)
}

// around puts a fault between client and server.
func (w *world) around(fault func(next http.Handler) http.Handler) (restore func()) {
	real := w.handler.Load()
	h := fault(*real)
	w.handler.Store(&h)
	return func() { w.handler.Store(real) }
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) did() string { return didkey.Format(w.identity.Public().(ed25519.PublicKey)) }

func (w *world) first() []byte {
	w.t.Helper()
	payload, err := json.Marshal(map[string]any{"v": 1, "vault": testVault, "did": w.did(), "seq": 1, "prev": make([]byte, 32), "epoch": 1, "cut": map[string]any{},
		"devices": []any{map[string]any{"id": testDevice, "pk": []byte(w.device.Public().(ed25519.PublicKey)), "revoked": false}}})
	must(w.t, err)
	sig := ed25519.Sign(w.identity, append([]byte("vaultdrive/v1/header\x00"), payload...))
	b, err := json.Marshal(map[string][]byte{"payload": payload, "sig": sig})
	must(w.t, err)
	return b
}

func (w *world) batch() []byte {
	vault, err := api.ParseID(testVault)
	must(w.t, err)
	device, err := api.ParseID(testDevice)
	must(w.t, err)
	w.seq++
	b := append([]byte("VDRB\x01"), 0, 0, 0)
	b = append(append(b, vault[:]...), device[:]...)
	b = binary.BigEndian.AppendUint64(b, w.seq)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, 16)
	b = append(append(b, w.last[:]...), make([]byte, 28)...)
	w.last = sha256.Sum256(b)
	return append(b, ed25519.Sign(w.device, append([]byte("vaultdrive/v1/replica-batch\x00"), w.last[:]...))...)
}

func (w *world) remote() *Remote {
	w.t.Helper()
	r, err := New(Options{Server: w.http.URL, Vault: testVault, DID: w.did(), Device: testDevice, Signer: signer{w.device}, Boot: [16]byte{7}, First: w.first(), Now: w.now})
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, r.Close()) })
	return r
}

// enabled gives a remote of a vault that has an account.
func (w *world) enabled() *Remote {
	w.t.Helper()
	r := w.remote()
	err := r.Put(w.t.Context(), syncer.MarkerKey, syncer.Marker{Vault: testVault, Remote: strings.Repeat("1", 32)}.Encode())
	if !errors.Is(err, syncer.ErrOtherBytes) {
		w.t.Fatal(err)
	}
	return r
}

func upload(content []byte, id int) syncer.Upload {
	return syncer.Upload{Blob: fmt.Sprintf("%032x", id), Size: int64(len(content)), SHA256: sha256.Sum256(content)}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestRegister(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.remote()
	_, err := r.Get(t.Context(), syncer.MarkerKey)
	wantErr(t, "marker before there is an account", err, syncer.ErrNotFound)
	caps, err := r.Probe(t.Context())
	if err != nil || !caps.CreateOnly || !caps.Login {
		t.Fatalf("%+v, %v", caps, err)
	}
	r = w.enabled()
	b, err := r.Get(t.Context(), syncer.MarkerKey)
	must(t, err)
	m, err := syncer.ParseMarker(b)
	if err != nil || m.Vault != testVault {
		t.Fatalf("%+v, %v", m, err)
	}
	must(t, r.Put(t.Context(), syncer.MarkerKey, b)) // the same again
	must(t, r.Put(t.Context(), syncer.HeaderKey(1), w.first()))
	// With the boot token alone one sees the header, and nothing else.
	stranger, err := New(Options{Server: w.http.URL, Vault: testVault, Boot: [16]byte{7}, Now: w.now})
	must(t, err)
	if got, err := stranger.Get(t.Context(), syncer.HeaderKey(1)); err != nil || !bytes.Equal(got, w.first()) {
		t.Errorf("%v", err)
	}
	if c, err := stranger.Changes(t.Context(), nil, syncer.Reconcile); err != nil || len(c.List) != 1 || c.List[0].Seq != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = stranger.Get(t.Context(), syncer.BatchKey(testDevice, 1))
	wantErr(t, "a batch without a login", err, syncer.ErrDenied)
	wrong, err := New(Options{Server: w.http.URL, Vault: testVault, Boot: [16]byte{8}, Now: w.now})
	must(t, err)
	_, err = wrong.Get(t.Context(), syncer.HeaderKey(1))
	wantErr(t, "the header with another token", err, syncer.ErrDenied)
}

func TestLogAndFeed(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	one, two := w.batch(), w.batch()
	wantErr(t, "a batch too early", r.Put(t.Context(), syncer.BatchKey(testDevice, 2), two), syncer.ErrUnavailable)
	must(t, r.Put(t.Context(), syncer.BatchKey(testDevice, 1), one))
	must(t, r.Put(t.Context(), syncer.BatchKey(testDevice, 1), one))
	c, err := r.Changes(t.Context(), nil, 0)
	must(t, err)
	var kinds []syncer.Kind
	for _, x := range c.List {
		kinds = append(kinds, x.Kind)
	}
	if len(c.List) != 2 || c.List[0].Kind != syncer.KindHeader || c.List[1] != (syncer.Change{Kind: syncer.KindBatch, Device: testDevice, Seq: 1}) {
		t.Fatalf("%v", kinds)
	}
	if c.Clock.IsZero() || c.At.IsZero() {
		t.Error("the server's clock is not told")
	}
	idle, err := r.Changes(t.Context(), c.Next, 0)
	if err != nil || len(idle.List) != 0 {
		t.Fatalf("%+v, %v", idle, err)
	}
	got := make(chan syncer.Changes, 1)
	go func() {
		c, err := w.remote().Changes(t.Context(), idle.Next, api.MaxWait)
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	must(t, r.Put(t.Context(), syncer.BatchKey(testDevice, 2), two))
	if c := <-got; len(c.List) != 1 || c.List[0].Seq != 2 {
		t.Errorf("%+v", c)
	}
	for _, text := range []string{"x", "[]", `{"v":2}`, `{"v":1,"n":-1,"log":{}}`, strings.Repeat("x", 2<<20)} {
		_, err := r.Changes(t.Context(), []byte(text), 0)
		wantErr(t, fmt.Sprintf("cursor %.20q", text), err, syncer.ErrKey)
	}
}

func TestBlobs(t *testing.T) {
	w := newWorld(t, server.Options{FileLimit: 1 << 30})
	r := w.enabled()
	content := random(300_000)
	up := upload(content, 1)
	var sent atomic.Int64
	up.Sent = func(n int64) { sent.Add(n) }
	for range 2 {
		must(t, r.PutBlob(t.Context(), up, bytes.NewReader(content)))
	}
	if sent.Load() != 600_000 {
		t.Errorf("%d bytes told", sent.Load())
	}
	read := func(off, n int64) []byte {
		t.Helper()
		body, err := r.GetBlob(t.Context(), up.Blob, off, n)
		must(t, err)
		defer body.Close()
		b, err := io.ReadAll(body)
		must(t, err)
		return b
	}
	for _, c := range [][4]int64{{0, -1, 0, 300_000}, {1000, 50, 1000, 1050}, {299_990, 100, 299_990, 300_000}, {300_000, 10, 0, 0}, {400_000, -1, 0, 0}, {5, 0, 0, 0}} {
		if got := read(c[0], c[1]); !bytes.Equal(got, content[c[2]:c[3]]) {
			t.Errorf("from %d, %d bytes: %d came", c[0], c[1], len(got))
		}
	}
	other := random(300_000)
	wantErr(t, "other bytes", r.PutBlob(t.Context(), upload(other, 1), bytes.NewReader(other)), syncer.ErrOtherBytes)
	_, err := r.GetBlob(t.Context(), upload(nil, 9).Blob, 0, -1)
	wantErr(t, "a missing blob", err, syncer.ErrNotFound)
	var ids []string
	for i := range 2 * listAbove {
		ids = append(ids, upload(nil, i).Blob)
	}
	for _, n := range []int{2, len(ids)} {
		sizes, err := r.StatBlobs(t.Context(), ids[:n])
		if err != nil || sizes[0] != syncer.Missing || sizes[1] != 300_000 {
			t.Errorf("of %d: %v, %v", n, sizes[:2], err)
		}
	}
	settled, err := r.Settle(t.Context(), syncer.Settlement{Collect: &syncer.Collection{Named: func(string) bool { return false }}})
	if err != nil || settled.Removed != 1 {
		t.Errorf("%+v, %v", settled, err)
	}
}

var errBroken = errors.New("the disk broke")

type breaking struct {
	io.ReaderAt
	at int64
}

func (b breaking) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.at {
		return 0, errBroken
	}
	return b.ReaderAt.ReadAt(p, off)
}

// An upload in parts goes on in another process with what was saved.
func TestParts(t *testing.T) {
	w := newWorld(t, server.Options{FileLimit: 1 << 30})
	r := w.enabled()
	size, _ := api.SealedSize(4, 50<<20)
	content := random(int(size))
	up := upload(content, 7)
	var state []byte
	up.Save = func(s []byte) error { state = bytes.Clone(s); return nil }
	var sent atomic.Int64
	up.Sent = func(n int64) { sent.Add(n) }
	wantErr(t, "a broken source", r.PutBlob(t.Context(), up, breaking{bytes.NewReader(content), 33 << 20}), errBroken)
	first := sent.Load()
	if state == nil || first == size {
		t.Fatalf("state %q, %d bytes sent", state, first)
	}
	up.State = state
	must(t, w.remote().PutBlob(t.Context(), up, bytes.NewReader(content)))
	if state != nil || sent.Load() != size {
		t.Errorf("%d and %d of %d bytes sent, state %q left", first, sent.Load()-first, size, state)
	}
	up.State = []byte(`{"upload":"00000000000000000000000000000000"}`)
	must(t, r.PutBlob(t.Context(), up, bytes.NewReader(content)))
	body, err := r.GetBlob(t.Context(), up.Blob, 0, -1)
	must(t, err)
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
}

// Sessions end, and are begun anew without anybody noticing, once for all who
// wait.
func TestSessionRenewal(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	_, err := r.Usage(t.Context())
	must(t, err)
	w.clock.Add((api.TokenLife + time.Second).Milliseconds())
	var logins atomic.Int64
	defer w.around(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
			if q.URL.Path == api.PathSession {
				logins.Add(1)
			}
			next.ServeHTTP(rw, q)
		})
	})()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := r.Usage(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if logins.Load() != 1 {
		t.Errorf("%d logins", logins.Load())
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, server.Options{Quota: 1000, Limits: server.Limits{Other: 5}})
	r := w.enabled()
	content := random(2000)
	err := r.PutBlob(t.Context(), upload(content, 1), bytes.NewReader(content))
	wantErr(t, "quota", err, syncer.ErrFull)
	if blob.Hint(err) == "" {
		t.Error("no hint for a full account")
	}
	large := int64(api.MaxFile + api.Overhead3 + 100_000)
	if _, ok := api.PlainSize4(large); !ok {
		t.Fatal("no such blob")
	}
	err = r.PutBlob(t.Context(), syncer.Upload{Blob: upload(nil, 2).Blob, Size: large}, io.NewSectionReader(zeros{}, 0, large))
	wantErr(t, "file limit", err, syncer.ErrTooLarge)
	for range 10 {
		_, err = r.Usage(t.Context())
	}
	wantErr(t, "too many calls", err, syncer.ErrUnavailable)
	if after := blob.RetryAfter(err); after <= 0 || after > 68*time.Second { // counted by eighths of a minute, told in whole seconds
		t.Errorf("again in %v", after)
	}
	must(t, w.db.SetAccount(t.Context(), 1, nil, nil, new(true)))
	_, err = r.Get(t.Context(), syncer.HeaderKey(1))
	wantErr(t, "a disabled account", err, syncer.ErrDenied)
}

// A server, or a proxy before it, that has no room is full and not away: the engine
// shows that, and what a person can do.
func TestServerWithoutRoom(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	for what, fault := range map[string]http.HandlerFunc{
		"a proxy": func(rw http.ResponseWriter, _ *http.Request) {
			http.Error(rw, "<html>", http.StatusInsufficientStorage)
		},
		"the server": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "60")
			rw.WriteHeader(api.CodeStorageFull.Status())
			io.WriteString(rw, `{"error":"no room","code":"storage_full","request_id":"x"}`)
		},
	} {
		restore := w.around(func(http.Handler) http.Handler { return fault })
		err := r.Put(t.Context(), syncer.HeaderKey(7), []byte("x"))
		wantErr(t, what, err, syncer.ErrFull)
		if blob.Hint(err) == "" {
			t.Errorf("%s: %v has no hint", what, err)
		}
		if what == "the server" && blob.RetryAfter(err) != time.Minute {
			t.Errorf("again in %v", blob.RetryAfter(err))
		}
		restore()
	}
}

// A refusal says what the server said, of itself and not of a store of blobs.
func TestRefusedInvitation(t *testing.T) {
	w := newWorld(t, server.Options{})
	w.around(func(http.Handler) http.Handler {
		s, err := server.New(t.Context(), server.Options{DB: w.db, Blobs: w.blobs, Temp: t.TempDir(), Audience: w.http.URL, Registration: server.RegistrationInvite, Now: w.now})
		must(t, err)
		return s
	})
	r := w.remote()
	r.o.Invite = strings.Repeat("1", 32)
	err := r.Put(t.Context(), syncer.MarkerKey, syncer.Marker{Vault: testVault, Remote: strings.Repeat("1", 32)}.Encode())
	wantErr(t, "an invitation nobody gave", err, syncer.ErrDenied)
	if text := err.Error(); !strings.Contains(text, "the server refuses: invite_invalid: the invitation is unknown, used or too old") || strings.Contains(text, "store") {
		t.Errorf("%s", text)
	}
	if hint := blob.Hint(err); !strings.Contains(hint, "--invite") {
		t.Errorf("hint %q", hint)
	}
	if !api.IsCode(err, api.CodeInviteInvalid) {
		t.Error("the code is lost")
	}
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// A connection that is cut, an answer that is none, a server that is away: each
// is "not now", and no byte is taken for the end.
func TestBrokenServer(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	content := random(1 << 20)
	up := upload(content, 1)
	must(t, r.PutBlob(t.Context(), up, bytes.NewReader(content)))
	restore := w.around(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
			rw.Header().Set("Content-Length", "1048576")
			rw.WriteHeader(200)
			rw.Write(content[:1000])
			must(t, http.NewResponseController(rw).Flush())
			panic(http.ErrAbortHandler)
		})
	})
	body, err := r.GetBlob(t.Context(), up.Blob, 0, -1)
	must(t, err)
	got, err := io.ReadAll(body)
	body.Close()
	if !errors.Is(err, syncer.ErrUnavailable) || len(got) > 1000 {
		t.Errorf("a cut transfer: %d bytes, %v", len(got), err)
	}
	restore()
	for name, fault := range map[string]http.HandlerFunc{
		"a proxy":       func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "<html>", 502) },
		"another site":  func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "<html>") },
		"endless":       func(rw http.ResponseWriter, _ *http.Request) { io.Copy(rw, io.LimitReader(rand.Reader, maxAnswer+2)) },
		"repeated keys": func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, `{"head":1,"head":2}`) },
	} {
		restore := w.around(func(http.Handler) http.Handler { return fault })
		if _, err := r.Usage(t.Context()); !errors.Is(err, syncer.ErrUnavailable) && !errors.Is(err, syncer.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		restore()
	}
	w.http.CloseClientConnections()
	w.http.Listener.Close()
	_, err = r.Usage(t.Context())
	wantErr(t, "a server that is away", err, syncer.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Usage(ctx)
	wantErr(t, "cancelled", err, context.Canceled)
}

// The token goes to the server alone.
func TestTokenStaysHome(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	_, err := r.Usage(t.Context())
	must(t, err)
	var seen atomic.Pointer[http.Header]
	elsewhere := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		h := q.Header.Clone()
		seen.Store(&h)
		io.WriteString(rw, "bytes of a bucket")
	}))
	defer elsewhere.Close()
	far := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)
	defer w.around(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) { http.Redirect(rw, q, far, http.StatusFound) })
	})()
	body, err := r.GetBlob(t.Context(), upload(nil, 1).Blob, 0, -1)
	must(t, err)
	body.Close()
	if h := seen.Load(); h == nil || h.Get("Authorization") != "" || h.Get(api.HeaderBoot) != "" {
		t.Errorf("the other place was told %v", h)
	}
}

// A server that was put back to an older state is found out.
func TestServerPutBack(t *testing.T) {
	w := newWorld(t, server.Options{})
	r := w.enabled()
	must(t, r.Put(t.Context(), syncer.BatchKey(testDevice, 1), w.batch()))
	old, err := os.ReadFile(filepath.Join(w.dir, "meta.db"))
	must(t, err)
	wal, err := os.ReadFile(filepath.Join(w.dir, "meta.db-wal"))
	must(t, err)
	second := w.batch()
	must(t, r.Put(t.Context(), syncer.BatchKey(testDevice, 2), second))
	c, err := r.Changes(t.Context(), nil, 0)
	must(t, err)
	w.dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(w.dir, "meta.db"), old, 0o600))
	must(t, os.WriteFile(filepath.Join(w.dir, "meta.db-wal"), wal, 0o600))
	w.serve(server.Options{})
	c, err = r.Changes(t.Context(), c.Next, 0)
	must(t, err)
	if len(c.Gone) != 1 || c.Gone[0] != (syncer.Change{Kind: syncer.KindBatch, Device: testDevice, Seq: 2}) {
		t.Fatalf("gone: %+v", c.Gone)
	}
	must(t, r.Put(t.Context(), syncer.BatchKey(testDevice, 2), second)) // healed
}
