package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

const (
	slowRate  = 2000 // kB/s, each way
	slowCount = 8000 // files that rsync copies
)

// slowRemote measures how much a remote at the end of a slow line slows a running
// rsync into the mount: pairs of runs into new vaults, one that is synchronised
// and one that is not, in turn.
func slowRemote(w io.Writer, work string, o options) error {
	g, err := startGateway(work)
	if err != nil {
		return err
	}
	defer g.stop()
	line, err := slowLine(g.address)
	if err != nil {
		return err
	}
	defer line.Stop()
	s := &syncBench{gateway: &gateway{cmd: g.cmd, address: line.Listen}, work: work, program: o.program, out: w}
	defer s.unmount()
	source, err := newTree(work, slowCount)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, %s, versitygw behind toxiproxy at %d kB/s, %s\n\nrsync -a of %d files; processor times of drive, server and line while it ran\n\n"+
		"| pair | alone | synchronised | slower by | drive alone | drive | server | line | put meanwhile |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
		firstLine(o.program, "--version"), firstLine("rsync", "--version"), slowRate, machine(), slowCount)
	var slower []float64
	for pair := range o.slow {
		var took [2]slowRun
		for i := range took {
			synced := (i + pair) % 2 // machine drift hits both alike
			if took[synced], err = s.rsync(source, synced == 1); err != nil {
				return err
			}
		}
		alone, with := took[0], took[1]
		slower = append(slower, 100*(with.took/alone.took-1))
		fmt.Fprintf(w, "| %d | %.2f s | %.2f s | %.1f %% | %.2f s | %.2f s | %.2f s | %.2f s | %d |\n", pair+1, alone.took, with.took, slower[pair],
			alone.drive.Seconds(), with.drive.Seconds(), with.server.Seconds(), with.line.Seconds(), with.put)
	}
	half, _ := middle(slower)
	_, err = fmt.Fprintf(w, "\nmedian: slower by %.1f %%\n", half)
	return err
}

// slowLine starts a proxy before the gateway that lets slowRate pass.
func slowLine(address string) (*toxiproxy.Proxy, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "slow", "127.0.0.1:0", address)
	if err := p.Start(); err != nil {
		return nil, err
	}
	for _, stream := range []string{"upstream", "downstream"} {
		toxic := fmt.Sprintf(`{"type":"bandwidth","stream":%q,"attributes":{"rate":%d}}`, stream, slowRate)
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			p.Stop()
			return nil, err
		}
	}
	return p, nil
}

func newTree(work string, count int) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("look for Go's sources: %w", err)
	}
	tree := filepath.Join(work, "tree")
	return tree, copySome(filepath.Join(strings.TrimSpace(string(root)), "src"), tree, count)
}

// slowRun is what one rsync took: seconds, processor times, and objects that were
// put into the bucket while it ran.
type slowRun struct {
	took                float64
	drive, server, line time.Duration
	put                 int
}

// rsync times a copy of the source into a new vault.
func (s *syncBench) rsync(source string, synced bool) (r slowRun, err error) {
	d, err := s.newDevice()
	if err != nil {
		return r, err
	}
	if err := d.steps([]string{"init", "--kdf", "low"}, []string{"mount", d.mnt}); err != nil {
		return r, err
	}
	defer os.RemoveAll(filepath.Dir(d.vault))
	defer s.unmount()
	if synced {
		if err := d.steps([]string{"sync enable", s.url(fmt.Sprintf("slow%d", s.count))}, []string{"sync now"}); err != nil {
			return r, err
		}
	}
	drive, err := d.pid()
	if err != nil {
		return r, err
	}
	unix.Sync() // what runs before this one left to be written, and removed, is not its work
	before := s.soFar(drive)
	r.took, err = timed(func() error {
		return exec.Command("rsync", "-a", source+"/", filepath.Join(d.mnt, "Source")).Run()
	})
	after := s.soFar(drive)
	r.drive, r.server, r.line, r.put = after.drive-before.drive, after.server-before.server, after.line-before.line, after.put-before.put
	return r, err
}

// soFar is what the processes have used, and what is in the bucket.
func (s *syncBench) soFar(drive int) slowRun {
	var own unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &own) // it cannot fail
	objects := 0
	_ = filepath.WalkDir(filepath.Join(s.work, "s3"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			objects++
		}
		return nil
	})
	return slowRun{drive: processorTime(drive), server: processorTime(s.cmd.Process.Pid), put: objects,
		line: time.Duration(own.Utime.Nano() + own.Stime.Nano())} // the line is in this process
}

// pid is the process behind a device's mount.
func (d *syncDevice) pid() (int, error) {
	text, err := d.run("status", "--json")
	if err != nil {
		return 0, err
	}
	var status struct{ PID int }
	return status.PID, json.Unmarshal([]byte(text), &status)
}
