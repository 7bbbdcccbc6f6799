package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Every command has an example, every example is of its command, and every option
// in one exists.
func TestExamples(t *testing.T) {
	u, _, _ := testUI()
	left := make(map[string]bool)
	for name := range examples {
		left[name] = true
	}
	var walk func(before string, cmds []*cli.Command)
	walk = func(before string, cmds []*cli.Command) {
		for _, c := range cmds {
			name := strings.TrimSpace(before + " " + c.Name)
			delete(left, name)
			walk(name, c.Subcommands)
			if len(examples[name]) == 0 && len(c.Subcommands) == 0 && !c.Hidden {
				t.Errorf("%s has no example", name)
			}
			for _, line := range examples[name] {
				checkExample(t, c, "vaultdrive "+name, line)
			}
		}
	}
	walk("", newApp(u).Commands)
	for name := range left {
		t.Errorf("examples of %s, which is no command", name)
	}
}

func checkExample(t *testing.T, c *cli.Command, begins, line string) {
	t.Helper()
	if line != begins && !strings.HasPrefix(line, begins+" ") {
		t.Errorf("%q is no example of %s", line, begins)
	}
	if !strings.Contains(c.Description, line) {
		t.Errorf("the help does not show %q", line)
	}
	line, _, _ = strings.Cut(line, " | ")
	for _, word := range strings.Fields(line) {
		if !strings.HasPrefix(word, "-") || word == "-" {
			continue
		}
		known := func(f cli.Flag) bool { return slices.Contains(f.Names(), strings.TrimLeft(word, "-")) }
		if !slices.ContainsFunc(c.Flags, known) {
			t.Errorf("%q: there is no option %s", line, word)
		}
	}
}
