package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

func TestFake(t *testing.T) {
	o := s3test.Fake(t, nil)
	blobtest.Run(t, func(t *testing.T) blob.Store { return s3test.Open(t, o) }, s3.MinPart)
}

func TestGateway(t *testing.T) {
	g := s3test.StartGateway(t)
	blobtest.Run(t, func(t *testing.T) blob.Store { return s3test.Open(t, g.Options) }, s3.MinPart)
}

func TestReplace(t *testing.T) {
	t.Run("fake", func(t *testing.T) { testReplace(t, s3test.Open(t, s3test.Fake(t, nil))) })
	t.Run("gateway", func(t *testing.T) { testReplace(t, s3test.Open(t, s3test.StartGateway(t).Options)) })
}

func testReplace(t *testing.T, s *s3.Store) {
	ctx := t.Context()
	if err := s.Replace(ctx, "tip", strings.NewReader("0"), 1, "abc"); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("Replace of nothing: %v", err)
	}
	if err := s.Put(ctx, "tip", strings.NewReader("1"), 1, true); err != nil {
		t.Fatal(err)
	}
	first, _ := s.Head(ctx, "tip")
	if got, err := s.HeadChanged(ctx, "tip", first.ETag); err != nil || got.ETag != first.ETag {
		t.Errorf("HeadChanged of what is the same: %+v, %v", got, err)
	}
	if err := s.Replace(ctx, "tip", strings.NewReader("2"), 1, first.ETag); err != nil {
		t.Errorf("Replace of what is there: %v", err)
	}
	if err := s.Replace(ctx, "tip", strings.NewReader("3"), 1, first.ETag); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("Replace of what was there: %v", err)
	}
	if got := read(t, s, "tip"); got != "2" {
		t.Errorf("content %q", got)
	}
	now, _ := s.Head(ctx, "tip")
	if got, err := s.HeadChanged(ctx, "tip", first.ETag); err != nil || got.ETag != now.ETag || got.Size != 1 || got.ETag == first.ETag {
		t.Errorf("HeadChanged of what changed: %+v, %v", got, err)
	}
	if _, err := s.HeadChanged(ctx, "nothing", first.ETag); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("HeadChanged of nothing: %v", err)
	}
}

func read(t *testing.T, s *s3.Store, key string) string {
	t.Helper()
	r, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLongListing(t *testing.T) {
	t.Run("fake", func(t *testing.T) { testLongListing(t, s3test.Open(t, s3test.Fake(t, nil))) })
	t.Run("gateway", func(t *testing.T) { testLongListing(t, s3test.Open(t, s3test.StartGateway(t).Options)) })
}

// testLongListing crosses the first page and a full one.
func testLongListing(t *testing.T, s *s3.Store) {
	const count = 1203
	for i := range count {
		if err := s.Put(t.Context(), fmt.Sprintf("log/d/%020d.vdb", i), strings.NewReader("x"), 1, true); err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	for attrs, err := range s.List(t.Context(), "log/", "") {
		if err != nil || attrs.Key != fmt.Sprintf("log/d/%020d.vdb", next) {
			t.Fatalf("entry %d: %s, %v", next, attrs.Key, err)
		}
		next++
	}
	if next != count {
		t.Errorf("%d entries of %d", next, count)
	}
}

// An answer in the place of the server's.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   []error
		hint   string
	}{
		{404, "NoSuchBucket", []error{blob.ErrNoStore, blob.ErrUnavailable}, "bucket"},
		{403, "AccessDenied", []error{blob.ErrDenied}, "read, write"},
		{403, "InvalidAccessKeyId", []error{blob.ErrDenied}, "AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", []error{blob.ErrDenied}, "secret key"},
		{400, "ExpiredToken", []error{blob.ErrDenied}, "expired"},
		{403, "RequestTimeTooSkewed", []error{blob.ErrClock}, "clock"},
		{503, "SlowDown", []error{blob.ErrUnavailable}, ""},
		{429, "TooManyRequests", []error{blob.ErrUnavailable}, ""},
		{500, "InternalError", []error{blob.ErrUnavailable}, ""},
		{502, "", []error{blob.ErrUnavailable}, ""},
		{403, "QuotaExceeded", []error{blob.ErrNoSpace}, "quota"},
		{507, "", []error{blob.ErrNoSpace}, "quota"},
		{400, "EntityTooLarge", []error{blob.ErrTooLarge}, ""},
		{301, "PermanentRedirect", []error{s3.ErrRegion, blob.ErrUnavailable}, "region="},
		{400, "AuthorizationHeaderMalformed", []error{s3.ErrRegion}, "region="},
	} {
		s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler { return saying(c.status, c.code) }))
		err := s.Put(t.Context(), "a", strings.NewReader("x"), 1, true)
		_, getErr := s.Get(t.Context(), "a", 0, -1)
		for _, err := range []error{err, getErr} {
			for _, want := range c.want {
				if !errors.Is(err, want) {
					t.Errorf("%d %s: %v, want %v", c.status, c.code, err, want)
				}
			}
			if !strings.Contains(blob.Hint(err), c.hint) || c.hint == "" && blob.Hint(err) != "" {
				t.Errorf("%d %s: hint %q", c.status, c.code, blob.Hint(err))
			}
			if strings.Contains(err.Error(), "testtest") || strings.Contains(err.Error(), "canary") {
				t.Errorf("%d %s: %v repeats what the server said", c.status, c.code, err)
			}
		}
	}
}

