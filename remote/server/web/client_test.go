package web_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// stage is a server that a test plays: it answers as it is told, not as it should.
type stage struct {
	*httptest.Server
	t    *testing.T
	node *bridge
	*vault

	mu     sync.Mutex
	answer map[string]http.HandlerFunc // by method and path
	calls  []string
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, node: startNode(t), vault: newVault(t), answer: map[string]http.HandlerFunc{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls = append(s.calls, r.Method+" "+r.URL.Path)
		h := s.answer[r.Method+" "+r.URL.Path]
		s.mu.Unlock()
		if h == nil {
			h = refuse(404, "not_found", "")
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	s.play("POST /v1/auth/challenge", says(200, fields{"nonce": make([]byte, 32), "exp": 1}))
	s.play("POST /v1/auth/session", says(201, fields{"token": "secret", "exp": int64(1) << 50, "vault": s.id.UUID()}))
	older, second := seal.NewKey(), seal.NewKey()
	seed := seal.NewKey()
	s.node.ok("connect", fields{"server": s.URL, "vault": s.id.UUID(), "seed": seed.Bytes(), "vks": [][]byte{older.Bytes(), second.Bytes(), s.vk.Bytes()}}, nil)
	return s
}

func (s *stage) play(call string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer[call] = h
}

func (s *stage) count(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func says(status int, body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // a client that went away is the test's own
	}
}

func refuse(status int, code, retry string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if retry != "" {
			w.Header().Set("Retry-After", retry)
		}
		says(status, fields{"error": "no", "code": code, "request_id": "x"})(w, r)
	}
}

// once answers the first call so, and those after it otherwise.
func once(first, then http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	done := false
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := then
		if !done {
			h, done = first, true
		}
		mu.Unlock()
		h(w, r)
	}
}

// ranges serves bytes as the server does.
func ranges(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil || to >= len(b) {
			refuse(416, "range_invalid", "")(w, r)
			return
		}
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(b[from : to+1])
	}
}

type got struct {
	Name, Type, Error string
	Content           []byte
	Progress          [][2]int
}

func attachment(id any) string { return fmt.Sprint("/api/vault/attachments/", id) }

// Both versions come whole, and the progress ends at the end.
func TestClientDownloads(t *testing.T) {
	s := newStage(t)
	for _, n := range []int{0, 1, 16384, 4<<20 - 1, 4 << 20, 4<<20 + 1, 9_000_000} {
		for _, version := range []int{seal.V3, seal.V4} {
			r, sealed := s.record(version, n, "a/b.txt", "")
			r["epoch"] = s.epoch
			s.play("GET "+attachment(r["id"]), says(200, r))
			s.play("GET "+attachment(r["id"])+"/content", ranges(sealed))
			var g got
			s.node.ok("download", fields{"row": r}, &g)
			if g.Name != "a/b.txt" || g.Type != "application/octet-stream" || !bytes.Equal(g.Content, pattern(n)) {
				t.Errorf("version %d, %d bytes: another file", version, n)
			}
			if last := g.Progress[len(g.Progress)-1]; last != [2]int{n, n} {
				t.Errorf("version %d, %d bytes: progress ends at %v", version, n, last)
			}
		}
	}
}

// A key whose epoch nobody said is looked for; one of the future says so.
func TestClientFindsEpoch(t *testing.T) {
	s := newStage(t)
	r, _ := s.record(seal.V3, 5, "a", "")
	for what, c := range map[string]struct {
		epoch any
		want  string
	}{"said": {3, ""}, "not said": {nil, ""}, "another": {2, "ErrAuth"}, "of the future": {4, "ErrEpoch"}, "none": {0, "ErrEpoch"}} {
		r["epoch"] = c.epoch
		s.play("GET "+attachment(r["id"]), says(200, r))
		if code := s.node.call("download", fields{"row": r}, nil); code != c.want {
			t.Errorf("%s: %q, want %q", what, code, c.want)
		}
	}
}

