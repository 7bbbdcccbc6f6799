package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// exitMountFailed is what mount(8) expects of a helper that failed.
const (
	exitMountUsage  = 1
	exitMountFailed = 32
	helperUsage     = "usage: mount.vaultdrive SPEC DIR [-sfnvwr] [-o OPTIONS]"
)

// isMountHelper tells from argv[0] that mount(8) calls: it runs
// /sbin/mount.TYPE, a link to this program.
func isMountHelper(argv0 string) bool {
	switch filepath.Base(argv0) {
	case "mount.vaultdrive", "mount.fuse.vaultdrive":
		return true
	}
	return false
}

// runMountHelper is mount.vaultdrive SPEC DIR [-sfnvw] [-o OPTS]. SPEC is what
// --vault takes. Failure is one line.
func runMountHelper(ctx context.Context, u *ui, args []string) int {
	c := &mountCommand{common: common{ui: u}}
	c.password.fd = -1
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		u.printf("%s\n\nSPEC is the directory or the name of a vault.\n-o  %s\n-r  read-only, as -o ro\n-s  ignore unknown options\n-f  do everything but the mount\n", helperUsage, optionList)
		return 0
	}
	fake, err := c.parseHelper(args)
	if err != nil {
		u.note("mount.vaultdrive: %s", escapeName(oneLine(err)))
		return exitMountUsage
	}
	if fake {
		return 0
	}
	if err := c.Run(ctx); err != nil {
		line := oneLine(err)
		if hint := hintOf(err); hint != "" {
			line += " (" + hint + ")"
		}
		u.note("mount.vaultdrive: %s", escapeName(line))
		return exitMountFailed
	}
	return 0
}

// parseHelper reads the arguments mount(8) gives. fake asks to do everything
// but the mount (-f).
func (c *mountCommand) parseHelper(args []string) (fake bool, err error) {
	var operands []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-o":
			if i++; i == len(args) {
				return false, usage("-o needs options")
			}
			c.options = append(c.options, args[i])
		case strings.HasPrefix(arg, "-o"):
			c.options = append(c.options, arg[2:])
		case arg == "-t", arg == "-N":
			i++
		case arg == "-r":
			c.plan.ReadOnly = true
		case isOption(arg):
			if strings.Trim(arg, "-sfnvw") != "" {
				return false, usage("unknown option %s", arg)
			}
			c.sloppy = c.sloppy || strings.ContainsRune(arg, 's')
			fake = fake || strings.ContainsRune(arg, 'f')
		default:
			operands = append(operands, arg)
		}
	}
	if len(operands) != 2 {
		return false, usage("%s", helperUsage)
	}
	c.vault, c.mountPoint, c.plan.Source = operands[0], operands[1], operands[0]
	return fake, nil
}
