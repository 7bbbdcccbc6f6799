// Command bench measures vaultdrive, as it is and with version 4 contents only,
// beside a plain directory and beside gocryptfs, where that is installed, in one
// interleaved run:
//
//	go run ./integration/bench [-json FILE] [-r REPETITIONS] [-w WORKLOADS] [-c CONTESTANTS]
//	go run ./integration/bench -w latency,streams
//	go run ./integration/bench -scale COUNT [-bytes SIZE]
//	go run ./integration/bench -sync COUNT [-r REPETITIONS]
//	go run ./integration/bench -saves COUNT
//	go run ./integration/bench -join COUNT
//	go run ./integration/bench -slow COUNT
//	go run ./integration/bench -server [-json FILE] [-w uploads,bodies,polls,downloads,saves]
//
// A flag that means nothing to what is measured is refused.
//
// It refuses to know anything but the built programs, the system calls that
// every program makes, and the server's API. Its figures are for comparing, never for a test.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	o := options{}
	o.flags(flag.CommandLine)
	flag.Parse()
	m, err := chooseMode(flag.CommandLine, o)
	if err == nil {
		err = run(m, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type options struct {
	json, workloads, contestants, program, dir string
	repetitions                                int
	scale, bytes, sync, slow, saves, join      int
	server                                     bool
}

// flags is the command line.
func (o *options) flags(line *flag.FlagSet) {
	line.StringVar(&o.json, "json", "", "write every figure of the comparison or of -server to `FILE` as well, one JSON value a line")
	line.IntVar(&o.repetitions, "r", 3, "repetitions; the median counts")
	line.StringVar(&o.workloads, "w", "", "`WORKLOADS`, separated by commas (default: all but the loads, latency and streams)")
	line.StringVar(&o.contestants, "c", "", "`CONTESTANTS`, separated by commas (default: all that are installed)")
	line.StringVar(&o.program, "vaultdrive", "", "the vaultdrive `PROGRAM` (default: built from this module)")
	line.StringVar(&o.dir, "dir", "", "where the stores go (default: the temporary directory)")
	line.IntVar(&o.scale, "scale", 0, "measure vaults of 1,000, 10,000 … `COUNT` files instead")
	line.IntVar(&o.bytes, "bytes", 1024, "the `SIZE` of each file of -scale")
	line.IntVar(&o.sync, "sync", 0, "measure the first synchronisation of `COUNT` files beside rclone instead")
	line.IntVar(&o.saves, "saves", 0, "measure how soon a save is read on another device instead, `COUNT` times by polling")
	line.IntVar(&o.join, "join", 0, "measure a device that joins a vault of `COUNT` files, and the polls of an idle one, instead")
	line.BoolVar(&o.server, "server", false, "measure a server instead; -w names parts of it")
	line.IntVar(&o.slow, "slow", 0, "measure what a remote behind a slow line costs an rsync, in `COUNT` pairs of runs, instead")
}

// wants says whether a contestant takes part.
func (o options) wants(name string) bool {
	return o.contestants == "" || slices.Contains(strings.Split(o.contestants, ","), name)
}

func run(m *mode, o options) error {
	work, err := os.MkdirTemp(o.dir, "vaultdrive-bench-")
	if err != nil {
		return err
	}
	if work, err = filepath.Abs(work); err != nil {
		return err
	}
	defer os.RemoveAll(work)
	cleanUpWhenInterrupted(work)
	if o.program == "" {
		o.program = filepath.Join(work, "bin", "vaultdrive")
		build := exec.Command("go", "build", "-o", o.program, "github.com/vaultdrive/vaultdrive/cmd/vaultdrive")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build vaultdrive: %w\n%s", err, text)
		}
	}
	return m.measure(os.Stdout, work, o)
}

// compare runs every workload over every contestant in turn.
func compare(w io.Writer, work string, o options) error {
	players, err := contestants(work, o)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range players {
			p.unmount()
		}
	}()
	source, err := newSource(work)
	if err != nil {
		return err
	}
	results := &report{}
	for _, m := range makers {
		if o.wants(m.name) && !slices.ContainsFunc(players, func(p *contestant) bool { return p.name == m.name }) {
			results.note(m.name + " is not installed")
		}
	}
	if os.Geteuid() != 0 {
		results.note("not root: the page cache is not dropped, so cold figures are warm below the mount")
	}
	chosen, err := choose(o.workloads)
	if err != nil {
		return err
	}
	for rep := range o.repetitions {
		for _, load := range chosen {
			for i := range players {
				p := players[(i+rep)%len(players)] // machine drift hits all alike
				if err := load.run(&step{player: p, source: source, report: results, rep: rep}); err != nil {
					return fmt.Errorf("%s, %s: %w", load.name, p.name, err)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "repetition %d of %d done\n", rep+1, o.repetitions)
	}
	for _, p := range players {
		if err := p.unmount(); err != nil { // its memory is known then
			return err
		}
	}
	results.print(w, players)
	if o.json != "" {
		return results.writeJSON(o.json, players)
	}
	return nil
}

func choose(names string) ([]workload, error) {
	var out []workload
	if names == "" {
		for _, w := range workloads {
			if !w.load {
				out = append(out, w)
			}
		}
		return out, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, w := range workloads {
			if w.name == name {
				out, found = append(out, w), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no workload %q", name)
		}
	}
	return out, nil
}
