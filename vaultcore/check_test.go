package vaultcore

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// damage runs SQL on a closed vault and gives what a check then says.
func damage(t *testing.T, home string, sql ...string) CheckReport {
	t.Helper()
	c, err := openConn(filepath.Join(home, dbName), false, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sql {
		if err := c.script(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	v := openTest(t, home, Options{})
	r, err := v.Check(context.Background(), CheckOptions{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return r
}

// Whatever is done to a row, a check names it and the other files go on.
func TestCheckNamesTamperedRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql, kind string }{
		{"asset row lost", "DELETE FROM assets", "missing"},
		{"asset title of another", "UPDATE assets SET title=zeroblob(40)", "row"},
		{"size", "UPDATE asset_attachments SET size_bytes=size_bytes+1 WHERE n=2", "row"},
		{"sealed", "UPDATE asset_attachments SET sealed=zeroblob(90) WHERE n=2", "row"},
		{"names exchanged", `UPDATE asset_attachments SET file_name_encrypted=(SELECT file_name_encrypted FROM asset_attachments b WHERE b.n=5-asset_attachments.n) WHERE n IN (2,3)`, "row"},
		{"blobs exchanged", `UPDATE asset_attachments SET blob=(SELECT blob FROM asset_attachments b WHERE b.n=5-asset_attachments.n) WHERE n IN (2,3)`, "row"},
		{"row lost", "DELETE FROM asset_attachments WHERE n=2", "orphan"},
		{"deleted", "UPDATE asset_attachments SET deleted=1 WHERE n=2", "row"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := newTestHome(t, "")
			v := openTest(t, home, Options{})
			mustMkdir(t, v, "A")
			writeFile(t, v, "A/one", randomBytes(50<<10, 1))
			writeFile(t, v, "A/two", randomBytes(60<<10, 2))
			writeFile(t, v, "A/three", randomBytes(70<<10, 3))
			if err := v.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			r := damage(t, home, c.sql)
			found := false
			for _, p := range r.Problems {
				found = found || p.Kind == c.kind
			}
			if !found {
				t.Errorf("no problem of kind %s in %+v", c.kind, r.Problems)
			}
			again := openTest(t, home, Options{})
			dir := ""
			again.tree.RLock()
			for name := range again.root.dir.byName {
				dir = name // an asset whose row is bad has another name
			}
			again.tree.RUnlock()
			wantFile(t, again, dir+"/three", randomBytes(70<<10, 3))
		})
	}
}

// Rescue reads what a damaged row still leads to.
func TestRescueBehindDamagedRow(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A")
	data := randomBytes(50<<10, 1)
	writeFile(t, v, "A/one", data)
	i, err := v.Stat("A/one")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	damage(t, home, "UPDATE asset_attachments SET sealed=zeroblob(90)")
	again := openTest(t, home, Options{})
	var out bytes.Buffer
	if n, err := again.Rescue(context.Background(), "live:"+i.ID, &out, false); err != nil || n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("rescued %d bytes, %v", n, err)
	}
}

// With repair a check removes what nothing names, and nothing else.
func TestRepairRemovesOrphansOnly(t *testing.T) {
	home := newTestHome(t, "")
	v := openTest(t, home, Options{})
	mustMkdir(t, v, "A")
	writeFile(t, v, "A/one", randomBytes(50<<10, 1))
	orphan := filepath.Join(home, "attachments", "00112233445566778899aabbccddeeff.bin")
	foreign := filepath.Join(home, "attachments", "notes.txt")
	for _, p := range []string{orphan, foreign} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := v.Check(context.Background(), CheckOptions{Repair: true})
	if err != nil || r.Orphans == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(orphan); !os.IsNotExist(err) {
		t.Error("the orphan is still there")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error("a file that is not ours was removed")
	}
	wantFile(t, v, "A/one", randomBytes(50<<10, 1))
}