// An empty 404 is a missing blob to a reader and a missing bucket to a writer.
func TestBare404(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler { return saying(404, "") }))
	if _, err := s.Get(t.Context(), "a", 0, -1); !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrNoStore) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Put(t.Context(), "a", strings.NewReader("x"), 1, false); !errors.Is(err, blob.ErrNoStore) {
		t.Errorf("Put: %v", err)
	}
}

// Nothing is missing because some proxy says 404 in words of its own.
func TestForeign404(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler { return saying(404, "TunnelNotFound") }))
	if _, err := s.Get(t.Context(), "a", 0, -1); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}
}

func saying(status int, code string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Retry-After", "37")
		w.WriteHeader(status)
		if code != "" {
			fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>canary testtest</Message></Error>", code)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for _, status := range []int{429, 503} {
		s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler { return saying(status, "SlowDown") }))
		if _, err := s.Head(t.Context(), "a"); blob.RetryAfter(err) != 37*time.Second {
			t.Errorf("%d: %v after %v", status, err, blob.RetryAfter(err))
		}
	}
}

// One request is one request: trying again belongs to those who can wait.
func TestNoRetry(t *testing.T) {
	var asked atomic.Int64
	s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.WriteHeader(503)
		})
	}))
	if _, err := s.Head(t.Context(), "a"); err == nil {
		t.Error("Head went through")
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// A server without conditional writes is looked at first.
func TestNoConditions(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != "" {
				saying(501, "NotImplemented").ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}))
	for i, want := range []error{nil, blob.ErrExist, blob.ErrExist} {
		err := s.Put(t.Context(), "a", bytes.NewReader([]byte{byte('0' + i)}), 1, true)
		if !errors.Is(err, want) {
			t.Errorf("Put %d: %v", i, err)
		}
	}
	if got := read(t, s, "a"); got != "0" {
		t.Errorf("content %q", got)
	}
	if err := s.Replace(t.Context(), "a", strings.NewReader("x"), 1, "e"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Replace: %v", err)
	}
}

// A server that knows no ranges sends everything.
func TestNoRanges(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			next.ServeHTTP(w, r)
		})
	}))
	if err := s.Put(t.Context(), "a", strings.NewReader("0123456789"), 10, true); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "a", 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); string(b) != "3456" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCutAnswer(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Write(make([]byte, 10))
		})
	}))
	r, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("a body that was cut: %v", err)
	}
}

