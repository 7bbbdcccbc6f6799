package integration

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

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
		waitFor(t, "something is sent", patience, func() bool { return strings.Count(s.text(), "POST /api/vault/attachments") > seen })
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
