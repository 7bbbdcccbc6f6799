package server

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// canary stands in everything that a random client makes up.
const canary = "CANARY-8d1c"

// TestRandomRequests sends what nobody should: whatever it is, the answer is a
// documented one, the log repeats nothing of it, another's account stays as it
// is, and the books are right at the end.
func TestRandomRequests(t *testing.T) {
	for name, address := range map[string]func() string{
		"sqlite":   func() string { return filepath.Join(t.TempDir(), "meta.db") },
		"postgres": func() string { return metatest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			rounds := 1500
			if testing.Short() {
				rounds = 200
			}
			at := address()
			w := newWorld(t, at, Options{FileLimit: 1 << 30, Limits: NoLimits()})
			g := newStranger(w, rand.New(rand.NewPCG(1, uint64(len(name)))))
			before := g.other.used() + string(mustJSON(w.state(g.other)))
			for range rounds {
				req := g.request()
				if req == nil {
					continue
				}
				a, err := w.try(req)
				if err != nil {
					t.Fatalf("%s %s %q: %v", req.Method, req.URL, req.Header, err)
				}
				a.t = t
				a.asDocumented(req)
				if t.Failed() {
					t.Fatalf("%s %s %q", req.Method, req.URL, req.Header)
				}
				g.relogin(a)
			}
			g.other.login()
			if after := g.other.used() + string(mustJSON(w.state(g.other))); before != after {
				t.Errorf("another's account changed:\n%s\n%s", before, after)
			}
			for _, secret := range append(g.secrets, canary, "\\u0000") {
				if strings.Contains(w.logs.String(), secret) {
					t.Errorf("%q is in the log", secret)
				}
			}
			w.settled(at)
			if name == "sqlite" {
				tokensAtRest(t, w, at, g.secrets)
			}
		})
	}
}

// settled sweeps, and compares database and store.
func (w *world) settled(address string) {
	w.t.Helper()
	w.pass(orphanAge * 20) // the objects' times are the real clock's
	w.Sweep(context.Background())
	w.sweepOrphans(context.Background())
	w.sweepStore(context.Background())
	if logs := w.logs.String(); strings.Contains(logs, `"level":"ERROR"`) {
		for line := range strings.Lines(logs) {
			if strings.Contains(line, `"level":"ERROR"`) {
				w.t.Errorf("%s", line)
			}
		}
	}
	keys := metatest.Books(w.t, address)
	for attrs, err := range w.blobs.List(context.Background(), "", "") {
		must(w.t, err)
		if size, ok := keys[attrs.Key]; !ok || size != attrs.Size {
			w.t.Errorf("object %s of %d bytes is no blob's (%d)", attrs.Key, attrs.Size, size)
		}
		delete(keys, attrs.Key)
	}
	for key := range keys {
		w.t.Errorf("no object %s", key)
	}
	var named int64
	for _, err := range w.blobs.List(context.Background(), "", "") {
		must(w.t, err)
		named++
	}
	if stray := w.files() - named; stray != 0 {
		w.t.Errorf("%d files in the store are no objects", stray)
	}
}

// tokensAtRest: the database has no token as it is.
func tokensAtRest(t *testing.T, w *world, database string, secrets []string) {
	t.Helper()
	must(t, w.o.DB.Ping(context.Background()))
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(database + suffix)
		must(t, err)
		for _, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%q is in the database", secret)
			}
		}
	}
}

// stranger makes up requests for an account, which may be of anything.
type stranger struct {
	w          *world
	r          *rand.Rand
	own, other *person
	page       *person
	rows       []api.Row
	secrets    []string
	values     []string
}

