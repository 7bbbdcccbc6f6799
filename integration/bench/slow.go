package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
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
	s := &syncBench{gateway: &gateway{address: line.Listen}, work: work, program: o.program, out: w}
	defer s.unmount()
	source, err := newTree(work, slowCount)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, %s, versitygw behind toxiproxy at %d kB/s, %s\n\n| rsync -a of %d files | alone | synchronised | slower by |\n|---|---:|---:|---:|\n",
		firstLine(o.program, "--version"), firstLine("rsync", "--version"), slowRate, machine(), slowCount)
	var slower []float64
	for pair := range o.slow {
		var took [2]float64
		for i := range took {
			synced := (i + pair) % 2 // machine drift hits both alike
			if took[synced], err = s.rsync(source, synced == 1); err != nil {
				return err
			}
		}
		slower = append(slower, 100*(took[1]/took[0]-1))
		fmt.Fprintf(w, "| %d | %.2f s | %.2f s | %.1f %% |\n", pair+1, took[0], took[1], slower[pair])
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

// rsync times a copy of the source into a new vault.
func (s *syncBench) rsync(source string, synced bool) (float64, error) {
	d, err := s.newDevice()
	if err != nil {
		return 0, err
	}
	if err := d.steps([]string{"init", "--kdf", "low"}, []string{"mount", d.mnt}); err != nil {
		return 0, err
	}
	defer os.RemoveAll(filepath.Dir(d.vault))
	defer s.unmount()
	if synced {
		if err := d.steps([]string{"sync enable", s.url(fmt.Sprintf("slow%d", s.count))}, []string{"sync now"}); err != nil {
			return 0, err
		}
	}
	return timed(func() error {
		return exec.Command("rsync", "-a", source+"/", filepath.Join(d.mnt, "Source")).Run()
	})
}
