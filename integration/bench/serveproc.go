package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs until it is stopped.
type process struct {
	cmd *exec.Cmd
	url string
}

func (b *serveBench) start(cmd *exec.Cmd, url string) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, url}
	b.running = append(b.running, p)
	return p, nil
}

func (p *process) stop(sig os.Signal) {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(sig)
		_ = p.cmd.Wait()
	}
}

// stop ends what runs, the last first.
func (b *serveBench) stop() {
	for i := len(b.running) - 1; i >= 0; i-- {
		b.running[i].stop(syscall.SIGINT)
	}
	if b.cluster != nil {
		_ = os.RemoveAll(b.cluster.dir)
	}
}

// serve starts a server without limits of rate on a new database.
func (b *serveBench) serve(database string) (*process, error) {
	dir, err := b.dir("serve")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--data", dir, "--listen", address, "--no-rate-limits", "--no-drain-wait", "--quota", "1T"}
	if database == "postgres" {
		url, err := b.cluster.database()
		if err != nil {
			return nil, err
		}
		args = append(args, "--database", url)
	}
	cmd := exec.Command(b.program, args...)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	p, err := b.start(cmd, "http://"+address)
	if err != nil {
		return nil, err
	}
	return p, awaitHTTP(p.url + "/readyz")
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func awaitHTTP(url string) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get(url); err == nil {
			res.Body.Close()
			return nil
		}
	}
	return fmt.Errorf("%s does not answer", url)
}

// memory is the resident set of the process in MiB: what it is, and the most it
// was since forget.
func (p *process) memory() (now, peak float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			now = kib / 1024
		case "VmHWM:":
			peak = kib / 1024
		}
	}
	return now, peak, nil
}

// processorTime is what processes and their children have used of processors.
func processorTime(roots ...int) (sum time.Duration) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// proc(5): the name in parentheses may have blanks; then state, ppid, …, utime, stime.
		pid, rest, _ := strings.Cut(string(text), " (")
		f := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		for _, r := range roots {
			if id := strconv.Itoa(r); pid == id || f[1] == id {
				user, _ := strconv.Atoi(f[11])
				system, _ := strconv.Atoi(f[12])
				sum += time.Duration(user+system) * 10 * time.Millisecond // in ticks of 1/100 s
			}
		}
	}
	return sum
}

// cluster is a PostgreSQL of its own, with every commit on the disk.
type cluster struct {
	*process
	bin, dir string
	as       *syscall.SysProcAttr
	count    int
}

// appRole owns the databases: row-level security binds no superuser.
const appRole = "app"

func (b *serveBench) startCluster() error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return errors.New("PostgreSQL is not installed: apt-get install postgresql")
	}
	c := &cluster{bin: filepath.Dir(found[len(found)-1])}
	// A directory of its own: the server runs as somebody else, who may not enter ours.
	if c.dir, err = os.MkdirTemp("", "vdpg"); err != nil {
		return err
	}
	if c.as, err = notRoot(c.dir); err != nil {
		return err
	}
	b.cluster = c // from here on stop removes it
	if err := c.run("initdb", "-D", c.data(), "-U", "vd", "-A", "trust", "-E", "UTF8", "--locale=C"); err != nil {
		return err
	}
	server := c.command("postgres", "-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=100", "-c", "shared_buffers=128MB")
	if c.process, err = b.start(server, ""); err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = c.run("createuser", "-h", c.dir, "-U", "vd", appRole); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.SysProcAttr, cmd.Dir = c.as, c.dir
	return cmd
}

func (c *cluster) run(program string, args ...string) error {
	if text, err := c.command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, text)
	}
	return nil
}

// database makes one, and gives its address.
func (c *cluster) database() (string, error) {
	c.count++
	name := fmt.Sprintf("bench%d", c.count)
	return "postgres://" + appRole + "@/" + name + "?host=" + c.dir + "&sslmode=disable", c.run("createdb", "-h", c.dir, "-U", "vd", "-O", appRole, name)
}

// analyze gives the planner its statistics, as autovacuum does within a minute:
// plans made for empty tables read whole accounts.
func (c *cluster) analyze() error {
	return c.run("vacuumdb", "-h", c.dir, "-U", "vd", "--all", "--analyze-only", "--quiet")
}

// notRoot is whom PostgreSQL runs as: it refuses to be root.
func notRoot(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("root, and no other account to run PostgreSQL as: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, os.Chown(dir, uid, gid)
}
