package main

import (
	"regexp"
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

// What a hint tells to type exists, with every option in it.
func TestHintsCanBeTyped(t *testing.T) {
	u, _, _ := testUI()
	options := map[string]bool{}
	var walk func(cmds []*cli.Command)
	walk = func(cmds []*cli.Command) {
		for _, c := range cmds {
			for _, f := range c.Flags {
				for _, name := range f.Names() {
					options["--"+name] = true
				}
			}
			walk(c.Subcommands)
		}
	}
	walk(newApp(u).Commands)
	option := regexp.MustCompile(`--[a-z][a-z-]*`)
	for _, row := range exitTable {
		for _, name := range option.FindAllString(row.hint, -1) {
			if !options[name] && name != "--owner" && name != "--device" { // of createdb and of containers
				t.Errorf("the hint of %s, %q: there is no option %s", row.code, row.hint, name)
			}
		}
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
