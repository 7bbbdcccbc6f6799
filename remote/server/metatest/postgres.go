// Package metatest starts real databases for tests of the server. Only tests
// import it. It refuses to know what is kept in them.
package metatest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// DSN names a PostgreSQL server to use instead of one started here.
const DSN = "VAULTDRIVE_TEST_POSTGRES"

var (
	once    sync.Once
	cluster string // address of the running cluster, with %s for the database
	skip    string // why there is none
	stop    func()
	count   int
	mu      sync.Mutex
)

// Main runs the tests of a package and ends the cluster that they started.
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop ends the cluster that tests have started, for a TestMain of its own.
func Stop() {
	if stop != nil {
		stop()
	}
}

// Row-level security binds no superuser, so databases have an owner of their own.
// Who names a server in DSN names a role that is bound.
const (
	superuser = "vd"
	owner     = "app"
)

// Postgres gives the address of an empty database on a real PostgreSQL, which
// the first call starts in a temporary directory, on a socket alone. The test is
// skipped, with the reason, where there is none.
func Postgres(t testing.TB) string {
	t.Helper()
	once.Do(start)
	if skip != "" {
		t.Skip(skip)
	}
	mu.Lock()
	count++
	name := fmt.Sprintf("t%d_%d", os.Getpid(), count)
	mu.Unlock()
	admin, err := sql.Open("pgx", fmt.Sprintf(cluster, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	create := "CREATE DATABASE " + name
	if stop != nil { // the cluster is ours
		create += " OWNER " + owner
	}
	if _, err := admin.Exec(create); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(fmt.Sprintf(cluster, name), superuser+"@", owner+"@", 1)
}

func start() {
	if dsn := os.Getenv(DSN); dsn != "" {
		cluster = dsn
		return
	}
	bin, err := binaries()
	if err != nil {
		skip = "PostgreSQL is not installed (apt-get install postgresql): " + err.Error()
		return
	}
	if err := startCluster(bin); err != nil {
		skip = "PostgreSQL does not start: " + err.Error()
	}
}

func binaries() (string, error) {
	if at, err := exec.LookPath("initdb"); err == nil {
		if at, err = filepath.EvalSymlinks(at); err == nil {
			return filepath.Dir(at), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no initdb in PATH or /usr/lib/postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func startCluster(bin string) error {
	dir, err := os.MkdirTemp("", "vdpg")
	if err != nil {
		return err
	}
	attr, err := account(dir)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	init := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", superuser, "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
	init.SysProcAttr, init.Dir = attr, dir
	if out, err := init.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "max_connections=200", "-c", "shared_buffers=64MB")
	server.SysProcAttr, server.Dir = attr, dir
	if err := server.Start(); err != nil {
		return err
	}
	stop = func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	}
	cluster = "postgres://" + superuser + "@/%s?host=" + dir + "&sslmode=disable"
	return await(fmt.Sprintf(cluster, "postgres"))
}

// account is whom PostgreSQL runs as: it refuses to be root.
func account(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{}
	if os.Getuid() != 0 {
		return attr, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return attr, os.Chown(dir, uid, gid)
	}
	return nil, fmt.Errorf("root, and no other account to run it as")
}

// await waits for the cluster, and gives it the role that owns the databases.
func await(address string) error {
	db, err := sql.Open("pgx", address)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = db.PingContext(ctx); err == nil {
			_, err = db.ExecContext(ctx, "CREATE ROLE "+owner+" LOGIN")
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
