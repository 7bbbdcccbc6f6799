package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves options in front of the operands, as people write them in any
// order and the flag parser stops at the first operand. What stands behind
// "--" stays an operand. Options nobody knows stay where the parser sees them.
func permute(cmds []*cli.Command, flags []cli.Flag, args []string) []string {
	if len(cmds) == 0 {
		return permuteLeaf(flags, args)
	}
	for i := 0; i < len(args); i++ {
		if !isOption(args[i]) {
			if cmd := findCommand(cmds, args[i]); cmd != nil {
				if cmd.SkipFlagParsing {
					return args
				}
				head := args[: i+1 : i+1]
				return append(head, permute(cmd.Subcommands, cmd.Flags, args[i+1:])...)
			}
			return args
		}
		if takesValue(flags, args[i]) {
			i++
		}
	}
	return args
}

func permuteLeaf(flags []cli.Flag, args []string) []string {
	var options, operands []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			operands = append(operands, args[i+1:]...)
			i = len(args)
		case !isOption(arg):
			operands = append(operands, arg)
		default:
			options = append(options, arg)
			if takesValue(flags, arg) && i+1 < len(args) {
				i++
				options = append(options, args[i])
			}
		}
	}
	if len(operands) == 0 {
		return options
	}
	return append(append(options, "--"), operands...)
}

func isOption(arg string) bool {
	return len(arg) > 1 && arg[0] == '-'
}

func findCommand(cmds []*cli.Command, name string) *cli.Command {
	for _, c := range cmds {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// takesValue reports whether the value of option arg is the next argument.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				_, isBool := f.(*cli.BoolFlag)
				return !isBool
			}
		}
	}
	return false
}
