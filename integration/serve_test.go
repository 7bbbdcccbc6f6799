package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
)

// served is a running `vaultdrive serve`.
type served struct {
	t      *testing.T
	args   []string
	data   string
	listen string
	env    []string
	url    string

	mu  sync.Mutex
	log bytes.Buffer
	cmd *exec.Cmd
	out chan error // of Wait
}

// startServer runs a server with a directory of its own; it ends with the test.
func startServer(t *testing.T, options ...string) *served {
	t.Helper()
	return startServerWith(t, nil, options...)
}

func startServerWith(t *testing.T, env []string, options ...string) *served {
	t.Helper()
	needProgram(t)
	s := &served{t: t, data: filepath.Join(shortTemp(t, "serve"), "data"), args: options, listen: s3test.Host() + ":0", env: env}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start runs it and waits until it serves. A second start keeps the port, as
// clients know it.
func (s *served) start() {
	s.t.Helper()
	s.cmd = exec.Command(program, append([]string{"serve", "--data", s.data, "--listen", s.listen, "--no-drain-wait"}, s.args...)...)
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.data}, s.env...)
	pipe, err := s.cmd.StderrPipe()
	must(s.t, err)
	must(s.t, s.cmd.Start())
	ready := make(chan string, 1)
	s.out = make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(pipe)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.mu.Lock()
			s.log.Write(append(lines.Bytes(), '\n'))
			s.mu.Unlock()
			var said struct{ Msg, Address, Listen string }
			if json.Unmarshal(lines.Bytes(), &said) == nil && said.Msg == "serving" {
				s.listen, s.url = said.Listen, said.Address
				ready <- said.Address
			}
		}
		s.out <- s.cmd.Wait()
		close(ready)
	}()
	select {
	case address, ok := <-ready:
		if !ok {
			s.t.Fatalf("the server ended:\n%s", s.text())
		}
		s.url = address
	case <-time.After(patience):
		s.t.Fatalf("the server does not serve:\n%s", s.text())
	}
}

func (s *served) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// kill ends it as a power cut of the program would.
func (s *served) kill() {
	if s.cmd.Process.Kill() == nil {
		<-s.out
		s.out <- nil // for a second kill
	}
}

// stop asks it to end, and demands that it does so well.
func (s *served) stop() {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-s.out:
		s.out <- nil
		if err != nil && !strings.Contains(err.Error(), "exit status 130") {
			s.t.Errorf("the server ended with %v", err)
		}
	case <-time.After(patience):
		s.t.Error("the server does not end")
	}
	if text := s.text(); !strings.Contains(text, `"msg":"ended"`) {
		s.t.Errorf("no orderly end:\n%s", text)
	}
}

// TestServerKilledInTransfers: a server that is killed again and again while two
// devices write through it loses nothing.
func TestServerKilledInTransfers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	bob := newDevice(t, "bob", s.url, nil, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	here.expect("kind=offline")
	there.expect("kind=offline")
	for round := range 4 {
		for i, m := range []*mount{here, there} {
			dir := m.path(fmt.Sprintf("Device %d", i))
			must(t, os.MkdirAll(dir, 0o755))
			for n := range 20 {
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%d", round, n)), bytes.Repeat([]byte{byte(n)}, 20_000*(n%5)+n), 0o644))
			}
		}
		waitFor(t, "something is sent", patience, func() bool { return strings.Count(s.text(), "POST /api/vault/attachments") > round*8 })
		s.kill()
		s.start()
	}
	syncAll(ada, bob, ada)
	for i := range 2 {
		title := fmt.Sprintf("Device %d", i)
		tool(t, here.dir, "diff", "-r", here.path(title), there.path(title))
		if names := strings.Fields(listing(t, here.path(title))); len(names) != 80 {
			t.Errorf("%s has %d files", title, len(names))
		}
	}
	for _, b := range []*bed{ada, bob} {
		if st := b.syncStatus(); st.Queue != 0 || len(st.Conditions) != 0 {
			t.Errorf("sync status: %+v", st)
		}
	}
}