// A server that takes the request and says nothing holds nobody beyond its
// deadline.
func TestSilentServer(t *testing.T) {
	release := make(chan struct{})
	s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release })
	}))
	defer close(release)
	for what, call := range map[string]func(context.Context) error{
		"Put":    func(ctx context.Context) error { return s.Put(ctx, "a", strings.NewReader("x"), 1, true) },
		"Get":    func(ctx context.Context) error { _, err := s.Get(ctx, "a", 0, -1); return err },
		"Head":   func(ctx context.Context) error { _, err := s.Head(ctx, "a"); return err },
		"Delete": func(ctx context.Context) error { return s.Delete(ctx, "a") },
		"List": func(ctx context.Context) error {
			for _, err := range s.List(ctx, "", "") {
				return err
			}
			return nil
		},
		"Start": func(ctx context.Context) error {
			_, err := s.Start(ctx, blob.Upload{Key: "a", PartSize: s3.MinPart})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
}

// A server whose answer to a listing, or to anything else that is read whole, has no
// end is given up on before it has filled the memory.
func TestEndlessAnswer(t *testing.T) {
	sent := make(chan int64, 16)
	s := s3test.Open(t, s3test.Fake(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.URL.Query().Has("list-type") {
				fmt.Fprint(w, "<ListBucketResult><IsTruncated>false</IsTruncated>")
			} else {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>")
			}
			total, piece := int64(0), []byte(strings.Repeat("<Contents><Key>a</Key></Contents>", 4096))
			for total < 1<<30 {
				n, err := w.Write(piece)
				if total += int64(n); err != nil {
					break
				}
			}
			sent <- total
		})
	}))
	var err error
	for _, err = range s.List(t.Context(), "", "") {
		if err != nil {
			break
		}
	}
	if !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("a listing without end: %v", err)
	}
	if err := s.Delete(t.Context(), "a"); err == nil {
		t.Error("a refusal without end is no error")
	}
	for range 2 {
		if n := <-sent; n > 64<<20 {
			t.Errorf("%d bytes of one answer were taken", n)
		}
	}
}

func TestUnreachable(t *testing.T) {
	o := s3test.Fake(t, nil)
	server := httptest.NewServer(nil)
	o.Endpoint = server.URL
	server.Close()
	s := s3test.Open(t, o)
	if _, err := s.Head(t.Context(), "a"); !errors.Is(err, blob.ErrUnavailable) {
		t.Error(err)
	}
	secured := httptest.NewTLSServer(nil)
	defer secured.Close()
	o.Endpoint = secured.URL
	if _, err := s3test.Open(t, o).Head(t.Context(), "a"); !errors.Is(err, blob.ErrUnavailable) || !strings.Contains(blob.Hint(err), "certificate") {
		t.Errorf("unknown certificate: %v, hint %q", err, blob.Hint(err))
	}
}

func TestClock(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(-48*time.Hour).UTC().Format(http.TimeFormat))
			next.ServeHTTP(w, r)
		})
	}))
	if _, ok := s.Clock(); ok {
		t.Error("a time before the first answer")
	}
	if err := s.Put(t.Context(), "a", strings.NewReader("x"), 1, true); err != nil {
		t.Fatal(err)
	}
	now, ok := s.Clock()
	if off := time.Until(now).Round(time.Hour); !ok || off != -48*time.Hour {
		t.Errorf("%v, %v", off, ok)
	}
}

// A body that can seek is sent from where it stands, a large one that cannot
// goes through a file.
func TestBodies(t *testing.T) {
	s := s3test.Open(t, s3test.Fake(t, nil))
	r := strings.NewReader("skipped, sent")
	r.Seek(9, io.SeekStart)
	if err := s.Put(t.Context(), "a", r, 4, true); err != nil || read(t, s, "a") != "sent" {
		t.Errorf("from the middle: %v", err)
	}
	const size = 33 << 20
	large := blobtest.Bytes(size)
	if err := s.Put(t.Context(), "b", io.MultiReader(bytes.NewReader(large)), size, true); err != nil {
		t.Fatal(err)
	}
	if read(t, s, "b") != string(large) {
		t.Error("a large body came out otherwise")
	}
}

func TestWrongCredentials(t *testing.T) {
	g := s3test.StartGateway(t)
	for what, change := range map[string]func(*s3.Options){
		"access key": func(o *s3.Options) { o.AccessKey = "nobody" },
		"secret key": func(o *s3.Options) { o.SecretKey = "wrong" },
	} {
		o := g.Options
		change(&o)
		err := s3test.Open(t, o).Put(t.Context(), "a", strings.NewReader("x"), 1, true)
		if !errors.Is(err, blob.ErrDenied) || blob.Hint(err) == "" {
			t.Errorf("wrong %s: %v, hint %q", what, err, blob.Hint(err))
		}
	}
	o := g.Options
	o.Bucket = "elsewhere"
	for _, err := range s3test.Open(t, o).List(t.Context(), "", "") {
		if !errors.Is(err, blob.ErrNoStore) || !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("missing bucket: %v", err)
		}
	}
}

