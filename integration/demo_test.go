package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// demo is a running `vaultdrive demo DIR`.
type demo struct {
	t      testing.TB
	b      *bed
	dir    string
	cmd    *exec.Cmd
	out    bytes.Buffer
	exited chan error
}

func startDemo(t testing.TB, b *bed, dir string) *demo {
	t.Helper()
	needFUSE(t)
	d := &demo{t: t, b: b, dir: dir, cmd: b.plain("demo", dir), exited: make(chan error, 1)}
	temp := filepath.Join(b.dir, "tmp")
	must(t, os.MkdirAll(temp, 0o700))
	d.cmd.Env = append(d.cmd.Env, "TMPDIR="+temp)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	must(t, d.cmd.Start())
	go func() { d.exited <- d.cmd.Wait() }()
	t.Cleanup(func() { unmountForSure(t, dir) })
	waitFor(t, "the demo is mounted", patience, func() bool {
		list, err := os.ReadDir(dir)
		return isMounted(dir) && err == nil && len(list) > 1
	})
	return d
}

// interrupt is Ctrl-C: the demo goes, and nothing of it stays.
func (d *demo) interrupt() {
	d.t.Helper()
	must(d.t, d.cmd.Process.Signal(syscall.SIGINT))
	select {
	case err := <-d.exited:
		if err != nil {
			d.t.Errorf("demo: %v\n%s", err, d.out.String())
		}
	case <-time.After(5 * time.Minute):
		d.cmd.Process.Kill()
		d.t.Fatalf("demo lives five minutes after Ctrl-C")
	}
	if d.out.Len() == 0 {
		d.t.Error("demo printed nothing to try")
	}
	if isMounted(d.dir) {
		d.t.Errorf("%s is still mounted", d.dir)
	}
	if left, _ := os.ReadDir(filepath.Join(d.b.dir, "tmp")); len(left) > 0 {
		d.t.Errorf("demo left %v", left)
	}
}
