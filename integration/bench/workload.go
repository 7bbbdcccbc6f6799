package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// The sizes are those of the quick mode of the big yardstick, for a laptop.
const (
	mib        = 1 << 20
	seqSize    = 256 * mib
	randSize   = 64 * mib
	writeSize  = 16 * mib
	pdfCount   = 40
	pdfSize    = 5 * mib
	openCount  = 4
	openSize   = 20 * mib
	smallCount = 1000
	smallDirs  = 10
	smallSize  = 4096
	treeCount  = 800
	randReads  = randSize / 4096 // each block once, so that none is warm
	randJobs   = 4
)

// source is the data that is written: it cannot be compressed.
type source struct {
	data []byte
	tree string // a real tree of source files
}

func newSource(work string) (*source, error) {
	s := &source{data: make([]byte, seqSize), tree: filepath.Join(work, "tree")}
	if _, err := rand.Read(s.data); err != nil {
		return nil, err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("look for Go's sources: %w", err)
	}
	return s, copySome(filepath.Join(strings.TrimSpace(string(root)), "src"), s.tree, treeCount)
}

// copySome copies the first files of a tree, with their times.
func copySome(from, to string, count int) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || count == 0 || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		count--
		return os.WriteFile(target, data, 0o644)
	})
}

// workload makes one or more figures of one contestant.
type workload struct {
	name string
	run  func(*step) error
	load bool // runs only if it is asked for by name
}

var workloads = []workload{
	{"mount", (*step).mounting, false}, {"seq", (*step).sequential, false}, {"rand", (*step).random, false},
	{"randwrite", (*step).randomWrite, false}, {"pdf", (*step).documents, false}, {"open", (*step).openings, false},
	{"small", (*step).small, false}, {"tree", (*step).treeCopy, false},
	{"latency", (*step).latency, true}, {"streams", (*step).streams, true},
}

// step is one run of a workload on a contestant.
type step struct {
	player *contestant
	source *source
	report *report
	rep    int
}

func (s *step) path(name string) string { return filepath.Join(s.player.mnt, name) }

// timed runs f and returns the seconds it took.
func timed(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

// rate measures f and notes amount per second.
func (s *step) rate(metric, unit string, amount float64, f func() error) error {
	sec, err := timed(f)
	if err == nil {
		s.report.add(s, metric, unit, amount/sec, false)
	}
	return err
}

// duration measures f and notes how long it took.
func (s *step) duration(metric string, f func() error) error {
	sec, err := timed(f)
	if err == nil {
		s.report.add(s, metric, "ms", sec*1000, true)
	}
	return err
}

// all runs the parts of a workload up to the first error.
func all(parts ...func() error) error {
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (s *step) mounting() error {
	if s.player.argv == nil {
		return nil
	}
	for _, metric := range []string{"mount", "mount_cold"} {
		if err := s.player.unmount(); err != nil {
			return err
		}
		if metric == "mount_cold" {
			dropCaches()
		}
		took, err := s.player.mount()
		if err != nil {
			return err
		}
		s.report.add(s, metric, "ms", took.Seconds()*1000, true)
	}
	return nil
}

func (s *step) sequential() error {
	file := s.path("seq.bin")
	read := func() error { return readAll(file, seqSize) }
	return all(
		s.player.cold,
		func() error {
			return s.rate("seqwrite", "MB/s", seqSize/1e6, func() error { return writeFile(file, s.source.data, true) })
		},
		func() error { return os.Remove(file) },
		func() error {
			return s.rate("seqwrite_close", "MB/s", seqSize/1e6, func() error { return writeFile(file, s.source.data, false) })
		},
		s.player.cold,
		func() error { return s.rate("seqread_cold", "MB/s", seqSize/1e6, read) },
		func() error { return s.rate("seqread_warm", "MB/s", seqSize/1e6, read) },
		func() error { return s.same(file, s.source.data) },
		func() error { return os.Remove(file) },
	)
}

func (s *step) random() error {
	file, order := s.path("rand.bin"), shuffled(randReads)
	return all(
		s.player.cold,
		func() error { return writeFile(file, s.source.data[:randSize], false) },
		s.player.cold,
		func() error {
			return s.rate("randread_cold", "IOPS", randReads, func() error { return readBlocks(file, order) })
		},
		s.player.cold,
		func() error {
			return s.rate("randread_cold_4j", "IOPS", randReads, func() error {
				return atOnce(randJobs, func(i int) error { return readBlocks(file, order[i*randReads/randJobs:][:randReads/randJobs]) })
			})
		},
		func() error { return os.Remove(file) },
	)
}

func (s *step) randomWrite() error {
	file := s.path("rw.bin")
	return all(
		s.player.cold,
		func() error { return writeFile(file, s.source.data[:writeSize], false) },
		s.player.cold,
		func() error {
			return s.rate("randwrite", "IOPS", writeSize/4096, func() error { return writeRandom(file, s.source.data[:writeSize]) })
		},
		func() error { return os.Remove(file) },
	)
}

func (s *step) documents() error {
	dir := s.path("pdfs")
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("paper-%04d.pdf", i)) }
	part := func(i int) []byte { return s.source.data[i*pdfSize:][:pdfSize] }
	return all(
		s.player.cold,
		func() error { return os.Mkdir(dir, 0o755) },
		func() error {
			return s.rate("pdf_in", "MB/s", pdfCount*pdfSize/1e6, func() error {
				return each(pdfCount, func(i int) error { return writeFile(name(i), part(i), false) })
			})
		},
		s.player.cold,
		func() error {
			return s.rate("pdf_out_cold", "MB/s", pdfCount*pdfSize/1e6, func() error {
				return each(pdfCount, func(i int) error { return readAll(name(i), pdfSize) })
			})
		},
		func() error { return s.same(name(1), part(1)) },
		func() error { return os.RemoveAll(dir) },
	)
}

