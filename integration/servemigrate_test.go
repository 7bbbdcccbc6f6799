package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// bucketURL is the address of a part of a bucket, and the environment to use it.
func bucketURL(o s3.Options, prefix string) (address string, env []string) {
	query := url.Values{"endpoint": {o.Endpoint}, "region": {o.Region}, "style": {o.Style}}
	return "s3://" + o.Bucket + "/" + prefix + "?" + query.Encode(), []string{"AWS_ACCESS_KEY_ID=" + o.AccessKey, "AWS_SECRET_ACCESS_KEY=" + o.SecretKey}
}

// migration is what `serve migrate --json` says.
type migration struct {
	Accounts, Rows, Blobs int
	Copied                int `json:"copied_blobs"`
	Database, Store       string
}

// TestMigrateRefuses: each thing that can be wrong has its exit code and says
// what to do; nothing is changed by it.
func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	database := metatest.Postgres(t)
	o := s3test.Fake(t, nil)
	store, env := bucketURL(o, "blobs")
	o.Bucket = "nowhere"
	nowhere, _ := bucketURL(o, "blobs")
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	drive := ada.mountAgain()
	must(t, os.WriteFile(filepath.Join(drive.asset("A"), "f"), bytes.Repeat([]byte("x"), 100_000), 0o644))
	ada.ok("wait")
	drive.unmount()
	s.stop()
	operator := newBed(t)
	operator.env = append(operator.env, env...)
	empty := shortTemp(t, "empty")
	for _, c := range []struct {
		name string
		code int
		says string
		args []string
	}{
		{"no destination", 2, "--to-database", []string{"--data", s.data}},
		{"half a destination", 2, "--to-data", []string{"--data", s.data, "--to-database", database}},
		{"the same directory", 2, "another", []string{"--data", s.data, "--to-data", s.data + "/."}},
		{"operand", 2, "operands", []string{"--data", s.data, "x"}},
		{"no server there", 20, "source", []string{"--data", empty, "--to-database", database, "--to-blobs", store}},
		{"no such database", 60, "createdb", []string{"--data", s.data, "--to-database", databaseNamed(t, database, "absent"), "--to-blobs", store}},
		{"unknown user", 59, "user", []string{"--data", s.data, "--to-database", strings.Replace(database, "app@", "stranger@", 1), "--to-blobs", store}},
		{"no database server", 62, "PostgreSQL", []string{"--data", s.data, "--to-database", "postgres://app:hunter2@127.0.0.1:1/x?sslmode=disable", "--to-blobs", store}},
		{"no bucket", 60, "bucket", []string{"--data", s.data, "--to-database", database, "--to-blobs", nowhere}},
		{"bad address", 1, "s3://", []string{"--data", s.data, "--to-database", database, "--to-blobs", "s4://x"}},
		{"nothing to undo", 0, "nothing to undo", []string{"--data", s.data, "--undo"}},
	} {
		r := operator.finish(operator.plain(append([]string{"serve", "migrate"}, c.args...)...))
		if r.code != c.code || !strings.Contains(r.stderr, c.says) || strings.Contains(r.stderr, "hunter2") {
			t.Errorf("%s: %v; want %d and %q", c.name, r, c.code, c.says)
		}
	}
	operator.mustRun("serve", "migrate", "--data", s.data, "--to-data", filepath.Join(empty, "new"), "--verify")
	if r := operator.finish(operator.plain("serve", "invite", "--data", s.data)); r.code != 80 {
		t.Errorf("an invitation of a server that moved: %v, want 80", r)
	}
	if r := operator.finish(operator.plain("serve", "migrate", "--data", s.data, "--to-data", filepath.Join(empty, "other"))); r.code != 80 {
		t.Errorf("moved twice: %v, want 80", r)
	}
	operator.mustRun("serve", "migrate", "--data", s.data, "--undo")
	s.start() // it serves again
	ada.ok("sync now")
	s.stop()
	if r := operator.finish(operator.plain("serve", "migrate", "--data", s.data, "--to-data", filepath.Join(empty, "new"))); r.code != 81 {
		t.Errorf("to where it was, after both went on: %v, want 81", r)
	}
}

// databaseNamed is the address of another database of the same server.
func databaseNamed(t *testing.T, address, name string) string {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	u.Path = "/" + name
	return u.String()
}

// TestMigrateKilled: a move whose process is killed leaves a destination on which
// no server starts, and a source that serves; the same command goes on.
func TestMigrateKilled(t *testing.T) {
	t.Parallel()
	database := metatest.Postgres(t)
	var puts atomic.Int64
	var open atomic.Bool
	reached, gone := make(chan struct{}), make(chan struct{})
	o := s3test.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && !open.Load() {
				n := puts.Add(1)
				if n == 10 {
					close(reached)
				}
				if n >= 10 { // the bucket hangs until the process is gone
					<-gone
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	letGo := sync.OnceFunc(func() { close(gone) })
	t.Cleanup(letGo) // before the bucket is closed
	store, env := bucketURL(o, "")
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	drive := ada.mountAgain()
	dir := drive.asset("A")
	for n := range 30 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), bytes.Repeat([]byte{byte(n)}, 10_000), 0o644))
	}
	ada.ok("wait")
	drive.unmount()
	s.stop()

	operator := newBed(t)
	operator.env = append(operator.env, env...)
	args := []string{"serve", "migrate", "--data", s.data, "--to-database", database, "--to-blobs", store, "--json"}
	cmd := operator.plain(args...)
	must(t, cmd.Start())
	select {
	case <-reached:
	case <-time.After(patience):
		t.Error("ten blobs are not copied")
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	open.Store(true)
	letGo()

	half := operator.plain("serve", "--data", filepath.Join(shortTemp(t, "half"), "data"), "--listen", "127.0.0.1:0", "--database", database, "--blobs", store)
	if r := operator.finish(half); r.code != 80 || !strings.Contains(r.stderr, "migrate again") {
		t.Errorf("a half-moved server: %v, want 80", r)
	}
	s.start()
	ada.ok("sync now")
	s.stop()
	var m migration
	must(t, json.Unmarshal([]byte(operator.mustRun(args...)), &m))
	if m.Blobs < 30 || m.Copied >= m.Blobs || m.Copied == 0 {
		t.Errorf("%+v", m)
	}
	s.env, s.args = append(env, "VAULTDRIVE_DATABASE="+database, "VAULTDRIVE_BLOBS="+store), nil
	s.data = filepath.Join(shortTemp(t, "moved"), "data")
	s.start()
	ada.ok("sync now")
	bob := newDevice(t, "bob", s.url, nil, ada)
	there := bob.mountAgain()
	for n := range 30 {
		if got, err := os.ReadFile(there.path("A", fmt.Sprint(n))); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(n)}, 10_000)) {
			t.Errorf("file %d: %d bytes, %v", n, len(got), err)
		}
	}
	there.unmount()
}
