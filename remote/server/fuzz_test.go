package server

import (
	"bytes"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

var rangeForm = regexp.MustCompile(`^bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*$`)

// FuzzParseRange: what is taken lies within the file and is what the digits say.
func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-9", "bytes=-5", "bytes=5-", "bytes=+1-2", "bytes=0-1,3-4", "lines=1-2", "bytes=9223372036854775807-9223372036854775808", "bytes=--1", "bytes= 1-2 ", "bytes=١-٢", ""} {
		f.Add(seed, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		off, n, partial, err := parseRange(header, size)
		m := rangeForm.FindStringSubmatch(header)
		switch {
		case err != nil:
			if !api.IsCode(err, api.CodeRangeInvalid) {
				t.Fatal(err)
			}
			return
		case !partial:
			if off != 0 || n != size {
				t.Fatalf("%q of %d: %d+%d", header, size, off, n)
			}
			return
		case m == nil || n < 1 || off < 0 || off+n > size:
			t.Fatalf("%q of %d: %d+%d", header, size, off, n)
		}
		if first, err := strconv.ParseInt(m[1], 10, 64); err == nil && first != off || m[1] == "" && off+n != size {
			t.Fatalf("%q of %d: %d+%d", header, size, off, n)
		}
		if last, err := strconv.ParseInt(m[2], 10, 64); m[1] != "" && err == nil && off+n-1 != min(last, size-1) {
			t.Fatalf("%q of %d: %d+%d", header, size, off, n)
		}
	})
}

// FuzzMatches: a tag alone matches itself, and a list that has it.
func FuzzMatches(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`)
	f.Add(`*`, `"b"`)
	f.Fuzz(func(t *testing.T, header, id string) {
		if strings.ContainsAny(id, ",\"") || strings.TrimSpace(id) != id {
			return
		}
		etag := `"` + id + `"`
		if got := matches(header, etag); got && !strings.Contains(header, etag) && !strings.Contains(header, "*") {
			t.Fatalf("%q matches %q", header, etag)
		}
		if !matches(header+","+etag, etag) || !matches("W/"+etag, etag) {
			t.Fatalf("%q does not match itself", etag)
		}
	})
}

// FuzzNetwork: whatever a client claims, its limits hang on an address or on none,
// and never on a word of its own.
func FuzzNetwork(f *testing.F) {
	f.Add("1.2.3.4:5", "9.9.9.9", true)
	f.Add("[::1]:5", "a, ::1%x", true)
	f.Add("", ",", true)
	f.Fuzz(func(t *testing.T, remote, forwarded string, proxy bool) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		r.Header["X-Forwarded-For"] = []string{forwarded}
		got := (&call{r: r}).network(proxy)
		_, addr := netip.ParseAddr(got)
		_, prefix := netip.ParsePrefix(got)
		if got != "unknown" && addr != nil && prefix != nil {
			t.Fatalf("%q, %q: %q", remote, forwarded, got)
		}
	})
}

// FuzzForm sends forms to a real server: the answer is a documented one.
func FuzzForm(f *testing.F) {
	w := newWorld(f, f.TempDir()+"/m.db", Options{Limits: NoLimits()})
	p := w.register()
	content := randomBytes(64)
	good, typ := formBody(metadataOf(content), content)
	f.Add(good, typ)
	f.Add([]byte("--b\r\n\r\n"), "multipart/form-data; boundary=b")
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=metadata\r\n\r\n{}\r\n--b--"), `multipart/form-data; boundary="b"`)
	f.Add([]byte("x"), "multipart/form-data; boundary*0=a; boundary*1=b")
	f.Add([]byte(`{"encrypted_content":""}`), "application/json; charset=utf-8")
	f.Fuzz(func(t *testing.T, body []byte, typ string) {
		req := httptest.NewRequest("POST", w.http.URL+api.PathAttachments, bytes.NewReader(body))
		req.Header["Content-Type"] = []string{typ}
		req.Header.Set("Authorization", "Bearer "+p.token)
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, req)
		a := &answer{t: t, what: "POST form", status: rec.Code, header: rec.Result().Header, body: rec.Body.Bytes()}
		a.asDocumented(req)
	})
}
