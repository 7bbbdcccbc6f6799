package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium that a test steers by its DevTools protocol,
// over pipes: messages of JSON that end with a zero byte.
type browser struct {
	t         *testing.T
	in        *os.File
	downloads string
	session   string
	said      []string          // by the page's console, and exceptions
	pictures  []json.RawMessage // pieces of the memory's

	mu      sync.Mutex
	id      int
	waiting map[int]chan devtoolsReply
}

type devtoolsReply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// startBrowser opens a page; the browser ends with the test.
func startBrowser(t *testing.T, url string) *browser {
	t.Helper()
	program := needTool(t, "chromium", "chromium")
	dir := shortTemp(t, "browser")
	b := &browser{t: t, downloads: filepath.Join(dir, "downloads"), waiting: map[int]chan devtoolsReply{}}
	must(t, os.Mkdir(b.downloads, 0o700))
	fromTest, toBrowser, err := os.Pipe()
	must(t, err)
	fromBrowser, toTest, err := os.Pipe()
	must(t, err)
	args := []string{"--headless", "--remote-debugging-pipe", "--user-data-dir=" + filepath.Join(dir, "profile"), "--no-first-run", "--disable-gpu",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "about:blank"}
	if os.Geteuid() == 0 {
		args = append([]string{"--no-sandbox"}, args...) // Chromium refuses root its own sandbox
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.ExtraFiles = []*os.File{fromTest, toTest} // as 3 and 4
	must(t, cmd.Start())
	fromTest.Close()
	toTest.Close()
	b.in = toBrowser
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(fromBrowser)
	}()
	t.Cleanup(func() {
		b.end(cmd)
		toBrowser.Close()
		<-read
		fromBrowser.Close()
	})
	b.open(url)
	return b
}

// end asks the browser to end, and ends it if it does not.
func (b *browser) end(cmd *exec.Cmd) {
	go b.command("", "Browser.close", nil) // it may be gone before it answers
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	var target struct{ TargetID, SessionID string }
	b.must("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.must("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.must("", "Browser.setDownloadBehavior", map[string]any{"behavior": "allow", "downloadPath": b.downloads}, nil)
	for _, domain := range []string{"Page", "Runtime", "DOM", "Log"} {
		b.must(b.session, domain+".enable", nil, nil)
	}
	b.must(b.session, "Page.navigate", map[string]any{"url": url}, nil)
}

// read hands out answers, and keeps what the page complains of.
func (b *browser) read(pipe *os.File) {
	r := bufio.NewReaderSize(pipe, 1<<20)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var m devtoolsReply
		if json.Unmarshal(line[:len(line)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			b.waiting[m.ID] <- m
			delete(b.waiting, m.ID)
		case m.Method == "Runtime.exceptionThrown" || m.Method == "Log.entryAdded" || m.Method == "Runtime.consoleAPICalled":
			b.said = append(b.said, string(m.Params))
		case m.Method == "HeapProfiler.addHeapSnapshotChunk":
			b.pictures = append(b.pictures, m.Params)
		}
		b.mu.Unlock()
	}
}

var errBrowserGone = errors.New("the browser ended")

func (b *browser) command(session, method string, params any) (json.RawMessage, error) {
	answer := make(chan devtoolsReply, 1)
	b.mu.Lock()
	if b.waiting == nil {
		b.mu.Unlock()
		return nil, errBrowserGone
	}
	b.id++
	q := map[string]any{"id": b.id, "method": method}
	b.waiting[b.id] = answer
	b.mu.Unlock()
	if params != nil {
		q["params"] = params
	}
	if session != "" {
		q["sessionId"] = session
	}
	line, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if _, err := b.in.Write(append(line, 0)); err != nil {
		return nil, err
	}
	select {
	case m, ok := <-answer:
		if !ok {
			return nil, errBrowserGone
		}
		if m.Error != nil {
			return nil, errors.New(m.Error.Message)
		}
		return m.Result, nil
	case <-time.After(patience):
		return nil, errTooSlow
	}
}

func (b *browser) must(session, method string, params, answer any) {
	b.t.Helper()
	result, err := b.command(session, method, params)
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	if answer != nil {
		must(b.t, json.Unmarshal(result, answer))
	}
}

// eval runs an expression in the page and gives its value as text.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.must(b.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, got.ExceptionDetails)
	}
	return fmt.Sprint(got.Result.Value)
}

// until waits for an expression to be true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	if !poll(patience, func() bool { return b.eval(expression) == "true" }) {
		b.t.Fatalf("not within %v: %s\n%s\n%s", patience, what, b.eval("document.body.innerText"), strings.Join(b.complaints(), "\n"))
	}
}

// typeInto puts text into a field as a person does, key by key for the page.
func (b *browser) typeInto(selector, text string) {
	b.t.Helper()
	b.eval(fmt.Sprintf("document.querySelector(%q).focus(), document.querySelector(%q).select()", selector, selector))
	b.must(b.session, "Input.insertText", map[string]any{"text": text}, nil)
}

// click clicks the first element of a selector that has a text.
func (b *browser) click(selector, text string) {
	b.t.Helper()
	b.eval(fmt.Sprintf("[...document.querySelectorAll(%q)].find(e => e.textContent.includes(%q)).click()", selector, text))
}

// choose gives files to a file field.
func (b *browser) choose(selector string, files ...string) {
	b.t.Helper()
	var doc struct{ Root struct{ NodeID int } }
	b.must(b.session, "DOM.getDocument", nil, &doc)
	var node struct{ NodeID int }
	b.must(b.session, "DOM.querySelector", map[string]any{"nodeId": doc.Root.NodeID, "selector": selector}, &node)
	b.must(b.session, "DOM.setFileInputFiles", map[string]any{"nodeId": node.NodeID, "files": files}, nil)
}

// downloaded waits for a file that the page delivers, and gives its content.
func (b *browser) downloaded(name string, size int) []byte {
	b.t.Helper()
	var content []byte
	if !poll(patience, func() bool {
		var err error
		content, err = os.ReadFile(filepath.Join(b.downloads, name))
		return err == nil && len(content) == size
	}) {
		list, _ := os.ReadDir(b.downloads)
		b.t.Fatalf("%s with %d bytes was not delivered: %v\n%s", name, size, list, b.eval("document.body.innerText"))
	}
	return content
}

func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.said...)
}

// picture keeps what the page looks like, where VD_PICTURES names a directory.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("VD_PICTURES")
	if dir == "" {
		return
	}
	var shot struct{ Data []byte }
	b.must(b.session, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	must(b.t, os.WriteFile(filepath.Join(dir, name+".png"), shot.Data, 0o600))
}
