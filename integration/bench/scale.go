package main

import (
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	firstScale  = 1000 // files of the smallest vault; each further one has ten times as many
	perAsset    = 100
	lookups     = 1000
	largeDir    = 100_000 // files of one folder, if the vault has twice as many
	dirChanges  = 1000    // files made in it and removed again
	scaleHeader = "| files | made, /s | mount, ms | idle, MiB | lookup, µs | `ls -lR`, s | again, s | then, MiB | one folder of | create, µs | remove, µs |"
	scaleRule   = "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)

// scale fills one vault further and further, up to the given count of files, and
// prints what it costs to have it mounted: the time of a cold mount with an
// enrolled device, of the first stat of random names, of the first and second
// `ls -lR`, the memory of the idle daemon before and after them, and the time
// of making and removing a file in a large folder.
func scale(w io.Writer, work string, o options) error {
	c, err := newDrive(filepath.Join(work, "scale"), o.program, "vaultdrive", "auto")
	if err != nil {
		return err
	}
	c.argv = withoutAsset(c.argv)
	defer c.unmount()
	if _, err := c.mount(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, %s, files of %d bytes\n\n%s\n%s\n", c.version, machine(), o.bytes, scaleHeader, scaleRule)
	v := &grown{contestant: c, content: make([]byte, o.bytes)}
	for count := firstScale; count <= o.scale; count *= 10 {
		if err := v.measure(w, count); err != nil {
			return err
		}
	}
	return nil
}

// grown is a vault that is being filled. Half of its files, but at most
// largeDir, lie in one folder, the others in assets of perAsset files each.
type grown struct {
	*contestant
	content     []byte
	large, rest int // files so far
}

func (v *grown) largeFile(i int) string {
	return filepath.Join(v.mnt, "Large", fmt.Sprintf("file-%06d", i))
}

func (v *grown) restFile(i int) string {
	return filepath.Join(v.mnt, fmt.Sprintf("Asset %05d", i/perAsset), fmt.Sprintf("file-%07d", i))
}

func (v *grown) measure(w io.Writer, count int) error {
	rate, err := v.fill(count)
	if err != nil {
		return err
	}
	if err := v.unmount(); err != nil {
		return err
	}
	dropCaches()
	mounted, err := v.mount()
	if err != nil {
		return err
	}
	pid := v.process.Process.Pid
	idle := residentMemory(pid)
	lookup, err := timed(v.lookUp)
	if err != nil {
		return err
	}
	list := func() error { return exec.Command("ls", "-lR", v.mnt).Run() }
	first, err := timed(list)
	if err != nil {
		return err
	}
	again, err := timed(list)
	if err != nil {
		return err
	}
	then := residentMemory(pid)
	create, remove, err := v.change()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "| %d | %.0f | %.0f | %.1f | %.0f | %.2f | %.2f | %.1f | %d | %.0f | %.0f |\n", count, rate,
		mounted.Seconds()*1000, idle, lookup/lookups*1e6, first, again, then, v.large, create*1e6, remove*1e6)
	return err
}

// fill makes files until there are count, and returns how many a second.
func (v *grown) fill(count int) (float64, error) {
	before, start := v.large+v.rest, time.Now()
	large := min(count/2, largeDir)
	if err := os.MkdirAll(filepath.Join(v.mnt, "Large"), 0o755); err != nil {
		return 0, err
	}
	for ; v.large < large; v.large++ {
		if err := writeFile(v.largeFile(v.large), v.content, false); err != nil {
			return 0, err
		}
	}
	for ; v.rest < count-large; v.rest++ {
		if v.rest%perAsset == 0 {
			if err := os.MkdirAll(filepath.Dir(v.restFile(v.rest)), 0o755); err != nil {
				return 0, err
			}
		}
		if err := writeFile(v.restFile(v.rest), v.content, false); err != nil {
			return 0, err
		}
	}
	return float64(count-before) / time.Since(start).Seconds(), nil
}

// lookUp asks for names the kernel does not know yet.
func (v *grown) lookUp() error {
	pick := mathrand.New(mathrand.NewPCG(3, 4))
	return each(lookups, func(i int) error {
		name := v.restFile(pick.IntN(v.rest))
		if i%2 == 0 {
			name = v.largeFile(pick.IntN(v.large))
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(name, &st); err != nil {
			return fmt.Errorf("stat %s: %w", name, err)
		}
		return nil
	})
}

// change makes files in the large folder and removes them; seconds for each.
func (v *grown) change() (create, remove float64, err error) {
	name := func(i int) string { return filepath.Join(v.mnt, "Large", fmt.Sprintf("new-%04d", i)) }
	create, err = timed(func() error {
		return each(dirChanges, func(i int) error { return writeFile(name(i), v.content, false) })
	})
	if err != nil {
		return 0, 0, err
	}
	remove, err = timed(func() error {
		return each(dirChanges, func(i int) error { return syscall.Unlink(name(i)) })
	})
	return create / dirChanges, remove / dirChanges, err
}

func withoutAsset(argv []string) []string {
	var out []string
	for i := 0; i < len(argv); i++ {
		if argv[i] == "--asset" {
			i++
			continue
		}
		out = append(out, argv[i])
	}
	return out
}

// residentMemory is a process's resident set now, in MiB.
func residentMemory(pid int) float64 { return float64(statusField(pid, "VmRSS")) / 1024 }
