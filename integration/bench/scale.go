package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// scaleSizes are the vaults that -scale fills: assets, and files of 1 KiB in all.
var scaleSizes = []struct{ assets, files int }{{10, 1000}, {1000, 100_000}}

// scale fills one vault further and further and prints what it costs to have it
// mounted: the time of a mount with an enrolled device, of the first and second
// `ls -lR`, and the memory of the idle daemon before and after them.
func scale(w io.Writer, work, program string) error {
	c, err := newDrive(filepath.Join(work, "scale"), program)
	if err != nil {
		return err
	}
	c.argv = withoutAsset(c.argv)
	defer c.unmount()
	if _, err := c.mount(); err != nil {
		return err
	}
	made := 0
	fmt.Fprintln(w, "files    assets  mount ms  idle MiB  ls -lR s  again s  then MiB")
	for _, size := range scaleSizes {
		for ; made < size.files; made++ {
			dir := filepath.Join(c.mnt, fmt.Sprintf("Asset %04d", made%size.assets))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := writeFile(filepath.Join(dir, fmt.Sprintf("file-%06d", made)), make([]byte, 1024), false); err != nil {
				return err
			}
		}
		if err := c.unmount(); err != nil {
			return err
		}
		took, err := c.mount()
		if err != nil {
			return err
		}
		idle := residentMemory(c.process.Process.Pid)
		list := func() error { return exec.Command("ls", "-lR", c.mnt).Run() }
		first, err := timed(list)
		if err != nil {
			return err
		}
		second, err := timed(list)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-8d %6d  %8.0f  %8.1f  %8.2f  %7.2f  %8.1f\n", size.files, size.assets, took.Seconds()*1000,
			idle, first, second, residentMemory(c.process.Process.Pid))
	}
	return nil
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
