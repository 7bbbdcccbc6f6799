package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
)

// mode is one thing that the program can measure. Its flag chooses it; the
// comparison is what is measured without one.
type mode struct {
	flag    string
	takes   []string // the flags that mean something to it, beside -vaultdrive and -dir
	asked   func(options) bool
	measure func(w io.Writer, work string, o options) error
}

var modes = []mode{
	{"scale", []string{"bytes"}, func(o options) bool { return o.scale >= firstScale && o.bytes >= 0 }, scale},
	{"sync", []string{"r"}, func(o options) bool { return o.sync > 0 }, syncing},
	{"saves", nil, func(o options) bool { return o.saves > 0 }, saving},
	{"join", []string{"r"}, func(o options) bool { return o.join > 0 }, joinLarge},
	{"slow", nil, func(o options) bool { return o.slow > 0 }, slowRemote},
	{"server", []string{"json", "w"}, func(o options) bool { return o.server }, serving},
}

var comparison = mode{"", []string{"json", "r", "w", "c"}, func(options) bool { return true }, compare}

// chooseMode returns what the command line asks for. A flag that would do nothing
// is an error.
func chooseMode(line *flag.FlagSet, o options) (*mode, error) {
	if line.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", line.Arg(0))
	}
	if o.repetitions < 1 {
		return nil, errors.New("-r has to be at least 1")
	}
	var given []string
	line.Visit(func(f *flag.Flag) { given = append(given, f.Name) })
	chosen := &comparison
	for i := range modes {
		if slices.Contains(given, modes[i].flag) {
			chosen = &modes[i]
			break
		}
	}
	if !chosen.asked(o) {
		return nil, fmt.Errorf("-%s cannot be that (a -scale begins at %d files)", chosen.flag, firstScale)
	}
	for _, name := range given {
		if name != chosen.flag && name != "vaultdrive" && name != "dir" && !slices.Contains(chosen.takes, name) {
			return nil, fmt.Errorf("-%s does nothing here: -%s takes %v", name, chosen.flag, chosen.takes)
		}
	}
	return chosen, nil
}
