package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// rawly sends bytes on a connection of its own and gives all that comes back until
// the server ends it. half says that the client has nothing more to say.
func (w *world) rawly(text string, half bool) string {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.http.URL, "http://"))
	must(w.t, err)
	defer conn.Close()
	must(w.t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
	go func() {
		_, _ = io.WriteString(conn, text) // the server may have closed
		if half {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	b, err := io.ReadAll(conn)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		w.t.Errorf("the server keeps the connection of %.60q", text)
	}
	return string(b)
}

// TestHostileHTTP: what is no good HTTP is refused, once, and nothing that hides in
// it is taken for a request.
func TestHostileHTTP(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Limits: NoLimits()})
	p := w.register()
	auth := "Authorization: Bearer " + p.token + "\r\n"
	batch := func(headers, body string) string {
		return "PUT " + api.PathBatch(p.vault, p.device, 1) + " HTTP/1.1\r\nHost: x\r\n" + auth + headers + "\r\n" + body
	}
	smuggled := "DELETE " + api.PathSession + " HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n"
	for name, c := range map[string]struct {
		text   string
		status string // of the first answer
		count  int    // answers
	}{
		"no HTTP":                  {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400", 1},
		"HTTP/0.9":                 {"GET /healthz\r\n\r\n", "400", 1},
		"future version":           {"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", "505", 1},
		"no host":                  {"GET /healthz HTTP/1.1\r\n\r\n", "400", 1},
		"two hosts":                {"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400", 1},
		"huge header":              {"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431", 1},
		"many headers":             {"GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n", "431", 1},
		"huge line":                {"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431", 1},
		"space before colon":       {batch("Content-Length : 5\r\n", "xxxxx"), "400", 1},
		"folded header":            {batch("X: a\r\n b\r\nContent-Length: x\r\n", ""), "400", 1},
		"two lengths":              {batch("Content-Length: 5\r\nContent-Length: 6\r\n", "xxxxx"+smuggled), "400", 1},
		"negative length":          {batch("Content-Length: -1\r\n", ""), "400", 1},
		"signed length":            {batch("Content-Length: +5\r\n", "xxxxx"), "400", 1},
		"huge length":              {batch("Content-Length: 99999999999999999999\r\n", "xxxxx"), "400", 1},
		"short body":               {batch("Content-Length: 500\r\n", "xxxxx"), "400", 1},
		"longer than the limit":    {batch(fmt.Sprintf("Content-Length: %d\r\n", api.MaxFrame+1), "xxxxx"), "413", 1},
		"unknown coding":           {batch("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501", 1},
		"strange coding":           {batch("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "501", 1},
		"chunk size of letters":    {batch("Transfer-Encoding: chunked\r\n", "zz\r\nxx\r\n0\r\n\r\n"+smuggled), "400", 1},
		"huge chunk size":          {batch("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFFF\r\nxx"), "400", 1},
		"long chunk extension":     {batch("Transfer-Encoding: chunked\r\n", "1;"+strings.Repeat("x", 1<<20)+"\r\nx\r\n0\r\n\r\n"), "400", 1},
		"no end of chunk":          {batch("Transfer-Encoding: chunked\r\n", "1\r\nxxxxx"+smuggled), "400", 1},
		"chunks without end":       {batch("Transfer-Encoding: chunked\r\n", "5\r\nxxxxx\r\n"), "400", 1},
		"length and chunked":       {batch("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), "422", 1},
		"upload of unread body":    {"POST " + api.PathAttachments + " HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: text/plain\r\nContent-Length: 2000000\r\n\r\n" + smuggled, "415", 1},
		"without login":            {"POST " + api.PathAttachments + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + smuggled, "401", 1},
		"expects, and is too long": {"POST " + api.PathAttachments + " HTTP/1.1\r\nHost: x\r\n" + auth + "Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 99000000\r\n\r\n", "413", 1},
		"options of everything":    {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", 1},
		"tunnel":                   {"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "404", 1},
		"address of another":       {"GET http://example.com/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", 1},
		"dots":                     {"GET /v1/../healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", 1},
		"two slashes":              {"GET //healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", 1},
		"bad escape":               {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400", 1},
		"two at once":              {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200", 2},
	} {
		got := w.rawly(c.text, true)
		count := strings.Count(got, "HTTP/1.1 ")
		if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) || count != c.count {
			t.Errorf("%s: %d answers, want %d: %.300q", name, count, c.count, got)
		}
		if a := p.do("GET", api.PathUsage, nil); a.status != 200 {
			t.Fatalf("%s: the hidden request was carried out", name)
		}
	}
	if w.bodies.all != 0 || w.held.Load() != 0 {
		t.Errorf("%d places, %d bytes are not given back", w.bodies.all, w.held.Load())
	}
}

// TestHTTP2: the same server behind TLS speaks it, with the same bounds.
func TestHTTP2(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Limits: NoLimits()})
	p := w.register()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := w.HTTP()
	cert := w.tls()
	go func() {
		_ = h.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}))
	}()
	defer h.Close()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	near := &world{t: t, client: &http.Client{Transport: transport}, http: &httptest.Server{URL: "https://" + l.Addr().String()}}
	q := *p
	q.w = near
	req := q.request("GET", api.PathUsage, nil)
	res, err := near.client.Do(req)
	must(t, err)
	res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Fatalf("HTTP/%d", res.ProtoMajor)
	}
	row := q.upload("item", q.parent("item"), randomBytes(1<<20))
	if a := q.do("GET", api.PathContent(row.ID), nil, "Range", "bytes=5-9").want(206); len(a.body) != 5 {
		t.Errorf("%d bytes", len(a.body))
	}
	q.do("POST", api.PathAttachments, "{}", "Content-Type", "text/plain").code(api.CodeUnsupportedMedia)
	q.do("PUT", api.PathBatch(p.vault, p.device, 1), make([]byte, api.MaxFrame+1)).code(api.CodeBodyTooLarge)
	req = q.request("GET", api.PathUsage, nil, "X", strings.Repeat("x", 64<<10))
	if res, err := near.client.Do(req); err == nil {
		if res.Body.Close(); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a huge header: %d", res.StatusCode)
		}
	}
}

// TestMemoryOfHostileBodies: short bodies that would unfold to much, and many at
// once, leave the server below a bound of memory.
func TestMemoryOfHostileBodies(t *testing.T) {
	onChildren(t, NoLimits(), func(t *testing.T, c *child) {
		p := c.register()
		p.parent("item")
		before := c.peak()
		rows := api.PathVault(p.vault) + "/rows"
		deep := strings.Repeat("[", 2<<20) + strings.Repeat("]", 2<<20)
		keys := new(bytes.Buffer)
		for i := 0; keys.Len() < 4<<20-100; i++ {
			fmt.Fprintf(keys, `,"k%x":0`, i)
		}
		form := "--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n" + strings.Repeat("X: y\r\n", 1_500_000)
		for name, b := range map[string]struct {
			method, path, body string
			headers            []string
			statuses           []int
		}{
			"empty rows":         {"PUT", rows, `{"at":0,"rows":[` + strings.Repeat("{},", 1_300_000) + "{}]}", nil, []int{400, 503}},
			"empty parents":      {"PUT", rows, `{"parents":[` + strings.Repeat("{},", 1_300_000) + "{}]}", nil, []int{400, 503}},
			"many keys":          {"PUT", rows, `{"a":0` + keys.String() + "}", nil, []int{400, 503}},
			"deep":               {"PUT", rows, deep[1<<20 : 3<<20], nil, []int{400, 503}},
			"deep upload":        {"POST", api.PathAttachments, `{"x":` + deep + "}", nil, []int{400}},
			"long field":         {"POST", api.PathAttachments, `{"x":"` + strings.Repeat("x", 8<<20) + `"}`, nil, []int{400}},
			"headers of a form":  {"POST", api.PathAttachments, form, []string{"Content-Type", "multipart/form-data; boundary=b"}, []int{400, 413}},
			"line of a form":     {"POST", api.PathAttachments, strings.Repeat("x", 8<<20), []string{"Content-Type", "multipart/form-data; boundary=b"}, []int{400, 413}},
			"a batch of nothing": {"PUT", api.PathBatch(p.vault, p.device, 1), string(make([]byte, api.MaxFrame)), nil, []int{422, 503}},
			"a header of spaces": {"PUT", api.PathHeader(p.vault, 2), spaces(api.MaxHeader), nil, []int{422, 503}},
			"a long challenge":   {"POST", api.PathChallenge, spaces(1 << 20), nil, []int{413}},
		} {
			var wg sync.WaitGroup
			for range 24 {
				wg.Go(func() { c.tryRefused(p, name, b.method, b.path, b.body, b.headers, b.statuses) })
			}
			wg.Wait()
		}
		most := int64(320 << 20)
		if raceEnabled { // which keeps several words for each word
			most *= 4
		}
		if peak := c.peak(); peak > most {
			t.Errorf("the server grew from %d to %d MiB", before>>20, peak>>20)
		} else {
			t.Logf("from %d to %d MiB", before>>20, peak>>20)
		}
		p.do("GET", api.PathUsage, nil).want(200)
	})
}

// tryRefused sends a body on a connection of its own: the server may answer and
// close before it has taken all.
func (c *child) tryRefused(p *person, name, method, path, body string, headers []string, statuses []int) {
	req := p.request(method, path, body, headers...)
	conn, err := net.Dial("tcp", req.URL.Host)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	go func() { _ = req.Write(conn) }() // it may be cut off
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return // reset, as the rest of the body was under way
	}
	defer res.Body.Close()
	for _, s := range statuses {
		if res.StatusCode == s {
			return
		}
	}
	b, _ := io.ReadAll(res.Body)
	c.t.Errorf("%s: %d %.200s, want one of %v", name, res.StatusCode, b, statuses)
}
