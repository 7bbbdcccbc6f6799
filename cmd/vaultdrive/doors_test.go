package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/adrg/xdg"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

const testPassword = "correct horse battery staple"

// modelDir holds the first place's files; TestMain makes and removes it.
var modelDir string

// place is a machine with one vault on it, in a temporary directory. A systemd
// credential opens it: unlike a password that takes no time.
type place struct {
	t    *testing.T
	dir  string
	home string
	// stdin of the next commands
	input string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, dir: dir, home: filepath.Join(dir, "home")}
	runtime := filepath.Join(dir, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"XDG_RUNTIME_DIR": runtime, "XDG_DATA_HOME": filepath.Join(dir, "data"), "XDG_STATE_HOME": filepath.Join(dir, "state"),
		"VAULTDRIVE_VAULT": p.home + "/", "VAULTDRIVE_PASSWORD_FILE": "", "CREDENTIALS_DIRECTORY": dir,
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + filepath.Join(dir, "no-bus"), // nor the keyring of who runs the tests
	} {
		t.Setenv(name, value)
	}
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	model := filepath.Join(modelDir, "model")
	if _, err := os.Stat(model); err != nil {
		p.create()
		if err := os.CopyFS(model, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	} else if err := os.CopyFS(dir, os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	return p
}

// create makes the vault, which later places copy: Argon2id takes its time.
func (p *place) create() {
	pw := p.file("pw", testPassword+"\n")
	p.ok("init", "--kdf", "low", "--password-file", pw)
	p.ok("device", "enroll", "--password-file", pw, "--device-key", filepath.Join(p.dir, credentialDeviceKey))
}

// open unlocks the vault in this process.
func (p *place) open() (vaultHome, *vaultcore.Vault) {
	p.t.Helper()
	home, err := selectVault(p.home + "/")
	if err != nil {
		p.t.Fatal(err)
	}
	source := passwordSource{fd: -1}
	creds, err := source.credentials(p.t.Context(), &ui{err: io.Discard}, home)
	if err != nil {
		p.t.Fatal(err)
	}
	vault, err := openVault(p.t.Context(), home, creds, vaultcore.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	return home, vault
}

// file writes a file beside the vault and gives its path.
func (p *place) file(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// run is the command line as a shell would run it.
func (p *place) run(args ...string) (code int, out, said string) {
	p.t.Helper()
	u, outBuf, errBuf := testUI()
	u.in = strings.NewReader(p.input)
	code = runCommand(p.t.Context(), u, append([]string{"vaultdrive"}, args...))
	return code, outBuf.String(), errBuf.String()
}

func (p *place) ok(args ...string) string {
	p.t.Helper()
	code, out, said := p.run(args...)
	if code != 0 {
		p.t.Fatalf("vaultdrive %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, said)
	}
	return out
}

// serve holds the vault open behind its socket, as a mount does.
func (p *place) serve() {
	p.t.Helper()
	home, vault := p.open()
	dir, err := serveDir()
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := listenSocket(filepath.Join(dir, home.slot()+socketSuffix))
	if err != nil {
		p.t.Fatal(err)
	}
	s := &server{vault: vault, sync: newSyncing(vault, slog.New(slog.DiscardHandler)), since: time.Now()}
	httpServer := &http.Server{Handler: s.handler()}
	go httpServer.Serve(l)
	p.t.Cleanup(func() {
		if err := errors.Join(httpServer.Close(), vault.Close(context.Background())); err != nil {
			p.t.Error(err)
		}
	})
}

// script is a day in the life of a vault; the replies of both doors must be
// the same word for word.
func (p *place) script() string {
	p.t.Helper()
	tree := filepath.Join(p.dir, "tree")
	if err := errors.Join(os.MkdirAll(filepath.Join(tree, "sub", "empty"), 0o750),
		os.WriteFile(filepath.Join(tree, "sub", "two words.txt"), []byte("two\n"), 0o640),
		os.WriteFile(filepath.Join(tree, "big.bin"), make([]byte, 3<<20), 0o600),
		os.Symlink("sub/two words.txt", filepath.Join(tree, "link"))); err != nil {
		p.t.Fatal(err)
	}
	p.input = "from a pipe\n"
	var said strings.Builder
	for _, line := range [][]string{
		{"ls"}, {"asset", "add", "--type", "note", "Notes"}, {"asset", "add", "--type", "nothing", "X"}, {"asset", "add", "Notes"},
		{"put", "-", "Notes/piped.txt"}, {"put", "-", "Notes/piped.txt"}, {"put", "-f", "-", "Notes/piped.txt"},
		{"put", tree, "Tree"}, {"put", tree, "Notes"}, {"put", "-", "None/x"}, {"put", "-p", "-", "Made/on/the/way"}, {"put", "-", "top"},
		{"ls", "-R"}, {"ls", "--json", "Tree", "-R"}, {"ls", "Nothing"}, {"get", "Notes/piped.txt", "-"}, {"get", "Notes", "-"},
		{"get", "Tree", filepath.Join(p.dir, "out")}, {"get", "Tree/big.bin", filepath.Join(p.dir, "out")},
		{"mv", "Tree/big.bin", "Tree/sub/big2.bin"}, {"mv", "Tree/sub/big2.bin", "Made"}, {"mv", "Tree", "Wood"}, {"mv", "Wood", "Made"},
		{"mv", "Nothing", "Made"}, {"asset", "rename", "Wood", "Forest"}, {"asset", "list", "--json"},
		{"rm", "Forest/sub"}, {"rm", "-r", "Forest/sub"}, {"rm", "Forest"}, {"rm", "None"}, {"rm", "-f", "Made/none"}, {"asset", "rm", "Forest"},
		{"asset", "rm", "-r", "Forest", "--json"}, {"ls", "-lR"}, {"status", "Notes/piped.txt", "--json"}, {"trash", "list"},
		{"trash", "restore", "nothing"}, {"trash", "empty", "--yes"}, {"check", "--deep"}, {"check", "--json"}, {"events"},
		{"wait"}, {"rescue", "Notes/piped.txt", "-"}, {"rescue", "nothing", "-"},
	} {
		code, out, err := p.run(line...)
		said.WriteString("$ " + strings.Join(line, " ") + "\n" + out + err)
		said.WriteString("= " + string(rune('0'+code/100)) + string(rune('0'+code/10%10)) + string(rune('0'+code%10)) + "\n")
	}
	return said.String()
}

// TestTwoDoors runs the same commands on a vault that is open in another
// place, behind its socket, and on one that nobody has open.
func TestTwoDoors(t *testing.T) {
	varies := []struct{ pattern, as string }{
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "ID"},
		{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?`, "TIME"},
		{regexp.QuoteMeta(os.TempDir()) + `/TestTwoDoors\w*/\d+`, "DIR"},
		{`/\S*/TestTwoDoors\w*/\d+`, "DIR"},
		// How much of what was replaced is still there depends on the moment.
		{`[\d.]+ MiB: every byte|"bytes": \d+`, "BYTES"},
	}
	play := func(name string, serve bool) (said string) {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			if serve {
				p.serve()
			}
			said = p.script()
		})
		for _, v := range varies {
			said = regexp.MustCompile(v.pattern).ReplaceAllString(said, v.as)
		}
		return said
	}
	near, far := play("Process", false), play("Socket", true)
	a, b := strings.Split(near, "\n"), strings.Split(far, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("line %d differs:\nprocess: %s\nsocket:  %s\nall of it:\n%s", i, a[i], b[i], near)
		}
	}
	if len(a) != len(b) {
		t.Fatalf("%d lines and %d lines:\n%s", len(a), len(b), near)
	}
	for _, want := range []string{
		"$ ls\n= 000\n", "$ asset add Notes\nerror: already exists: Notes\n",
		"$ put - Notes/piped.txt\n= 000\n", "= 021\n$ put -f - Notes/piped.txt\n= 000\n", "$ put - top\nerror: operation not permitted",
		"$ ls -R\nMade/\nMade/on/\nMade/on/the/\nMade/on/the/way\nNotes/\nNotes/piped.txt\nNotes/tree/\n",
		"$ get Notes/piped.txt -\nfrom a pipe\n= 000\n", "$ mv Wood Made\nerror: Wood: assets and folders",
		"$ rm None\nerror: not found: None\n", "$ wait\n= 000\n", "$ rescue Notes/piped.txt -\nfrom a pipe\n= 000\n",
	} {
		if !strings.Contains(near, want) {
			t.Errorf("missing: %q\nin:\n%s", want, near)
		}
	}
}

func TestGetKeepsModesTimesAndLinks(t *testing.T) {
	p := newPlace(t)
	p.serve()
	tree := filepath.Join(p.dir, "tree")
	when := time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
	file := filepath.Join(tree, "file")
	if err := errors.Join(os.Mkdir(tree, 0o750), os.WriteFile(file, []byte("x"), 0o600), os.Chmod(file, 0o451),
		os.Chtimes(file, when, when), os.Symlink("/etc/passwd", filepath.Join(tree, "link"))); err != nil {
		t.Fatal(err)
	}
	p.ok("put", tree, "Tree")
	out := filepath.Join(p.dir, "out")
	p.ok("get", "Tree", out)
	st, err := os.Stat(filepath.Join(out, "file"))
	if err != nil || st.Mode().Perm() != 0o451 || !st.ModTime().Equal(when) {
		t.Errorf("file: %v, %v, %v", st.Mode(), st.ModTime(), err)
	}
	if dir, err := os.Stat(out); err != nil || dir.Mode().Perm() != 0o750 {
		t.Errorf("folder: %v, %v", dir.Mode(), err)
	}
	if target, err := os.Readlink(filepath.Join(out, "link")); target != "/etc/passwd" {
		t.Errorf("link: %q, %v", target, err)
	}
	// A link that lies here leads no content anywhere else.
	victim := p.file("victim", "mine")
	trap := filepath.Join(p.dir, "trap")
	if err := errors.Join(os.Mkdir(trap, 0o700), os.Symlink(p.dir, filepath.Join(trap, "Tree"))); err != nil {
		t.Fatal(err)
	}
	if code, _, said := p.run("get", "Tree", trap); code != 21 {
		t.Errorf("through a link: exit code %d, %s; want 21", code, said)
	}
	if b, err := os.ReadFile(victim); string(b) != "mine" {
		t.Errorf("victim: %q, %v", b, err)
	}
}

// TestRefusalBeforeTheBodyEnds: the answer to a content that is refused comes
// although most of it has not been sent.
func TestRefusalBeforeTheBodyEnds(t *testing.T) {
	p := newPlace(t)
	_, vault := p.open()
	cl := localClient(vault)
	defer cl.close(t.Context())
	for range 20 {
		_, err := cl.write(t.Context(), outgoing{path: "in the root"}, io.LimitReader(zeros{}, 1<<30))
		if !errors.Is(err, vaultcore.ErrPermission) {
			t.Fatalf("write: %v, want ErrPermission", err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestCutOffAnswers: a connection that breaks is never taken for an end.
func TestCutOffAnswers(t *testing.T) {
	l := newPipeListener()
	defer l.Close()
	answers := map[string]string{
		"frames":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"done\":1}\r\n",
		"frames2": "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"done\":1}\n",
		"content": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"partial": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"nothing": "",
	}
	for name, answer := range answers {
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, answer)
		}()
		cl := newClient(func() (net.Conn, error) { return l.dial() })
		var err error
		if strings.HasPrefix(name, "frames") {
			err = cl.stream(t.Context(), callCheck, none{}, func(frame) error { return nil })
		} else {
			var in *incoming
			if in, err = cl.read(t.Context(), callContent, nil); err == nil {
				_, err = io.Copy(io.Discard, in)
				in.Close()
			}
		}
		if !errors.Is(err, errDaemonLost) {
			t.Errorf("%s: %v, want errDaemonLost", name, err)
		}
		cl.close(t.Context())
	}
}

func TestUnknownCallSaysOtherVersion(t *testing.T) {
	s := &server{}
	l := newPipeListener()
	httpServer := &http.Server{Handler: s.handler()}
	go httpServer.Serve(l)
	defer httpServer.Close()
	cl := newClient(l.dial)
	for _, call := range []string{"of-the-future", callMove} {
		if err := cl.call(t.Context(), call, map[string]int{"of-the-future": 1}, nil); !errors.Is(err, errDaemonOld) {
			t.Errorf("%s: %v, want errDaemonOld", call, err)
		}
	}
}
