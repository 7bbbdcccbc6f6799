package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Real programs on a real mount: what users do, with the programs they use.

func TestRsyncTree(t *testing.T) {
	t.Parallel()
	needTool(t, "rsync", "rsync")
	source := filepath.Join(runtime.GOROOT(), "src")
	if info, err := os.Stat(source); err != nil || !info.IsDir() {
		t.Skipf("no tree to copy: GOROOT/src: %v", err)
	}
	b := newVault(t)
	m := b.mount()
	in := m.asset("Sources")
	want := snapshot(t, source)
	if len(want) < 2000 {
		t.Fatalf("%s has %d entries, too few to mean anything", source, len(want))
	}
	tool(t, b.dir, "rsync", "-a", source+"/", in+"/")
	sameTree(t, snapshot(t, in), want)
	again := func() {
		t.Helper()
		if moved := tool(t, b.dir, "rsync", "-a", "--itemize-changes", source+"/", in+"/"); moved != "" {
			t.Fatalf("a second run moved something:\n%.2000s", moved)
		}
	}
	again()
	m.unmount()

	m = b.mount()
	again()
	out := filepath.Join(b.dir, "out")
	tool(t, b.dir, "rsync", "-a", in+"/", out+"/")
	sameTree(t, snapshot(t, out), want)
	m.unmount()
	b.checkClean()
}

// A sync with --delete, --inplace and partial changes, the way backups run.
func TestRsyncChanges(t *testing.T) {
	t.Parallel()
	needTool(t, "rsync", "rsync")
	b := newVault(t)
	m := b.mount()
	in := m.asset("Backup")
	source := filepath.Join(b.dir, "source")
	must(t, os.MkdirAll(filepath.Join(source, "deep", "empty"), 0o755))
	for i := range 40 {
		must(t, os.WriteFile(filepath.Join(source, fmt.Sprintf("file-%d", i)), pattern(uint32(i), 1, i*1000), 0o640))
	}
	must(t, os.WriteFile(filepath.Join(source, "deep", "big"), randomBytes(1, 3<<20), 0o600))
	must(t, os.Symlink("deep/big", filepath.Join(source, "link")))
	for k, mode := range []string{"--whole-file", "--no-whole-file", "--inplace"} {
		for i := 1; i < 40; i += 3 {
			appendFile(t, filepath.Join(source, fmt.Sprintf("file-%d", i)), mode)
		}
		f, err := os.OpenFile(filepath.Join(source, "deep", "big"), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte(mode), 1<<20)
		must(t, err)
		must(t, f.Close())
		must(t, os.Remove(filepath.Join(source, "file-"+fmt.Sprint(3*k))))
		tool(t, b.dir, "rsync", "-a", "--ignore-times", "--delete", mode, source+"/", in+"/")
		sameTree(t, snapshot(t, in), snapshot(t, source))
	}
	m.unmount()
	b.checkClean()
}

