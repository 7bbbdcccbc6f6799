package walvfs

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// open gives the only connection of a database in WAL mode; vfs may be empty.
// Its cache holds so few pages that most transactions spill some into the log
// before they end, and write some of those again.
func open(t *testing.T, path, vfs string, pages int) *sql.Conn {
	t.Helper()
	dsn := "file:" + path + "?mode=rwc&_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=0"
	if vfs != "" {
		dsn += "&vfs=" + vfs
	}
	db, err := sql.Open("sqlite3", dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := db.Conn(context.Background())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	exec(t, c, "PRAGMA wal_autocheckpoint=0")
	exec(t, c, fmt.Sprintf("PRAGMA cache_size=%d", pages))
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, c *sql.Conn, q string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(context.Background(), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// sum says what is in the table, and that the database is sound.
func sum(t *testing.T, c *sql.Conn) (out string) {
	t.Helper()
	row := c.QueryRowContext(context.Background(), "SELECT count(*)||' '||coalesce(sum(k*17+length(v)),0)||' '||coalesce(max(hex(substr(v,1,8))),'') FROM t")
	must(t, row.Scan(&out))
	var ok string
	must(t, c.QueryRowContext(context.Background(), "PRAGMA integrity_check").Scan(&ok))
	if ok != "ok" {
		t.Fatal(ok)
	}
	return out
}

func name(t *testing.T) string {
	t.Helper()
	n, err := Name()
	must(t, err)
	return n
}

// change plays one random transaction; some are given up, wholly or in part.
func change(t *testing.T, r *rand.Rand, c *sql.Conn) {
	t.Helper()
	exec(t, c, "BEGIN IMMEDIATE")
	for range 1 + r.IntN(60) {
		k := r.IntN(400)
		switch r.IntN(8) {
		case 0:
			exec(t, c, "DELETE FROM t WHERE k=?", k)
		case 1:
			exec(t, c, "SAVEPOINT s")
			exec(t, c, "UPDATE t SET v=zeroblob(3000) WHERE k BETWEEN ? AND ?", k, k+40)
			exec(t, c, "ROLLBACK TO s")
			exec(t, c, "RELEASE s")
		default:
			v := make([]byte, r.IntN(9000))
			for i := range v {
				v[i] = byte(r.Uint32())
			}
			exec(t, c, "INSERT OR REPLACE INTO t VALUES(?,?)", k, v)
		}
	}
	if r.IntN(6) == 0 {
		exec(t, c, "ROLLBACK")
	} else {
		exec(t, c, "COMMIT")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o600))
}

// What a kill leaves after any transaction is what SQLite itself reads as all
// that was committed, however the log was written.
func TestLogAfterKill(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.db")
			c := open(t, path, name(t), 5+int(seed)*20)
			exec(t, c, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
			r := rand.New(rand.NewPCG(seed, 1))
			for i := range 60 {
				change(t, r, c)
				if r.IntN(9) == 0 {
					exec(t, c, "PRAGMA wal_checkpoint("+[]string{"PASSIVE", "TRUNCATE", "RESTART"}[r.IntN(3)]+")")
				}
				if i%4 != 3 {
					continue
				}
				left := filepath.Join(dir, fmt.Sprintf("left%d.db", i))
				copyFile(t, path, left)
				copyFile(t, path+"-wal", left+"-wal")
				after := open(t, left, "", 1000)
				if got, want := sum(t, after), sum(t, c); got != want {
					t.Fatalf("after %d transactions a plain SQLite reads %q, ours %q", i+1, got, want)
				}
				must(t, after.Close())
			}
		})
	}
}

// Other connections of the process see each transaction when it is committed,
// and a log that is opened again goes on where it ended.
func TestOthersSeeCommits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	r := rand.New(rand.NewPCG(7, 7))
	for range 3 {
		w, reader := open(t, path, name(t), 8), open(t, path, name(t), 8)
		exec(t, w, "CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v BLOB)")
		for range 15 {
			change(t, r, w)
			if got, want := sum(t, reader), sum(t, w); got != want {
				t.Fatalf("another connection reads %q, the writer %q", got, want)
			}
		}
		must(t, reader.Close())
		must(t, w.Close())
	}
}

// writes counts the write calls of this thread, as the kernel does.
func writes(t *testing.T) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Skip("the kernel does not count calls here: ", err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "syscw: "); ok {
			_, err := fmt.Sscan(rest, &n)
			must(t, err)
			return n
		}
	}
	t.Skip("the kernel counts no write calls here")
	return 0
}

// A transaction is one write, two with the header of a log begun anew, once the
// end of a log is known that was there before. (Few enough, that it does not grow ahead.)
func TestOneWriteATransaction(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	path := filepath.Join(t.TempDir(), "a.db")
	first, second := open(t, path, name(t), 2000), open(t, path, name(t), 2000)
	exec(t, first, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
	k := 0
	count := func(c *sql.Conn, transactions int) int {
		before := writes(t)
		for range transactions {
			k++
			exec(t, c, "INSERT INTO t VALUES(?,zeroblob(3000))", k)
		}
		return writes(t) - before
	}
	count(second, 1)
	if got := count(second, 2); got != 2 {
		t.Errorf("2 transactions of several pages took %d writes", got)
	}
	exec(t, first, "PRAGMA wal_checkpoint(TRUNCATE)")
	if got := count(second, 2); got != 3 {
		t.Errorf("2 transactions and the header of a new log took %d writes", got)
	}
}

// Only a log that grows fast is made longer than its frames.
func TestGrowsAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	c := open(t, path, name(t), 2000)
	exec(t, c, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
	const frame = 24 + 4096
	behind := func() int64 {
		fi, err := os.Stat(path + "-wal")
		must(t, err)
		var busy, frames, moved int64
		must(t, c.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &moved))
		return fi.Size() - 32 - frames*frame
	}
	if got := behind(); got != 0 {
		t.Errorf("after one small transaction %d bytes lie behind its frames", got)
	}
	for k := range 100 {
		exec(t, c, "INSERT INTO t VALUES(?,zeroblob(20000))", k)
	}
	if got := behind(); got <= 0 || got > 600<<10 {
		t.Errorf("after 2 MB of transactions %d bytes lie behind the frames", got)
	}
}

// Another process that would read or write is told that the database is taken.
func TestTakenForTheProcess(t *testing.T) {
	const asked = "WALVFS_TEST_DATABASE"
	if path := os.Getenv(asked); path != "" {
		db, err := sql.Open("sqlite3", "file:"+path+"?_busy_timeout=0")
		must(t, err)
		defer db.Close()
		_, err = db.Exec("CREATE TABLE u(k)")
		fmt.Println("another process:", err)
		return
	}
	path := filepath.Join(t.TempDir(), "a.db")
	c := open(t, path, name(t), 100)
	exec(t, c, "CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
	if _, err := os.Stat(path + "-shm"); !os.IsNotExist(err) {
		t.Errorf("there is a shared index of the log: %v", err)
	}
	other := osexec.Command(os.Args[0], "-test.run=^TestTakenForTheProcess$", "-test.count=1")
	other.Env = append(os.Environ(), asked+"="+path)
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "another process: database is locked") {
		t.Errorf("%v: %s", err, out)
	}
}