func newStranger(w *world, r *rand.Rand) *stranger {
	g := &stranger{w: w, r: r, own: w.register(), other: w.register()}
	g.page = g.own.page()
	for _, p := range []*person{g.own, g.other} {
		for _, typ := range api.ParentTypes {
			row := p.upload(typ, p.parent(typ), randomBytes(100))
			g.rows = append(g.rows, row)
			g.values = append(g.values, row.ID, row.ParentID, row.BlobID)
		}
		p.do("PUT", api.PathBatch(p.vault, p.device, 1), p.batch()).want(201)
		g.values = append(g.values, p.vault, p.device, p.did(), fmt.Sprintf("%020d-%s", 1, p.device))
		g.secrets = append(g.secrets, p.token, fmt.Sprintf("%x", p.boot))
	}
	g.secrets = append(g.secrets, g.page.token)
	g.values = append(g.values, "", "0", "1", "2", "-1", "m", "q", "a", "item", "note", "\x00", "a\x00b", "\xff\xfe", "../../x", "..%2f", "é", "e\u0301", "%00", "%", ";", "'", `"`,
		"NaN", "1e99", "0x10", "+1", " 1", "01", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616",
		strings.Repeat("0", 32), strings.Repeat("f", 64), strings.Repeat("A", 9000), canary, canary+"\n\r\x00", api.ZeroID, strings.ToUpper(newID()), "password/"+newID())
	return g
}

func (g *stranger) one() string { return g.values[g.r.IntN(len(g.values))] }

func (g *stranger) chance(n int) bool { return g.r.IntN(n) == 0 }

// relogin takes up a session that a request has ended.
func (g *stranger) relogin(a *answer) {
	if a.status == http.StatusNoContent && strings.HasSuffix(a.what, api.PathSession) || a.status == http.StatusUnauthorized && g.chance(10) {
		g.own.login()
		g.page = g.own.page()
		g.secrets = append(g.secrets, g.own.token, g.page.token)
	}
}

// request makes one up; nil if HTTP itself would not carry it.
func (g *stranger) request() *http.Request {
	route := api.Routes[g.r.IntN(len(api.Routes))]
	method := route.Method
	if g.chance(40) {
		method = []string{"PATCH", "HEAD", "OPTIONS", "TRACE", canary, "get"}[g.r.IntN(6)]
	}
	path := g.path(route)
	if query := g.query(); query != "" {
		path += "?" + query
	}
	body, typ := g.body(route)
	req, err := http.NewRequest(method, g.w.http.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil
	}
	req.Header.Set("Content-Type", typ)
	switch g.r.IntN(12) {
	case 0:
	case 1:
		req.Header.Set("Authorization", "Bearer "+g.page.token)
	case 2:
		req.Header.Set("Authorization", "Bearer "+sendable(g.one()))
	case 3:
		req.Header.Set(api.HeaderBoot, fmt.Sprintf("%x", g.own.boot))
	default:
		req.Header.Set("Authorization", "Bearer "+g.own.token)
	}
	for _, name := range []string{"Range", "If-None-Match", "If-Range", api.HeaderIdempotency, api.HeaderBoot, "X-Forwarded-For", "Accept-Encoding", "Cookie", "User-Agent"} {
		if g.chance(8) {
			value := g.one()
			if name == "Range" && g.chance(2) {
				value = fmt.Sprintf("bytes=%d-%s", g.r.IntN(200), g.one())
			}
			req.Header.Set(name, sendable(value))
		}
	}
	if g.chance(15) {
		req.ContentLength = -1 // chunked
	}
	return req
}

// sendable leaves out what no client of HTTP sends in a header.
func sendable(value string) string {
	return strings.NewReplacer("\r", ".", "\n", ".", "\x00", ".").Replace(value)
}

// path fills the route's path with what fits, or with anything.
func (g *stranger) path(route api.Route) string {
	parts := strings.Split(route.Path, "/")
	for i, part := range parts {
		if !strings.HasPrefix(part, "{") {
			continue
		}
		fits := map[string]string{"{vault}": g.own.vault, "{device}": g.own.device, "{id}": g.rows[g.r.IntN(len(g.rows))].ID, "{type}": "item",
			"{blob}": g.rows[g.r.IntN(len(g.rows))].BlobID, "{seq}": "1", "{side}": "q", "{pair}": strings.Repeat("7", 32)}[part]
		if fits == "" || g.chance(5) {
			fits = g.one()
		}
		parts[i] = url.PathEscape(fits)
	}
	return strings.Join(parts, "/")
}

func (g *stranger) query() string {
	q := url.Values{}
	for _, name := range []string{"after", "limit", "at", "parent_id", "parent_type", canary} {
		if g.chance(3) {
			q.Set(name, g.one())
		}
	}
	if g.chance(2) {
		row := g.rows[g.r.IntN(len(g.rows))]
		q.Set("parent_id", row.ParentID)
		q.Set("parent_type", row.ParentType)
	}
	return q.Encode()
}
