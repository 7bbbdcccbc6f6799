package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keyID     = "bench"
	keySecret = "benchsecret"
)

// gateway is a running versitygw.
type gateway struct {
	cmd     *exec.Cmd
	address string
}

func startGateway(work string) (*gateway, error) {
	program := os.Getenv("VERSITYGW")
	if program == "" {
		program = "versitygw"
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0, or set VERSITYGW", err)
	}
	if _, err := exec.LookPath("rclone"); err != nil {
		return nil, fmt.Errorf("%w: apt-get install rclone", err)
	}
	root := filepath.Join(work, "s3")
	if err := os.MkdirAll(filepath.Join(root, "bench"), 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gateway{address: l.Addr().String()}
	l.Close()
	g.cmd = exec.Command(program, "--port", g.address, "--keep-alive", "--quiet", "posix", root)
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+keyID, "ROOT_SECRET_KEY="+keySecret)
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get("http://" + g.address); err == nil {
			res.Body.Close()
			return g, nil
		}
	}
	g.stop()
	return nil, errors.New("versitygw does not answer")
}

func (g *gateway) stop() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

// syncBench is what the measurements share.
type syncBench struct {
	*gateway
	work, program string
	out           io.Writer
	devices       []*syncDevice
	count         int // places made at the remote and on this machine
}

// startSyncBench starts an S3 server of its own for what is measured.
func startSyncBench(w io.Writer, work string, o options) (*syncBench, error) {
	g, err := startGateway(work)
	if err != nil {
		return nil, err
	}
	return &syncBench{gateway: g, work: work, program: o.program, out: w}, nil
}

// end unmounts what is mounted, and then stops the server.
func (s *syncBench) end() {
	s.unmount()
	s.stop()
}

// syncDevice is a machine with a home of its own.
type syncDevice struct {
	b          *syncBench
	vault, mnt string
	env        []string
}

func (s *syncBench) newDevice() (*syncDevice, error) {
	s.count++
	dir := filepath.Join(s.work, fmt.Sprintf("d%d", s.count))
	d := &syncDevice{b: s, vault: filepath.Join(dir, "vault"), mnt: filepath.Join(dir, "mnt")}
	if err := os.MkdirAll(d.mnt, 0o700); err != nil {
		return nil, err
	}
	d.env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir, "AWS_ACCESS_KEY_ID="+keyID, "AWS_SECRET_ACCESS_KEY="+keySecret)
	s.devices = append(s.devices, d)
	return d, os.WriteFile(d.passwordFile(), []byte("correct horse battery staple\n"), 0o600)
}

func (d *syncDevice) passwordFile() string { return filepath.Join(filepath.Dir(d.vault), "password") }

func (d *syncDevice) run(verb string, args ...string) (string, error) {
	all := append(strings.Fields(verb), "--vault", d.vault, "--password-file", d.passwordFile())
	return runEnv(d.env, d.b.program, append(all, args...)...)
}

func runEnv(env []string, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = env
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, text.String())
	}
	return out.String(), nil
}

func (d *syncDevice) steps(list ...[]string) error {
	for _, step := range list {
		if _, err := d.run(step[0], step[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func (s *syncBench) unmount() {
	for _, d := range s.devices {
		if !mounted(d.mnt) {
			continue
		}
		if _, err := runEnv(d.env, s.program, "umount", "--drain", "0s", d.mnt); err != nil {
			fmt.Fprintln(os.Stderr, "left mounted:", err)
		}
	}
}

// mounted says whether another file system begins at a directory.
func mounted(dir string) bool {
	var here, above unix.Stat_t
	return unix.Stat(dir, &here) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

func (s *syncBench) url(prefix string) string {
	return "s3://bench/" + prefix + "?endpoint=http://" + s.address + "&region=us-east-1&style=path"
}

// rest waits until all contents are files of their own: what was closed last waits
// in the database for that, and the copying is not what is measured.
func (d *syncDevice) rest(files int) error {
	if _, err := d.run("wait"); err != nil {
		return err
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		blobs, err := filepath.Glob(filepath.Join(d.vault, "attachments", "*.bin"))
		if err != nil || len(blobs) >= files {
			return err
		}
	}
	return errors.New("the vault does not come to rest")
}

func (d *syncDevice) address() (string, error) {
	text, err := d.run("sync status", "--json")
	if err != nil {
		return "", err
	}
	var status struct{ Address string }
	return status.Address, json.Unmarshal([]byte(text), &status)
}

// confirmed says whether nothing is left to be sent.
func (d *syncDevice) confirmed() error {
	text, err := d.run("sync status", "--json")
	if err != nil {
		return err
	}
	var status struct {
		Unsealed, Unpushed int
		Up                 struct{ Count int }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return err
	}
	if left := status.Unsealed + status.Unpushed + status.Up.Count; left > 0 {
		return fmt.Errorf("%d things are not at the remote after sync now", left)
	}
	return nil
}

// joined is another device of a vault, and the seconds that joining took.
func (s *syncBench) joined(first *syncDevice, remote string) (*syncDevice, float64, error) {
	address, err := first.address()
	if err != nil {
		return nil, 0, err
	}
	d, err := s.newDevice()
	if err != nil {
		return nil, 0, err
	}
	took, err := timed(func() error { return d.steps([]string{"join", "--remote", remote, "--yes", address}) })
	return d, took, err
}
