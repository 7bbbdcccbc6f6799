package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	joinPerFolder = 500
	joinIdle      = 60 * time.Second // that an idle device is watched for
)

var errNotAll = errors.New("not all came")

// joinLarge measures a device that joins a vault of many small files through an S3
// server: the time until it has all metadata, the memory of the program that joins
// and of the one that mounts then, and what the polls of an idle mount consist of.
func joinLarge(w io.Writer, work string, o options) error {
	s, err := startSyncBench(w, work, o)
	if err != nil {
		return err
	}
	defer s.end()
	fmt.Fprintf(w, "%s, versitygw, %s\n\n", firstLine(o.program, "--version"), machine())
	first, remote, err := s.manyFiles(o.join)
	if err != nil {
		return err
	}
	address, err := first.address()
	if err != nil {
		return err
	}
	s.unmount() // it is not what is measured
	for i := range o.repetitions {
		d, err := s.newDevice()
		if err != nil {
			return err
		}
		took, peak, err := d.joinMeasured(remote, address, o.join)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "join of %d files, %d: %.1f s, %.0f MiB resident at most\n", o.join, i+1, took, peak)
		if i < o.repetitions-1 {
			continue
		}
		if err := s.idle(w, d); err != nil {
			return err
		}
	}
	return nil
}

// manyFiles makes a vault of so many files and brings it to a remote.
func (s *syncBench) manyFiles(count int) (*syncDevice, string, error) {
	d, err := s.mountedDevice()
	if err != nil {
		return nil, "", err
	}
	took, err := timed(func() error {
		for i := range count {
			dir := filepath.Join(d.mnt, fmt.Sprintf("Folder %04d", i/joinPerFolder))
			if i%joinPerFolder == 0 {
				if err := os.Mkdir(dir, 0o700); err != nil {
					return err
				}
			}
			name := filepath.Join(dir, fmt.Sprintf("file number %06d.txt", i))
			if err := os.WriteFile(name, strconv.AppendInt(nil, int64(i), 10), 0o600); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	remote := s.url("many")
	sent, err := timed(func() error { return d.steps([]string{"sync enable", remote}, []string{"sync now"}) })
	fmt.Fprintf(s.out, "%d files made in %.1f s, sent in %.1f s\n", count, took, sent)
	return d, remote, errors.Join(err, d.confirmed())
}

// joinMeasured joins and gives seconds, and MiB of the program at most. Contents are
// left where they are: how long these take depends on their size.
func (d *syncDevice) joinMeasured(remote, address string, files int) (took, peak float64, err error) {
	cmd := exec.Command(d.b.program, "join", "--vault", d.vault, "--password-file", d.passwordFile(), "--remote", remote,
		"--prefetch", "none", "--yes", "--json", address)
	cmd.Env = d.env
	var out []byte
	took, err = timed(func() error {
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("join: %w", err)
	}
	var found struct{ Files int }
	if err := json.Unmarshal(out, &found); err != nil || found.Files != files {
		return 0, 0, fmt.Errorf("join found %d files of %d: %w", found.Files, files, errors.Join(err, errNotAll))
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return took, float64(usage.Maxrss) / 1024, nil
}

// idle mounts a device, lets it come to rest, and looks at what it asks its remote.
func (s *syncBench) idle(w io.Writer, d *syncDevice) error {
	line, err := listenCounting(s.address)
	if err != nil {
		return err
	}
	defer line.stop()
	direct := s.address
	s.address = line.address
	defer func() { s.address = direct }()
	if err := d.steps([]string{"sync enable", s.url("many")}); err != nil {
		return err
	}
	c := &contestant{name: "joined", mnt: d.mnt, log: filepath.Join(filepath.Dir(d.vault), "log"), env: d.env,
		argv: []string{s.program, "mount", "--foreground", "--vault", d.vault, "--password-file", d.passwordFile(), d.mnt}}
	mounted, err := c.mount()
	if err != nil {
		return err
	}
	if err := d.steps([]string{"sync now"}); err != nil {
		return errors.Join(err, c.unmount())
	}
	time.Sleep(5 * time.Second) // what sync now brought about has ended
	before := line.read()
	time.Sleep(joinIdle)
	after := line.read()
	fmt.Fprintf(w, "mounted after %.2f s, %.0f MiB resident at most, %.0f after a minute\n", mounted.Seconds(),
		float64(peakMemory(c.process.Process.Pid))/1024, residentMemory(c.process.Process.Pid))
	requests := after.requests - before.requests
	if requests == 0 {
		return errors.Join(fmt.Errorf("no request in %v", joinIdle), c.unmount())
	}
	fmt.Fprintf(w, "idle for %v: %d requests, each %d bytes there and %d back\n", joinIdle, requests,
		(after.sent-before.sent)/requests, (after.received-before.received)/requests)
	return c.unmount()
}