func TestGit(t *testing.T) {
	t.Parallel()
	needTool(t, "git", "git")
	b := newVault(t)
	origin := filepath.Join(b.dir, "origin")
	git := func(dir string, args ...string) string {
		t.Helper()
		return tool(t, dir, "git", append([]string{"-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main", "-c", "safe.directory=*"}, args...)...)
	}
	must(t, os.Mkdir(origin, 0o755))
	git(origin, "init", "-q")
	for rev := range 30 {
		for i := range 5 {
			must(t, os.WriteFile(filepath.Join(origin, fmt.Sprintf("file-%d.txt", (rev+i)%20)), pattern(uint32(i), uint32(rev), 2000+rev*50), 0o644))
		}
		git(origin, "add", "-A")
		git(origin, "commit", "-q", "-m", fmt.Sprint("revision ", rev))
	}
	m := b.mount()
	m.expect("hard links are not supported") // git copes, and the log says what it met
	asset := m.asset("Code")
	git(asset, "clone", "-q", origin, "work")
	work := filepath.Join(asset, "work")
	must(t, os.WriteFile(filepath.Join(work, "new.txt"), []byte("new\n"), 0o644))
	git(work, "add", "-A")
	git(work, "commit", "-q", "-m", "made in the vault")
	git(work, "branch", "side", "HEAD~3")
	git(work, "checkout", "-q", "side")
	git(work, "checkout", "-q", "main")
	if dirty := git(work, "status", "--porcelain"); dirty != "" {
		t.Errorf("a fresh commit leaves changes:\n%s", dirty)
	}
	git(work, "fsck", "--full", "--strict")
	git(work, "gc", "-q", "--aggressive", "--prune=now")
	git(work, "fsck", "--full", "--strict")
	git(work, "push", "-q", origin, "HEAD:from-vault")
	m.unmount()

	m = b.mount()
	m.expect("hard links are not supported")
	git(work, "fsck", "--full", "--strict")
	if dirty := git(work, "status", "--porcelain"); dirty != "" {
		t.Errorf("after a new mount there are changes:\n%s", dirty)
	}
	if n := strings.Count(git(work, "log", "--oneline"), "\n"); n != 31 {
		t.Errorf("%d commits, want 31", n)
	}
	m.unmount()
	b.checkClean()
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	needTool(t, "sqlite3", "sqlite3")
	for _, mode := range []string{"delete", "truncate", "persist", "wal"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newVault(t)
			m := b.mount()
			asset := m.asset("Data")
			sql := func(script string) string {
				t.Helper()
				return strings.TrimSpace(tool(t, asset, "sqlite3", "-bail", "data.db", script))
			}
			if got := sql("pragma journal_mode=" + mode); got != mode {
				t.Fatalf("journal mode %q, want %q", got, mode)
			}
			sql("create table t (id integer primary key, body blob); create index i on t (body)")
			for batch := range 5 {
				sql("insert into t (body) with recursive c(n) as (select 1 union all select n+1 from c where n < 2000) select randomblob(100) from c")
				sql(fmt.Sprintf("update t set body = randomblob(200) where id %% 5 = %d; delete from t where id %% 11 = %d", batch, batch))
			}
			sql("begin; delete from t; rollback; vacuum")
			for range 2 {
				if got := sql("pragma integrity_check"); got != "ok" {
					t.Fatalf("integrity_check: %s", got)
				}
				count := sql("select count(*) from t")
				m.unmount()
				m = b.mount()
				if got := sql("select count(*) from t"); got != count {
					t.Fatalf("%s rows after a new mount, want %s", got, count)
				}
			}
			m.unmount()
			b.checkClean()
		})
	}
}

