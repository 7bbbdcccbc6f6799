package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// powerBox is a child process that serves a disk. It is a process of its own so
// that the test, which works on files of the disk, never serves its own calls.
type powerBox struct {
	t   testing.TB
	dir string // where the disk is mounted
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newPowerBox(t testing.TB) *powerBox {
	t.Helper()
	needFUSE(t)
	b := &powerBox{t: t, dir: shortTemp(t, "disk")}
	b.cmd = exec.Command(testBinary)
	b.cmd.Env = append(os.Environ(), roleVariable+"=powerbox", "POWERBOX_DIR="+b.dir)
	b.cmd.Stderr = os.Stderr
	var err error
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.out = bufio.NewReader(out)
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	b.expect("ready")
	return b
}

// say sends one command and returns the words of its answer.
func (b *powerBox) say(format string, args ...any) []string {
	b.t.Helper()
	if _, err := fmt.Fprintf(b.in, format+"\n", args...); err != nil {
		b.t.Fatalf("power box: %v", err)
	}
	return b.expect("ok")
}

func (b *powerBox) expect(word string) []string {
	b.t.Helper()
	line, err := b.out.ReadString('\n')
	if err != nil {
		b.t.Fatalf("power box ended: %v", err)
	}
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != word {
		b.t.Fatalf("power box: %s", strings.TrimSpace(line))
	}
	return words[1:]
}

// cut takes the power away: all changes and fsyncs fail from here on.
func (b *powerBox) cut() { b.t.Helper(); b.say("cut") }

// arm cuts before the n-th change or fsync from now.
func (b *powerBox) arm(n int) { b.t.Helper(); b.say("arm %d", n) }

// calls is how many changes and fsyncs the disk has seen.
func (b *powerBox) calls() int {
	b.t.Helper()
	n, err := strconv.Atoi(b.say("calls")[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// restore brings the power back: dir then shows what the cut left. Nothing may
// be open on the disk. The same cut can be restored again with another seed.
func (b *powerBox) restore(l loss, seed uint64) { b.t.Helper(); b.say("restore %s %d", l, seed) }

func (b *powerBox) close() {
	b.in.Close()
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("power box: %v", err)
	}
	unmountForSure(b.t, b.dir)
}

// servePowerBox is the child. It answers each line of its input with one line.
func servePowerBox() error {
	dir := os.Getenv("POWERBOX_DIR")
	live := newDisk()
	var broken *disk // the last cut, for restores
	server, err := mountDisk(live, dir)
	if err != nil {
		return err
	}
	defer func() {
		if server.Unmount() != nil {
			syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	}()
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch words[0] {
		case "cut":
			live.cut()
			broken = live
		case "arm":
			live.mu.Lock()
			live.armed, _ = strconv.Atoi(words[1])
			live.mu.Unlock()
		case "calls":
			live.mu.Lock()
			n := live.calls
			live.mu.Unlock()
			fmt.Println("ok", n)
			continue
		case "restore":
			seed, _ := strconv.ParseUint(words[2], 10, 64)
			// A process that has just died, or is being forked, may hold the disk for a moment.
			if !poll(patience, func() bool { err = server.Unmount(); return err == nil }) {
				fmt.Println("unmount:", err)
				continue
			}
			live = broken.after(loss(words[1]), seed)
			if server, err = mountDisk(live, dir); err != nil {
				return err
			}
		}
		fmt.Println("ok")
	}
	return in.Err()
}
