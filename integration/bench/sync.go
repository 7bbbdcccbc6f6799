package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	syncFile  = 10 << 10 // bytes of each of the many
	syncLarge = 1 << 30  // bytes of the one
)

// syncing measures the first synchronisation of two devices through an S3 server
// on this machine, beside rclone with a crypt remote on the same server: many
// files of 10 KiB, then one of 1 GiB, up from one device and down to another.
// Both ends are this machine, so the ratio counts, not the rate.
//
// Up is measured twice: from a plain directory, by cp into a mount and sync now,
// until the remote has confirmed everything; and of a vault at rest, whose
// contents were encrypted before. rclone copies from the same directory.
func syncing(w io.Writer, work string, o options) error {
	s, err := startSyncBench(w, work, o)
	if err != nil {
		return err
	}
	defer s.end()
	fmt.Fprintf(w, "%s, %s, versitygw, %s; medians of %d, ratios of each pair (least of them)\n\n"+
		"| | vaultdrive | rclone copy --transfers 8, crypt | ratio |\n|---|---:|---:|---:|\n",
		firstLine(o.program, "--version"), firstLine("rclone", "version"), machine(), o.repetitions)
	var joins []float64
	for _, part := range []struct {
		name  string
		files int
		size  int64
	}{{fmt.Sprintf("%d files of 10 KiB", o.sync), o.sync, syncFile}, {"one file of 1 GiB", 1, syncLarge}} {
		t, err := s.measure(part.files, part.size, o.repetitions)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		t.print(w, part.name)
		joins = append(joins, t[joining][:]...)
	}
	half, _ := middle(joins)
	_, err = fmt.Fprintf(w, "\njoin, which reads all names and derives the key twice: %.2f s\n", half)
	return err
}

// What is timed of a first synchronisation.
const (
	wholeUp   = iota // from a directory to the remote
	restingUp        // from a vault at rest to the remote
	joining
	down
	theirUp
	theirDown
	timings
)

// firstTimes are seconds, one of each repetition.
type firstTimes [timings][]float64

func (t *firstTimes) print(w io.Writer, name string) {
	for _, row := range []struct {
		what         string
		ours, theirs int
	}{
		{"up, cp from a directory and sync now", wholeUp, theirUp},
		{"up, of a vault at rest", restingUp, theirUp},
		{"down", down, theirDown},
	} {
		var ratios []float64
		least := 0.0
		for i, ours := range t[row.ours] {
			ratios = append(ratios, t[row.theirs][i]/ours)
			if i == 0 || ratios[i] < least {
				least = ratios[i]
			}
		}
		ours, _ := middle(t[row.ours])
		theirs, _ := middle(t[row.theirs])
		ratio, _ := middle(ratios)
		fmt.Fprintf(w, "| %s, %s | %.2f s | %.2f s | %.2f (%.2f) |\n", name, row.what, ours, theirs, ratio, least)
	}
}

// measure does one part: in each repetition rclone and vaultdrive one after the
// other, every second time the other way round.
func (s *syncBench) measure(files int, size int64, repetitions int) (*firstTimes, error) {
	source := filepath.Join(s.work, "source")
	if err := fillSource(source, files, size); err != nil {
		return nil, err
	}
	defer os.RemoveAll(source)
	t := &firstTimes{}
	for i := range repetitions {
		runs := []func(*firstTimes, string, int) error{s.wholeWay, s.rclone, s.restingWay}
		if i%2 == 1 {
			runs[0], runs[1] = runs[1], runs[0]
		}
		for _, run := range runs {
			if err := run(t, source, files); err != nil {
				return nil, err
			}
			if err := s.clear(); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// clear removes what a run left, at the remote too: the disk's writing it back must
// not reach into the next run.
func (s *syncBench) clear() error {
	s.unmount()
	var errs []error
	for _, d := range s.devices {
		errs = append(errs, os.RemoveAll(filepath.Dir(d.vault)))
	}
	s.devices = nil
	there, err := filepath.Glob(filepath.Join(s.work, "s3", "bench", "*"))
	for _, dir := range there {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(append(errs, err, exec.Command("sync").Run())...)
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

// mountedDevice is a device with a new vault that is mounted.
func (s *syncBench) mountedDevice() (*syncDevice, error) {
	d, err := s.newDevice()
	if err != nil {
		return nil, err
	}
	return d, d.steps([]string{"init", "--kdf", "low"}, []string{"mount", d.mnt})
}

func copyInto(source string, d *syncDevice) error {
	return exec.Command("cp", "-r", source, filepath.Join(d.mnt, "Source")).Run()
}

// wholeWay times everything from a plain directory to the remote, through a mount
// that is synchronised already, and then another device's way down.
func (s *syncBench) wholeWay(t *firstTimes, source string, _ int) error {
	first, err := s.mountedDevice()
	if err != nil {
		return err
	}
	remote := s.url(fmt.Sprintf("whole%d", s.count))
	if err := first.steps([]string{"sync enable", remote}, []string{"sync now"}); err != nil {
		return err
	}
	took, err := timed(func() error {
		if err := copyInto(source, first); err != nil {
			return err
		}
		return first.steps([]string{"sync now"})
	})
	if err != nil {
		return err
	}
	t[wholeUp] = append(t[wholeUp], took)
	if err := first.confirmed(); err != nil {
		return err
	}
	return s.wayDown(t, first, remote, source)
}

// wayDown times the joining of another device, then sync now on it.
func (s *syncBench) wayDown(t *firstTimes, first *syncDevice, remote, source string) error {
	second, took, err := s.joined(first, remote)
	if err != nil {
		return err
	}
	t[joining] = append(t[joining], took)
	if took, err = timed(func() error { return second.steps([]string{"sync now"}) }); err != nil {
		return err
	}
	t[down] = append(t[down], took)
	if err := second.steps([]string{"mount", second.mnt}); err != nil {
		return err
	}
	_, err = runEnv(os.Environ(), "diff", "-r", source, filepath.Join(second.mnt, "Source"))
	return err
}

// restingWay times the way up of a vault whose contents were made before.
func (s *syncBench) restingWay(t *firstTimes, source string, files int) error {
	first, err := s.mountedDevice()
	if err != nil {
		return err
	}
	if err := copyInto(source, first); err != nil {
		return err
	}
	if err := first.rest(files); err != nil {
		return err
	}
	took, err := timed(func() error {
		return first.steps([]string{"sync enable", s.url(fmt.Sprintf("rest%d", s.count))}, []string{"sync now"})
	})
	t[restingUp] = append(t[restingUp], took)
	return errors.Join(err, first.confirmed())
}