func TestEditors(t *testing.T) {
	t.Parallel()
	b := newVault(t)
	m := b.mount()
	asset := m.asset("Notes")
	file := filepath.Join(asset, "text.txt")
	identity := func() string {
		t.Helper()
		var infos []struct{ ID string }
		must(t, json.Unmarshal([]byte(b.ok("status", "--json", "Notes/text.txt")), &infos))
		return infos[0].ID
	}
	id := ""
	reset := func(t *testing.T) {
		t.Helper()
		must(t, os.WriteFile(file, []byte("one\ntwo\nthree\n"), 0o640))
		id = identity()
	}
	want := func(t *testing.T, text string) {
		t.Helper()
		got, err := os.ReadFile(file)
		must(t, err)
		if string(got) != text {
			t.Errorf("got %q, want %q", got, text)
		}
		info, err := os.Stat(file)
		must(t, err)
		if info.Mode().Perm() != 0o640 {
			t.Errorf("mode %v, want 0640", info.Mode())
		}
	}
	// Saving in place, or by a temporary file renamed over, is a new revision of the
	// same attachment.
	same := func(t *testing.T) {
		t.Helper()
		if now := identity(); now != id {
			t.Errorf("saving made another attachment: %s was %s", now, id)
		}
	}
	for _, copyMode := range []string{"yes", "no", "auto"} {
		t.Run("vim backupcopy="+copyMode, func(t *testing.T) {
			needTool(t, "vim", "vim")
			reset(t)
			tool(t, asset, "vim", "-es", "-u", "NONE", "-i", "NONE", "-c", "set swapfile writebackup fsync backupcopy="+copyMode,
				"-c", "edit text.txt", "-c", "%s/two/2/", "-c", "wq")
			want(t, "one\n2\nthree\n")
			if copyMode == "yes" { // otherwise vim renames the old file away and makes a new one
				same(t)
			}
		})
	}
	t.Run("sed -i", func(t *testing.T) {
		needTool(t, "sed", "sed")
		reset(t)
		tool(t, asset, "sed", "-i", "s/three/3/", "text.txt")
		want(t, "one\ntwo\n3\n")
		same(t)
	})
	t.Run("gio save", func(t *testing.T) {
		needTool(t, "gio", "libglib2.0-bin")
		reset(t)
		tool(t, asset, "sh", "-c", "printf 'saved by gio\n' | gio save text.txt")
		want(t, "saved by gio\n")
		same(t)
	})
	t.Run("shell", func(t *testing.T) {
		reset(t)
		tool(t, asset, "sh", "-c", "{ echo a; echo b; date >/dev/null; echo c; } > text.txt; echo d >> text.txt; : >> text.txt")
		want(t, "a\nb\nc\nd\n")
		same(t)
	})
	list, err := os.ReadDir(asset)
	must(t, err)
	if len(list) != 1 {
		t.Errorf("editors left %v", list)
	}
	m.unmount()
	b.checkClean()
}

func TestDemoAndPDF(t *testing.T) {
	t.Parallel()
	needTool(t, "pdftotext", "poppler-utils")
	b := newBed(t)
	dir := filepath.Join(b.dir, "demo")
	must(t, os.Mkdir(dir, 0o700))
	demo := startDemo(t, b, dir)
	pdf := findPDF(t, dir)
	data, err := os.ReadFile(pdf)
	must(t, err)
	readPDF(t, b, pdf)
	demo.interrupt()

	// The same document in a vault that stays, cold after a new mount.
	b.init()
	m := b.mount()
	must(t, os.WriteFile(filepath.Join(m.asset("Documents"), "scan.pdf"), data, 0o644))
	m.unmount()
	m = b.mount()
	readPDF(t, b, m.path("Documents", "scan.pdf"))
	m.unmount()
}

// readPDF reads a document the way viewers do: the end first, then here and there.
func readPDF(t *testing.T, b *bed, pdf string) {
	t.Helper()
	info := tool(t, b.dir, "pdfinfo", pdf)
	pages := ""
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "Pages:"); ok {
			pages = strings.TrimSpace(rest)
		}
	}
	if pages == "" || pages == "0" || pages == "1" {
		t.Errorf("pdfinfo does not see several pages:\n%s", info)
	}
	if text := tool(t, b.dir, "pdftotext", pdf, "-"); len(strings.Fields(text)) < 20 {
		t.Errorf("pdftotext finds %d words", len(strings.Fields(text)))
	}
	tool(t, b.dir, "pdftoppm", "-png", "-r", "40", pdf, filepath.Join(b.dir, "page"))
	if made, _ := filepath.Glob(filepath.Join(b.dir, "page*.png")); fmt.Sprint(len(made)) != pages {
		t.Errorf("pdftoppm drew %d pages of %s", len(made), pages)
	}
}

func findPDF(t *testing.T, dir string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "*", "*.pdf"))
	if len(found) == 0 {
		found, _ = filepath.Glob(filepath.Join(dir, "*", "*", "*.pdf"))
	}
	if len(found) == 0 {
		t.Fatalf("the demo has no PDF")
	}
	return found[0]
}
