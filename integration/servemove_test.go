package integration

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// family is the scenario of the server's life: two drives and a page at one
// address, whatever serves it.
type family struct {
	t           *testing.T
	ada, bob    *bed
	here, there *mount
	page        *apiClient
	files       map[string][]byte // path in the asset: content
}

const journey = "canarytitle-7f31"

func newFamily(t *testing.T, s *served) *family {
	t.Helper()
	f := &family{t: t, files: make(map[string][]byte)}
	f.ada = newDevice(t, "ada", s.url, nil, nil)
	f.bob = newDevice(t, "bob", s.url, nil, f.ada)
	f.here, f.there = f.ada.mountAgain(), f.bob.mountAgain()
	for _, m := range []*mount{f.here, f.there} {
		m.expect("kind=offline")
	}
	f.here.asset(journey)
	f.ada.ok("sync now")
	f.bob.ok("sync now")
	f.page = newAPIClient(t, f.ada, s.url)
	return f
}

// write saves files on both drives.
func (f *family) write(phase string) {
	f.t.Helper()
	for i, m := range []*mount{f.here, f.there} {
		for n := range 12 {
			name := fmt.Sprintf("canaryname-b2c9 %s %d-%d.txt", phase, i, n)
			f.files[name] = bytes.Repeat(fmt.Appendf(nil, "canarycontent-91aa %s ", name), 1+n*n*60)
			must(f.t, os.WriteFile(m.path(journey, name), f.files[name], 0o644))
		}
	}
}

// settled waits until both drives hold everything, and nothing waits or alarms.
func (f *family) settled() {
	f.t.Helper()
	syncAll(f.ada, f.bob, f.ada)
	for _, m := range []*mount{f.here, f.there} {
		for _, name := range slices.Sorted(maps.Keys(f.files)) {
			if got, err := os.ReadFile(m.path(journey, name)); err != nil || !bytes.Equal(got, f.files[name]) {
				f.t.Errorf("%s: %s: %d bytes, %v; want %d", m.path(), name, len(got), err, len(f.files[name]))
			}
		}
		if there, err := os.ReadDir(m.path(journey)); err != nil || len(there) != len(f.files) {
			f.t.Errorf("%s has %d files, want %d: %v", m.path(), len(there), len(f.files), err)
		}
	}
	for _, b := range []*bed{f.ada, f.bob} {
		if st := b.syncStatus(); st.Queue != 0 || len(st.Conditions) != 0 {
			f.t.Errorf("sync status: %+v", st)
		}
	}
}

// balance stands at an address and hands each connection to the next backend
// that answers.
func balance(t *testing.T, address string, backends ...*served) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	var next atomic.Int64
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				for range backends {
					b := backends[int(next.Add(1))%len(backends)]
					if server, err := net.Dial("tcp", b.listen); err == nil {
						defer server.Close()
						go func() { _, _ = io.Copy(server, client); server.Close() }()
						_, _ = io.Copy(client, server)
						return
					}
				}
			}()
		}
	}()
}

