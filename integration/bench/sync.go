package main

import (
	"bytes"
	"crypto/rand"
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
	syncFile  = 10 << 10 // bytes of each of the many
	syncLarge = 1 << 30  // bytes of the one
	keyID     = "bench"
	keySecret = "benchsecret"
)

// syncing measures the first synchronisation of two devices through an S3 server
// on this machine, beside rclone with a crypt remote on the same server: many
// files of 10 KiB, then one of 1 GiB, up from one device and down to another,
// and how soon a save is read on the other one. Both ends are this machine, so
// the ratio counts, not the rate.
func syncing(w io.Writer, work string, o options) error {
	g, err := startGateway(work)
	if err != nil {
		return err
	}
	defer g.stop()
	s := &syncBench{gateway: g, work: work, program: o.program, out: w}
	defer s.unmount()
	fmt.Fprintf(w, "%s, %s, versitygw, %s\n\n| | vaultdrive | rclone copy --transfers 8, crypt | ratio |\n|---|---:|---:|---:|\n",
		firstLine(o.program, "--version"), firstLine("rclone", "version"), machine())
	for _, part := range []struct {
		name  string
		files int
		size  int64
	}{{fmt.Sprintf("%d files of 10 KiB", o.sync), o.sync, syncFile}, {"one file of 1 GiB", 1, syncLarge}} {
		if err := s.measure(part.name, part.files, part.size); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Fprintf(w, "\njoin, which reads all names and derives the key twice: %.2f s, %.2f s\n", s.joins[0], s.joins[1])
	return s.saves()
}

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
	count         int
	joins         []float64 // s, of each device that read all names
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
	return d, os.WriteFile(filepath.Join(dir, "password"), []byte("correct horse battery staple\n"), 0o600)
}

func (d *syncDevice) run(verb string, args ...string) (string, error) {
	all := append(strings.Fields(verb), "--vault", d.vault, "--password-file", filepath.Join(filepath.Dir(d.vault), "password"))
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

// measure does one row, the two contestants one after the other.
func (s *syncBench) measure(name string, files int, size int64) error {
	source := filepath.Join(s.work, "source")
	if err := fillSource(source, files, size); err != nil {
		return err
	}
	defer os.RemoveAll(source)
	up, down, err := s.ours(source, files)
	if err != nil {
		return err
	}
	theirUp, theirDown, err := s.rclone(source)
	if err != nil {
		return err
	}
	for _, row := range []struct {
		what         string
		ours, theirs float64
	}{{"up", up, theirUp}, {"down", down, theirDown}} {
		fmt.Fprintf(s.out, "| %s, %s | %.2f s | %.2f s | %.2f x |\n", name, row.what, row.ours, row.theirs, row.theirs/row.ours)
	}
	return nil
}

func fillSource(dir string, files int, size int64) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("file-%05d", i)))
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, rand.Reader, size)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// ours copies the source into a mount, then times sync now there, and on a
// device that has just joined.
func (s *syncBench) ours(source string, files int) (up, down float64, err error) {
	first, err := s.newDevice()
	if err != nil {
		return 0, 0, err
	}
	if err := first.steps([]string{"init", "--kdf", "low"}, []string{"mount", first.mnt}); err != nil {
		return 0, 0, err
	}
	if err := exec.Command("cp", "-r", source, filepath.Join(first.mnt, "Source")).Run(); err != nil {
		return 0, 0, err
	}
	if err := first.rest(files); err != nil {
		return 0, 0, err
	}
	remote := s.url(fmt.Sprintf("ours%d", s.count))
	up, err = timed(func() error {
		return first.steps([]string{"sync enable", remote}, []string{"sync now"})
	})
	if err != nil {
		return 0, 0, err
	}
	address, err := first.address()
	if err != nil {
		return 0, 0, err
	}
	second, err := s.newDevice()
	if err != nil {
		return 0, 0, err
	}
	joining, err := timed(func() error { return second.steps([]string{"join", "--remote", remote, "--yes", address}) })
	if err != nil {
		return 0, 0, err
	}
	s.joins = append(s.joins, joining)
	if down, err = timed(func() error { return second.steps([]string{"sync now"}) }); err != nil {
		return 0, 0, err
	}
	if err := second.steps([]string{"mount", second.mnt}); err != nil {
		return 0, 0, err
	}
	_, err = runEnv(os.Environ(), "diff", "-r", source, filepath.Join(second.mnt, "Source"))
	return up, down, err
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

func (s *syncBench) rclone(source string) (up, down float64, err error) {
	password, err := runEnv(os.Environ(), "rclone", "obscure", "correct horse battery staple")
	if err != nil {
		return 0, 0, err
	}
	config := filepath.Join(s.work, "rclone.conf")
	text := fmt.Sprintf("[s3]\ntype = s3\nprovider = Other\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = http://%s\nregion = us-east-1\n"+
		"[crypt]\ntype = crypt\nremote = s3:bench/rclone%d\npassword = %s\n", keyID, keySecret, s.address, s.count, strings.TrimSpace(password))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return 0, 0, err
	}
	copyTo := func(from, to string) (float64, error) {
		return timed(func() error {
			// Without this machine's own settings for AWS.
			env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.work}
			_, err := runEnv(env, "rclone", "--config", config, "copy", "--transfers", "8", from, to)
			return err
		})
	}
	if up, err = copyTo(source, "crypt:source"); err != nil {
		return 0, 0, err
	}
	back := filepath.Join(s.work, "back")
	defer os.RemoveAll(back)
	if down, err = copyTo("crypt:source", back); err != nil {
		return 0, 0, err
	}
	_, err = runEnv(os.Environ(), "diff", "-r", source, back)
	return up, down, err
}

// saves prints how long after a close a file of 1 MiB is read on the other of
// the last two devices, by default polling and with sync now on both.
func (s *syncBench) saves() error {
	from, to := s.devices[len(s.devices)-2], s.devices[len(s.devices)-1]
	for _, how := range []struct {
		name  string
		count int
		asked bool
	}{{"default polling", 5, false}, {"`sync now` on both", 20, true}} {
		var seconds []float64
		for i := range how.count {
			took, err := s.save(from, to, fmt.Sprintf("%d-%v", i, how.asked), how.asked)
			if err != nil {
				return err
			}
			seconds = append(seconds, took)
		}
		worst := 0.0
		for _, v := range seconds {
			worst = max(worst, v)
		}
		half, _ := middle(seconds)
		fmt.Fprintf(s.out, "\na save of 1 MiB read on the other device, %s: median %.2f s, worst of %d %.2f s\n", how.name, half, how.count, worst)
	}
	return nil
}

func (s *syncBench) save(from, to *syncDevice, name string, asked bool) (float64, error) {
	data := make([]byte, 1<<20)
	rand.Read(data)
	file := filepath.Join("Source", "save-"+name)
	if err := os.WriteFile(filepath.Join(from.mnt, file), data, 0o600); err != nil {
		return 0, err
	}
	return timed(func() error {
		if asked {
			if err := errors.Join(from.steps([]string{"sync now"}), to.steps([]string{"sync now"})); err != nil {
				return err
			}
		}
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if got, err := os.ReadFile(filepath.Join(to.mnt, file)); err == nil && bytes.Equal(got, data) {
				return nil
			}
		}
		return fmt.Errorf("%s did not come within a minute", file)
	})
}