// TestServerScaledOut: two equal processes on one PostgreSQL and one bucket, a
// device at each.
func TestServerScaledOut(t *testing.T) {
	t.Parallel()
	database := metatest.Postgres(t)
	o := s3test.Fake(t, nil)
	query := url.Values{"endpoint": {o.Endpoint}, "region": {o.Region}, "style": {o.Style}}
	env := []string{"AWS_ACCESS_KEY_ID=" + o.AccessKey, "AWS_SECRET_ACCESS_KEY=" + o.SecretKey, "VAULTDRIVE_DATABASE=" + database,
		"VAULTDRIVE_BLOBS=s3://" + o.Bucket + "/blobs?" + query.Encode()}
	one, two := startServerWith(t, env), startServerWith(t, env)
	ada := newDevice(t, "ada", one.url, nil, nil)
	bob := newDevice(t, "bob", two.url, nil, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	here.expect("kind=offline") // when the servers have ended
	there.expect("kind=offline")
	text := []byte("one file, two servers")
	must(t, os.WriteFile(filepath.Join(here.asset("Notes"), "today.txt"), text, 0o644))
	waitFor(t, "what went to one server is read from the other", patience, func() bool {
		got, err := os.ReadFile(there.path("Notes", "today.txt"))
		return err == nil && bytes.Equal(got, text)
	})
	one.stop()
	two.stop()
}

// TestServerIsBlind: names and contents of a vault are found nowhere on the
// server, not in its database, its blobs, or its log.
func TestServerIsBlind(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	here := ada.mountAgain()
	const canary = "CANARY-5d1f0c9a"
	must(t, os.WriteFile(filepath.Join(here.asset("Title "+canary), "name "+canary+".txt"), []byte(strings.Repeat(canary+" ", 5000)), 0o644))
	must(t, os.Symlink("target "+canary, here.path("Title "+canary, "link")))
	ada.ok("wait")
	here.unmount()
	s.stop()
	files := 0
	must(t, filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(canary)) || strings.Contains(path, canary) {
			t.Errorf("%s has the canary", path)
		}
		return err
	}))
	if files < 3 || strings.Contains(s.text(), canary) {
		t.Errorf("%d files looked through; in the log: %v", files, strings.Contains(s.text(), canary))
	}
}

// TestServerOperator: accounts, plans and invitations, as an operator has them.
func TestServerOperator(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--registration", "invite", "--quota", "1M")
	ada := newBed(t)
	ada.init()
	if r := ada.run("sync enable", s.url); r.code != 59 || !strings.Contains(r.stderr, "--invite") {
		t.Fatalf("without an invitation: %v; want 59 and what to do", r)
	}
	operator := func(args ...string) string {
		t.Helper()
		return ada.mustRun(append(append([]string{"serve"}, args...), "--data", s.data)...)
	}
	code := strings.TrimSpace(operator("invite"))
	ada.ok("sync enable", "--invite", code, s.url)
	var accounts []struct {
		Vault, Plan string
		Usage       int64
	}
	must(t, json.Unmarshal([]byte(operator("account", "list", "--json")), &accounts))
	if len(accounts) != 1 || accounts[0].Plan != "premium" {
		t.Fatalf("%+v", accounts)
	}
	here := ada.mountAgain()
	here.expect("kind=access-denied")
	waitFor(t, "plan and quota are known", patience, func() bool { return strings.Contains(ada.ok("sync status"), "premium: ") })
	big := filepath.Join(here.asset("Big"), "file")
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), 2<<20), 0o644); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("more than the quota: %v, want EDQUOT", err)
	}
	if err := os.Truncate(big, 26<<20); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("longer than the server takes: %v, want EFBIG", err)
	}
	operator("account", "set-quota", accounts[0].Vault, "100M")
	ada.ok("sync now")
	must(t, os.WriteFile(big, bytes.Repeat([]byte("x"), 2<<20), 0o644))
	ada.ok("wait")
	operator("account", "disable", accounts[0].Vault)
	if r := ada.run("sync now"); r.code != 59 {
		t.Errorf("disabled: %v; want 59", r)
	}
	operator("account", "enable", accounts[0].Vault)
	ada.ok("sync now")
}