// TestServerLife: two mounted devices and a page share a vault through a server
// that is killed in transfers and then moved to PostgreSQL and a bucket, where
// two processes serve it. Nothing is lost, nobody is alarmed, and nothing
// readable is found anywhere.
func TestServerLife(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	database := metatest.Postgres(t)
	gateway := s3test.StartGateway(t)
	store, env := bucketURL(gateway.Options, "blobs")
	s := startServer(t)
	f := newFamily(t, s)
	for round := range 3 {
		f.write(fmt.Sprint("kill", round))
		seen := strings.Count(s.text(), "POST /api/vault/attachments")
		waitFor(t, "something is sent", 30*time.Second, func() bool { return strings.Count(s.text(), "POST /api/vault/attachments") > seen })
		s.kill()
		s.start()
	}
	f.settled()
	browser := f.openPage(s.url)

	operator := newBed(t)
	operator.env = append(operator.env, env...)
	migrate := []string{"serve", "migrate", "--data", s.data, "--to-database", database, "--to-blobs", store, "--json"}
	if r := operator.finish(operator.plain(migrate...)); r.code != 6 {
		t.Errorf("beside the running server: %v, want 6", r)
	}
	s.stop()
	f.write("away") // while nobody serves
	var m migration
	must(t, json.Unmarshal([]byte(operator.mustRun(migrate...)), &m))
	if m.Accounts != 1 || m.Blobs < 36 || m.Copied != m.Blobs || m.Rows < 100 || strings.Contains(m.Database, "@") {
		t.Errorf("%+v", m)
	}
	if r := operator.finish(operator.plain("serve", "--data", s.data, "--listen", "127.0.0.1:0")); r.code != 80 || !strings.Contains(r.stderr, "--undo") {
		t.Errorf("the source serves: %v, want 80", r)
	}

	env = append(env, "VAULTDRIVE_DATABASE="+database, "VAULTDRIVE_BLOBS="+store)
	one, two := startServerWith(t, env, "--public", s.url, "--redirect"), startServerWith(t, env, "--public", s.url, "--redirect")
	balance(t, s.listen, one, two)
	f.settled()
	if parents := f.page.parents(); len(parents) != 1 { // the very session from before
		t.Errorf("parents %v", parents)
	}
	f.write("moved")
	two.kill()
	f.write("one of two")
	two.start()
	f.settled()
	want := len(f.files) + browser.goesOn()
	if files := f.page.files(f.page.parents()[journey]); len(files) != want {
		t.Errorf("the page sees %d files, want %d", len(files), want)
	}
	for _, b := range []*bed{f.ada, f.bob} {
		if events := b.ok("events"); strings.Contains(strings.ToLower(events), "rollback") || strings.Contains(events, "went back") {
			t.Errorf("alarms:\n%s", events)
		}
	}
	if !strings.Contains(one.text()+two.text(), `"status":302`) {
		t.Error("no content came from the bucket itself")
	}
	one.stop()
	two.stop()
	scan(t, "after the move", s.data, gateway.Dir, one.data, two.data)
	scanText(t, "the logs", s.text()+one.text()+two.text())
	scanDatabase(t, database)
}

// openPage shows the vault in a browser, where there is one.
func (f *family) openPage(address string) *openedPage {
	f.t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		f.t.Log("no chromium: the page is played by a client of its API")
		return nil
	}
	p := &openedPage{pageTest: pageTest{browser: startBrowser(f.t, address+"/"), v: &webVault{address: f.ada.address()}, dir: shortTemp(f.t, "page")}, rows: len(f.files)}
	p.until("the page is there", "document.readyState === 'complete' && !!document.querySelector('#open')")
	p.try(testPassword)
	p.lists()
	return p
}

// openedPage is a page that stays open while the server moves.
type openedPage struct {
	pageTest
	rows int
}

func (p *openedPage) lists() {
	p.until(fmt.Sprintf("%d files are listed", p.rows),
		fmt.Sprintf("!document.querySelector('#unlocked').hidden && document.querySelectorAll('#rows tr').length === %d", p.rows))
}

// goesOn adds a file by the page, without another login, and says how many.
func (p *openedPage) goesOn() int {
	if p == nil {
		return 0
	}
	p.choose("#upload", p.file("from the page.txt", []byte("canarycontent-91aa of a browser")))
	p.rows++
	p.lists()
	return 1
}

func scanText(t *testing.T, where, text string) {
	t.Helper()
	for what, word := range canaries() {
		if strings.Contains(text, string(word)) {
			t.Errorf("%s is in %s", what, where)
		}
	}
}

// scanDatabase reads every row of every table.
func scanDatabase(t *testing.T, address string) {
	t.Helper()
	db, err := sql.Open("pgx", address)
	must(t, err)
	defer db.Close()
	tx, err := db.Begin()
	must(t, err)
	defer func() { must(t, tx.Rollback()) }()
	_, err = tx.Exec("SELECT set_config('vaultdrive.account','-1',true)")
	must(t, err)
	tables := texts(t, tx, "SELECT table_name FROM information_schema.tables WHERE table_schema='public'")
	rows := 0
	for _, table := range tables {
		list := texts(t, tx, "SELECT x::text FROM "+table+" x")
		rows += len(list)
		scanText(t, "table "+table, strings.Join(list, "\n"))
	}
	if len(tables) < 20 || rows < 200 {
		t.Errorf("%d tables with %d rows were looked through", len(tables), rows)
	}
}

func texts(t *testing.T, tx *sql.Tx, query string) (out []string) {
	t.Helper()
	rows, err := tx.Query(query)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var text string
		must(t, rows.Scan(&text))
		out = append(out, text)
	}
	must(t, rows.Err())
	return out
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
	case <-time.After(time.Minute):
		t.Error("ten blobs were not copied within a minute")
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
