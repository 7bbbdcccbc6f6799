package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The loads: what a program waits for while others write, and what many streams
// at once cost in memory.
const (
	loadSize     = 1 << 30
	closeSmall   = 10_000 // samples of closing 4 KiB
	closeLarge   = 1000   // samples of closing 5 MiB
	streamCount  = 64
	streamV3     = 20 * mib // sealed whole, if not all is version 4
	streamV4     = 40 * mib
	streamBlocks = 128 << 10
)

// latency measures how long close takes while a file of 1 GiB is written over
// and over, and while another writer waits for the disk without a pause.
func (s *step) latency() error {
	// Who comes back from a system call must not wait for a place to run in.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	if err := s.player.cold(); err != nil {
		return err
	}
	for _, kind := range []struct {
		name          string
		size, samples int
	}{{"4k", 4096, closeSmall}, {"5m", 5 * mib, closeLarge}} {
		load := startLoad(s)
		err := s.closing(kind.name, kind.size, kind.samples)
		if err = errors.Join(err, load.stop()); err != nil {
			return err
		}
		load.note(s, kind.name)
	}
	return nil
}

// closing saves files of one size and notes how long each close took.
func (s *step) closing(name string, size, samples int) error {
	dir := s.path("closing-" + name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var wholes, closes []float64
	for i := range samples {
		data := s.source.data[(i*size)%(len(s.source.data)-size):][:size]
		// Twenty names take turns if the files are large: their space is needed again.
		whole, closing, err := save(filepath.Join(dir, fmt.Sprintf("f%05d", i%max(20, 40*mib/size))), data)
		if err != nil {
			return err
		}
		wholes, closes = append(wholes, whole*1000), append(closes, closing*1000)
	}
	s.percentiles("close_"+name, closes)
	s.percentiles("save_"+name, wholes)
	return os.RemoveAll(dir)
}

func (s *step) percentiles(metric string, ms []float64) {
	slices.Sort(ms)
	at := func(per10000 int) float64 { return ms[min(len(ms)*per10000/10_000, len(ms)-1)] }
	s.report.add(s, metric+"_p50", "ms", at(5000), true)
	s.report.add(s, metric+"_p99", "ms", at(9900), true)
	s.report.add(s, metric+"_p99.9", "ms", at(9990), true)
}

// load is the two writers beside a measurement.
type load struct {
	done           sync.WaitGroup
	stopped        atomic.Bool
	start          time.Time
	seconds        float64
	bytes, fsyncs  atomic.Int64
	large, durable error // read after done
}

func startLoad(s *step) *load {
	l := &load{start: time.Now()}
	l.done.Go(func() { l.large = l.writeLarge(s.path("load.bin"), s.source.data) })
	l.done.Go(func() { l.durable = l.writeDurable(s.path("durable.bin"), s.source.data[:4096]) })
	return l
}

func (l *load) stop() error {
	l.stopped.Store(true)
	l.seconds = time.Since(l.start).Seconds()
	l.done.Wait()
	return errors.Join(l.large, l.durable)
}

// note says what the load itself achieved: who lets it wait closes quickly.
func (l *load) note(s *step, name string) {
	s.report.add(s, "beside_"+name+"_written", "MB/s", float64(l.bytes.Load())/1e6/l.seconds, false)
	s.report.add(s, "beside_"+name+"_fsyncs", "per s", float64(l.fsyncs.Load())/l.seconds, false)
}

func (l *load) writeLarge(path string, data []byte) error {
	for !l.stopped.Load() {
		err := created(path, func(fd int) error {
			for n := 0; n < loadSize && !l.stopped.Load(); n += mib {
				if _, err := syscall.Write(fd, data[n%len(data):][:mib]); err != nil {
					return fmt.Errorf("write %s: %w", path, err)
				}
				l.bytes.Add(mib)
			}
			return nil
		})
		if err = errors.Join(err, os.Remove(path)); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) writeDurable(path string, data []byte) error {
	for !l.stopped.Load() {
		if err := writeFile(path, data, true); err != nil {
			return err
		}
		l.fsyncs.Add(1)
	}
	return os.Remove(path)
}

// streams writes and reads many files at once and notes the largest memory of
// the process that serves them.
func (s *step) streams() error {
	if err := s.manyStreams("v3", streamV3); err != nil {
		return err
	}
	return s.manyStreams("v4", streamV4)
}

func (s *step) manyStreams(name string, size int) error {
	file := func(i int) string { return s.path(fmt.Sprintf("stream-%02d.bin", i)) }
	total := float64(streamCount*size) / 1e6
	return all(
		s.player.cold,
		func() error {
			return s.rate("streams_"+name+"_write", "MB/s", total, func() error {
				return atOnce(streamCount, func(i int) error { return writeStream(file(i), s.source.data[i*mib:], size) })
			})
		},
		func() error { return s.memory("streams_" + name + "_write_rss") },
		s.player.cold,
		func() error {
			return s.rate("streams_"+name+"_read_cold", "MB/s", total, func() error {
				return atOnce(streamCount, func(i int) error { return readAll(file(i), int64(size)) })
			})
		},
		func() error { return s.memory("streams_" + name + "_read_rss") },
		func() error { return s.same(file(1), s.source.data[mib:][:size]) },
		func() error { return each(streamCount, func(i int) error { return os.Remove(file(i)) }) },
	)
}

// memory notes the largest resident memory since the mount.
func (s *step) memory(metric string) error {
	if s.player.process != nil {
		s.report.add(s, metric, "MiB", float64(peakMemory(s.player.process.Process.Pid))/1024, true)
	}
	return nil
}

func writeStream(path string, data []byte, size int) error {
	return created(path, func(fd int) error {
		for n := 0; n < size; n += streamBlocks {
			if _, err := syscall.Write(fd, data[n:][:streamBlocks]); err != nil {
				return fmt.Errorf("write %s: %w", path, err)
			}
		}
		return nil
	})
}

// atOnce runs n calls side by side and returns all their errors.
func atOnce(n int, f func(i int) error) error {
	var group sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	return errors.Join(errs...)
}
