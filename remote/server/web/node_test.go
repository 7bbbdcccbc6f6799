package web_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// leastNode is the first version whose WebCrypto has all that the page needs.
const leastNode = 20

// bridge is a Node process that runs the page's modules.
type bridge struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// startNode skips where there is no Node that can.
func startNode(t *testing.T) *bridge {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed (Debian: apt-get install nodejs)")
	}
	version, err := exec.Command(node, "--version").Output()
	must(t, err)
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < leastNode {
		t.Skipf("node is %s; the page's modules need %d", strings.TrimSpace(string(version)), leastNode)
	}
	cmd := exec.Command(node, "--no-warnings", "testdata/bridge.mjs")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	return &bridge{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
}

type fields map[string]any

// call gives the answer of an operation, or the code of its error.
func (b *bridge) call(op string, arg fields, answer any) (code string) {
	b.t.Helper()
	q := fields{"op": op}
	for k, v := range arg {
		q[k] = v
	}
	line, err := json.Marshal(q)
	must(b.t, err)
	_, err = b.in.Write(append(line, '\n'))
	must(b.t, err)
	line, err = b.out.ReadBytes('\n')
	must(b.t, err)
	var failed struct{ Error string }
	must(b.t, json.Unmarshal(line, &failed))
	if failed.Error == "" && answer != nil {
		must(b.t, json.Unmarshal(line, answer))
	}
	return failed.Error
}

// ok is call for what must work.
func (b *bridge) ok(op string, arg fields, answer any) {
	b.t.Helper()
	if code := b.call(op, arg, answer); code != "" {
		b.t.Fatalf("%s: %s", op, code)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
