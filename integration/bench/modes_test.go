package main

import (
	"flag"
	"io"
	"strings"
	"testing"
)

// TestFlags: what a flag would not change is refused, and what the README says is
// understood.
func TestFlags(t *testing.T) {
	for line, want := range map[string]string{
		"": "", "-r 1 -json x -w seq -c vaultdrive": "", "-w latency,streams": "", "-dir . -vaultdrive x": "",
		"-scale 1000000 -bytes 0": "scale", "-sync 10000 -r 2": "sync", "-saves 20": "saves", "-join 100000 -r 1": "join",
		"-slow 6": "slow", "-server -json x -w uploads": "server",
		"-scale 100": "refused", "-scale 1000 -bytes -1": "refused", "-scale 1000 -json x": "refused", "-scale 1000 -r 2": "refused",
		"-sync 0": "refused", "-sync 10 -w x": "refused", "-saves -1": "refused", "-saves 3 -r 2": "refused", "-join 10 -json x": "refused",
		"-slow 2 -c x": "refused", "-server -r 1": "refused", "-server=false": "refused", "-sync 10 -join 10": "refused",
		"-bytes 3": "refused", "-r 0": "refused", "seq": "refused",
	} {
		var o options
		set := flag.NewFlagSet("bench", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		o.flags(set)
		if err := set.Parse(strings.Fields(line)); err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		got := "refused"
		if m, err := chooseMode(set, o); err == nil {
			got = m.flag
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
