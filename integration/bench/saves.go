package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// savePolled is how many times as many saves are measured with sync now as by
// polling, which takes seconds.
const savePolled = 5

// saving measures how long after a close a file of 1 MiB is read on another
// mounted device, through an S3 server on this machine: count times by default
// polling, savePolled times as often with sync now on both.
func saving(w io.Writer, work string, o options) error {
	s, err := startSyncBench(w, work, o)
	if err != nil {
		return err
	}
	defer s.end()
	from, to, err := s.pair(s.url("pair"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, versitygw, %s\n\n| 1 MiB read on the other device | saves | median | p95 | worst |\n|---|---:|---:|---:|---:|\n",
		firstLine(o.program, "--version"), machine())
	for _, how := range []struct {
		name  string
		count int
		asked bool
	}{{"default polling", o.saves, false}, {"`sync now` on both", savePolled * o.saves, true}} {
		var seconds []float64
		for i := range how.count {
			took, err := s.save(from, to, fmt.Sprintf("%d-%v", i, how.asked), how.asked)
			if err != nil {
				return err
			}
			seconds = append(seconds, took)
		}
		half, _ := middle(seconds)
		fmt.Fprintf(w, "| %s | %d | %.3f s | %.3f s | %.3f s |\n", how.name, how.count, half, percentile(seconds, 95), slices.Max(seconds))
	}
	return nil
}

// percentile is the least value that at least so many of a hundred do not exceed.
func percentile(values []float64, percent int) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[max(0, (len(v)*percent+99)/100-1)]
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