func (s *step) openings() error {
	name := func(i int) string { return s.path(fmt.Sprintf("lat-%d.bin", i)) }
	if err := all(s.player.cold, func() error {
		return each(openCount, func(i int) error { return writeFile(name(i), s.source.data[:openSize], false) })
	}, s.player.cold); err != nil {
		return err
	}
	var took []float64
	err := each(openCount, func(i int) error {
		sec, err := timed(func() error { return readStart(name(i), 64<<10) })
		took = append(took, sec*1000)
		return err
	})
	if err != nil {
		return err
	}
	sort.Float64s(took)
	s.report.add(s, "open_64k_cold", "ms", took[len(took)/2], true)
	return each(openCount, func(i int) error { return os.Remove(name(i)) })
}

func (s *step) small() error {
	dir := s.path("small")
	name := func(i int) string {
		return filepath.Join(dir, fmt.Sprintf("d%02d", i%smallDirs), fmt.Sprintf("f%05d", i))
	}
	return all(
		s.player.cold,
		func() error {
			return each(smallDirs, func(i int) error { return os.MkdirAll(filepath.Join(dir, fmt.Sprintf("d%02d", i)), 0o755) })
		},
		func() error {
			return s.rate("small_create", "files/s", smallCount, func() error {
				return each(smallCount, func(i int) error { return writeFile(name(i), s.source.data[i*smallSize:][:smallSize], false) })
			})
		},
		s.player.cold,
		func() error {
			return s.rate("small_read_cold", "files/s", smallCount, func() error {
				return each(smallCount, func(i int) error { return readAll(name(i), smallSize) })
			})
		},
		func() error {
			return s.rate("small_rm", "files/s", smallCount, func() error {
				return each(smallCount, func(i int) error { return os.Remove(name(i)) })
			})
		},
		func() error { return os.RemoveAll(dir) },
	)
}

func (s *step) treeCopy() error {
	if _, err := exec.LookPath("rsync"); err != nil {
		s.report.note("rsync is not installed: no tree workload")
		return nil
	}
	dir := s.path("tree")
	rsync := func() error { return exec.Command("rsync", "-a", s.source.tree+"/", dir).Run() }
	return all(
		s.player.cold,
		func() error { return s.duration("rsync_first", rsync) },
		s.player.cold,
		func() error { return s.duration("rsync_again_cold", rsync) },
		s.player.cold,
		func() error {
			return s.duration("ls_lR_cold", func() error { return exec.Command("ls", "-lR", dir).Run() })
		},
		func() error { return os.RemoveAll(dir) },
	)
}

// same checks once that what was timed is also right.
func (s *step) same(file string, want []byte) error {
	if s.rep > 0 {
		return nil
	}
	got, err := os.ReadFile(file)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s came back different", file)
	}
	return err
}

func each(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// shuffled lists n blocks in an order that is the same in every run.
func shuffled(n int) []int {
	return mathrand.New(mathrand.NewPCG(1, 2)).Perm(n)
}
