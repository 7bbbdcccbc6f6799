package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// readmeLocation is what the README tells the operators of nginx to write.
func readmeLocation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	must(t, err)
	m := regexp.MustCompile(`(?s)\n +location / \{.*?\n +\}\n`).Find(text)
	if m == nil {
		t.Fatal("the README has no lines for nginx")
	}
	return string(m)
}

// behindNginx puts nginx, configured as the README says, in front of a world, and
// makes it the address that people use from then on.
func behindNginx(t *testing.T, w *world) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed: apt-get install nginx-light")
	}
	dir := t.TempDir()
	// At 127.0.0.1 a connection of another test might take the port before nginx has it.
	address := fmt.Sprintf("127.%d.%d.%d:8780", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	location := strings.ReplaceAll(readmeLocation(t), "http://127.0.0.1:8780", w.http.URL)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	config := fmt.Sprintf("daemon off; worker_processes 1; %[1]s pid %[2]s/pid; error_log %[2]s/error;\nevents {}\nhttp { access_log off; "+
		"client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;\n"+
		"server { listen %[3]s;\n%[4]s } }\n", user, dir, address, location)
	must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600))
	cmd := exec.Command(program, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir, "-e", filepath.Join(dir, "error"))
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "error")); err == nil && t.Failed() {
			t.Logf("nginx: %s", log)
		}
	})
	until(t, "nginx answers", func() bool {
		res, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})
	w.http.URL = "http://" + address
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// The lines of the README carry what the API promises: the largest body, the
// refusal of a longer one, bodies and answers that are passed on as they come,
// long polls, and the client's address, which it cannot choose itself.
func TestBehindNginx(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "meta.db"), Options{TrustProxy: true, Quota: 1 << 30})
	p := w.register()
	item := p.parent("item")
	behindNginx(t, w)

	row := p.upload("item", item, make([]byte, api.MaxSealed3))
	if got := p.do("GET", api.PathContent(row.ID), nil).want(http.StatusOK); len(got.body) != api.MaxSealed3 {
		t.Fatalf("%d bytes came back", len(got.body))
	}
	p.do("POST", api.PathAttachments, strings.NewReader(strings.Repeat(" ", api.MaxJSONUpload+1)), "Content-Type", api.TypeJSON).code(api.CodeBodyTooLarge)
	passedOn(t, p, item)
	answerPassedOn(t, p, row)
	pollThrough(t, p)
	limited := false
	for i := 0; i < 100 && !limited; i++ {
		a := p.do("POST", api.PathChallenge, api.AskChallenge{DID: p.did(), Device: p.device}, "X-Forwarded-For", fmt.Sprintf("10.0.0.%d", i))
		limited = a.status == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("a client behind the proxy chooses its own address")
	}
}

// passedOn sends half of a body and waits for the server to be at work on it.
func passedOn(t *testing.T, p *person, item string) {
	body, err := json.Marshal(uploadBody("item", item, make([]byte, 4<<20)))
	must(t, err)
	c, err := net.Dial("tcp", strings.TrimPrefix(p.w.http.URL, "http://"))
	must(t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		api.PathAttachments, p.token, len(body))
	must(t, err)
	_, err = c.Write(body[:len(body)/2])
	must(t, err)
	until(t, "the server sees the begin of the body", func() bool {
		files, err := os.ReadDir(p.w.o.Temp)
		must(t, err)
		return len(files) == 1
	})
	_, err = c.Write(body[len(body)/2:])
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status)
	}
}

// answerPassedOn stops reading in the midst of an answer: the server must then
// wait, as it would not if nginx took all of it.
func answerPassedOn(t *testing.T, p *person, row api.Row) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) }), err)
	}}
	client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequest("GET", p.w.http.URL+api.PathContent(row.ID), nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+p.token)
	answered := func() int {
		return strings.Count(p.w.logs.String(), `"route":"GET /api/vault/attachments/{id}/content"`)
	}
	until(t, "the content that came whole is in the log", func() bool { return answered() == 1 }) // which is written when it has gone
	res, err := client.Do(req)
	must(t, err)
	defer res.Body.Close()
	_, err = io.ReadFull(res.Body, make([]byte, 64<<10))
	must(t, err)
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if answered() != 1 {
			t.Fatal("nginx keeps the whole answer, which its client has not taken")
		}
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil || n != api.MaxSealed3-64<<10 {
		t.Errorf("%d more bytes, %v", n, err)
	}
}

// pollThrough waits through the proxy, whose patience is longer than a poll.
func pollThrough(t *testing.T, p *person) {
	m := regexp.MustCompile(`proxy_read_timeout (\d+)s`).FindStringSubmatch(readmeLocation(t))
	if m == nil {
		t.Fatal("no proxy_read_timeout")
	}
	if s, err := strconv.Atoi(m[1]); err != nil || time.Duration(s)*time.Second <= api.MaxWait {
		t.Errorf("nginx gives up after %s s", m[1])
	}
	var usage api.Changes
	p.do("GET", api.PathVault(p.vault)+"/changes?after=0", nil).want(http.StatusOK).into(&usage)
	answer := make(chan *answer, 1)
	go func() {
		answer <- p.do("GET", fmt.Sprintf("%s/changes?after=%d&wait=55", api.PathVault(p.vault), usage.Head), nil)
	}()
	until(t, "the poll waits", func() bool {
		p.w.wakeups.mu.Lock()
		defer p.w.wakeups.mu.Unlock()
		return len(p.w.wakeups.m) == 1
	})
	id := p.parent("note")
	select {
	case a := <-answer:
		if !bytes.Contains(a.want(http.StatusOK).body, []byte(id)) {
			t.Errorf("%s", a.body)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("no answer")
	}
}

// A client that closes after its request is still sending when it is refused: it
// has time to read its answer before the connection is reset.
func TestRefusedWhileSending(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "meta.db"), Options{})
	p := w.register()
	for _, begin := range []string{"HTTP/1.0\r\n", "HTTP/1.1\r\nConnection: close\r\n", "HTTP/1.1\r\n"} {
		// On a busy machine this client may come late to its answer, but not always.
		for try := 1; ; try++ {
			status, left, err := p.refusedWhileSending(begin)
			if err == nil && status == http.StatusRequestEntityTooLarge && left >= lingerTime/2 {
				break
			}
			if try == 20 {
				t.Errorf("%q: %d, and %v to read it: %v", begin, status, left, err)
				break
			}
		}
	}
}

// refusedWhileSending sends more than the server takes, and says how long it could
// go on after it had read the answer.
func (p *person) refusedWhileSending(begin string) (status int, left time.Duration, err error) {
	c, err := net.Dial("tcp", strings.TrimPrefix(p.w.http.URL, "http://"))
	must(p.w.t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "POST %s %sHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		api.PathAttachments, begin, p.token, api.MaxJSONUpload+1)
	must(p.w.t, err)
	cut := make(chan time.Time, 1)
	go func() {
		_, _ = io.CopyN(c, zeros{}, api.MaxJSONUpload+1) // it fails when the server has had enough
		cut <- time.Now()
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, 0, err
	}
	res.Body.Close()
	at := time.Now()
	return res.StatusCode, (<-cut).Sub(at), nil
}