// What a server could answer instead of the file.
func TestClientRefusesAnswers(t *testing.T) {
	s := newStage(t)
	r3, _ := s.record(seal.V3, 40, "mine", "")
	r4, sealed := s.record(seal.V4, 5<<20, "mine", "")
	other3, _ := s.record(seal.V3, 40, "other", "")
	_, other4 := s.record(seal.V4, 5<<20, "other", "")
	part := func(b []byte, status, cut int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var from, to int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			w.WriteHeader(status)
			_, _ = w.Write(b[from : to+1-cut])
		}
	}
	for _, c := range []struct {
		what    string
		row     fields
		record  http.HandlerFunc
		content http.HandlerFunc
		want    string
	}{
		{"another file", r3, says(200, other3), nil, "ErrFormat"},
		{"another file under this id", r3, says(200, change(other3, "id", r3["id"])), nil, ""}, // version 3 binds nothing: devices notice it by the log
		{"another file under this id", r4, says(200, r4), part(other4, 206, 0), "ErrKeyCommit"},
		{"of another vault", r3, says(200, change(r3, "vault_id", seal.NewID().UUID())), nil, "ErrFormat"},
		{"no JSON", r3, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, nil, "SyntaxError"},
		{"deleted", r3, refuse(410, "deleted", ""), nil, "deleted"}, {"slow down", r3, refuse(429, "rate_limited", "30"), nil, "rate_limited"},
		{"elsewhere", r3, http.RedirectHandler("/healthz", 302).ServeHTTP, nil, "TypeError"},
		{"all instead of a part", r4, says(200, r4), part(sealed, 200, 0), "ErrTruncated"},
		{"a part too short", r4, says(200, r4), part(sealed, 206, 1), "ErrTruncated"},
		{"gone", r4, says(200, r4), refuse(412, "blob_gone", ""), "blob_gone"},
		{"relabelled", r4, says(200, change(r4, "encryption_version", 3)), nil, "ErrAuth"},
	} {
		c.row["epoch"] = s.epoch
		s.play("GET "+attachment(c.row["id"]), c.record)
		s.play("GET "+attachment(c.row["id"])+"/content", c.content)
		if code := s.node.call("download", fields{"row": c.row}, nil); code != c.want {
			t.Errorf("%s: %q, want %q", c.what, code, c.want)
		}
	}
}

// A session that ended is begun anew, once; a refused one is no loop.
func TestClientRenewsSession(t *testing.T) {
	s := newStage(t)
	r, _ := s.record(seal.V3, 5, "a", "")
	s.play("GET "+attachment(r["id"]), once(refuse(401, "session_invalid", ""), says(200, r)))
	s.node.ok("download", fields{"row": r}, nil)
	if n := s.count("POST /v1/auth/session"); n != 2 {
		t.Errorf("%d logins", n)
	}
	s.play("GET "+attachment(r["id"]), refuse(401, "session_invalid", ""))
	if code := s.node.call("download", fields{"row": r}, nil); code != "session_invalid" {
		t.Errorf("refused for good: %q", code)
	}
	if n := s.count("POST /v1/auth/session"); n != 3 {
		t.Errorf("%d logins", n)
	}
	s.play("DELETE /v1/auth/session", says(200, fields{}))
	s.node.ok("logout", nil, nil)
	if code := s.node.call("download", fields{"row": r}, nil); code != "ErrLocked" {
		t.Errorf("after the logout: %q", code)
	}
	if n := s.count("DELETE /v1/auth/session"); n != 1 {
		t.Errorf("%d logouts", n)
	}
}

// An upload whose connection breaks is repeated with the same key and bytes; one
// that is refused is not.
func TestClientRepeatsUpload(t *testing.T) {
	s := newStage(t)
	var mu sync.Mutex
	var keys, bodies []string
	store := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		keys, bodies = append(keys, r.Header.Get("Idempotency-Key")), append(bodies, string(b))
		n := len(keys)
		mu.Unlock()
		if n == 1 {
			panic(http.ErrAbortHandler) // the connection breaks after the body came
		}
		says(200, fields{"id": "stored"})(w, r)
	}
	s.play("POST /api/vault/attachments", store)
	arg := fields{"parent": fields{"id": seal.NewID().UUID(), "type": "note"}, "name": "a.txt", "plain": []byte("content")}
	var row struct{ ID string }
	s.node.ok("upload", arg, &row)
	if row.ID != "stored" || len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] || bodies[0] != bodies[1] {
		t.Errorf("row %q, %d attempts with keys %q", row.ID, len(keys), keys)
	}
	if clear := base64.StdEncoding.EncodeToString([]byte("content")); strings.Contains(bodies[0], clear) || strings.Contains(bodies[0], "a.txt") {
		t.Error("the body is readable")
	}
	s.play("POST /api/vault/attachments", refuse(413, "quota_exceeded", ""))
	if code := s.node.call("upload", arg, nil); code != "quota_exceeded" {
		t.Errorf("refused: %q", code)
	}
	if n := s.count("POST /api/vault/attachments"); n != 3 {
		t.Errorf("%d uploads", n)
	}
}

// The parents come page by page; those that were deleted are left out.
func TestClientListsParents(t *testing.T) {
	s := newStage(t)
	s.play("GET /api/vault/parents", func(w http.ResponseWriter, r *http.Request) {
		parent := func(id, state string) fields { return fields{"id": id, "type": "note", "state": state} }
		if r.URL.Query().Get("after") == "" {
			says(200, fields{"parents": []fields{parent("a", "live"), parent("b", "deleted")}, "next": "note/b&?"})(w, r)
			return
		}
		if after := r.URL.Query().Get("after"); after != "note/b&?" {
			t.Errorf("after %q", after)
		}
		says(200, fields{"parents": []fields{parent("c", "live")}, "next": nil})(w, r)
	})
	var list struct{ IDs []string }
	s.node.ok("parents", nil, &list)
	if fmt.Sprint(list.IDs) != "[a c]" {
		t.Errorf("%v", list.IDs)
	}
}