// An upload goes on after the server was killed.
func TestUploadSurvivesKill(t *testing.T) {
	g := s3test.StartGateway(t)
	s := s3test.Open(t, g.Options)
	whole := blobtest.Bytes(s3.MinPart + 100)
	up, err := s.Start(t.Context(), blob.Upload{Key: "blobs/a.bin", PartSize: s3.MinPart})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Part(t.Context(), up, 1, bytes.NewReader(whole[:s3.MinPart]), s3.MinPart); err != nil {
		t.Fatal(err)
	}
	g.Kill()
	if _, err := s.Part(t.Context(), up, 2, bytes.NewReader(whole[s3.MinPart:]), 100); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("a part for a dead server: %v", err)
	}
	g.Start(t)
	up, err = s.Start(t.Context(), up)
	if err != nil || len(up.Parts) != 1 {
		t.Fatalf("taken up again with %+v, %v", up.Parts, err)
	}
	part, err := s.Part(t.Context(), up, 2, bytes.NewReader(whole[s3.MinPart:]), 100)
	if err != nil {
		t.Fatal(err)
	}
	up.Parts = append(up.Parts, part)
	if err := s.Finish(t.Context(), up, true); err != nil {
		t.Fatal(err)
	}
	if read(t, s, "blobs/a.bin") != string(whole) {
		t.Error("the blob is not what was sent")
	}
}

func TestParseURL(t *testing.T) {
	o, err := s3.ParseURL("s3://bucket/a/b/?endpoint=https://s3.example:9000&region=eu-1&style=virtual&profile=work")
	want := s3.Options{Bucket: "bucket", Prefix: "a/b", Endpoint: "https://s3.example:9000", Region: "eu-1", Style: "virtual", Profile: "work"}
	if err != nil || o != want {
		t.Errorf("%+v, %v", o, err)
	}
	for _, address := range []string{
		"", "s3://", "s3:///a", "http://bucket", "s3://key:canary@bucket", "s3://bucket?secret=canary", "s3://bucket/../a",
		"s3://bucket/a//b", "s3://bucket/.hidden", "s3://bucket?style=other", "s3://bucket#x", "s3://buc ket", "s3://bucket/%zzcanary",
	} {
		if _, err := s3.ParseURL(address); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	open := func(endpoint string, insecure bool) error {
		_, err := s3.Open(s3.Options{Bucket: "bucket", Endpoint: endpoint, Insecure: insecure, AccessKey: "a", SecretKey: "b"})
		return err
	}
	for _, good := range []string{"", "s3.example", "https://s3.example:9000", "http://127.0.0.1:9000", "http://localhost", "http://[::1]:9"} {
		if err := open(good, false); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"http://s3.example", "ftp://s3.example", "https://a:canary@s3.example", "https://s3.example/path", "https://", "https://s3.example?x=1"} {
		if err := open(bad, false); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := open("http://s3.example", true); err != nil {
		t.Error(err)
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	text := "[default]\naws_access_key_id = a\naws_secret_access_key = canary\n[empty]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	clear := func(t *testing.T) {
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
			t.Setenv(name, "")
		}
		t.Setenv("HOME", t.TempDir())
		t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	}
	for _, c := range []struct {
		name string
		env  map[string]string
		o    s3.Options
		ok   bool
	}{
		{"nothing", nil, s3.Options{}, false},
		{"environment", map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "canary"}, s3.Options{}, true},
		{"half of it", map[string]string{"AWS_ACCESS_KEY_ID": "a"}, s3.Options{}, false},
		{"shared file", map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file}, s3.Options{}, true},
		{"named file", nil, s3.Options{CredentialsFile: file}, true},
		{"empty profile", nil, s3.Options{CredentialsFile: file, Profile: "empty"}, false},
		{"missing file", nil, s3.Options{CredentialsFile: file + "x"}, false},
		{"given", nil, s3.Options{AccessKey: "a", SecretKey: "canary"}, true},
		{"half given", nil, s3.Options{AccessKey: "a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			clear(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			c.o.Bucket, c.o.Endpoint = "bucket", "https://s3.example"
			_, err := s3.Open(c.o)
			if c.ok && err != nil || !c.ok && (!errors.Is(err, blob.ErrDenied) || blob.Hint(err) == "") {
				t.Errorf("%v, hint %q", err, blob.Hint(err))
			}
			if named := c.o.CredentialsFile != ""; err != nil && named != strings.Contains(blob.Hint(err), "named") {
				t.Errorf("the hint is about another source: %q", blob.Hint(err))
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}
