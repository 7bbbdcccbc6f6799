// Command vaultdrive is the drive as people use it: one command for each thing
// to do with a vault, and the process behind a mount. It reads options, wires
// packages together, and puts results and errors into words and exit codes.
// It refuses to know how anything works inside: no keys, no SQL, no kernel
// protocol; everything it does to an open vault goes through one small HTTP
// API, whether the vault is mounted or opened by the command itself.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func main() {
	os.Exit(run(os.Args))
}

// run chooses what this process is: a child that derives a key, the process of
// a mount, mount(8)'s helper, or a command.
func run(args []string) int {
	// What cannot be hardened works as before; there is nobody to tell yet.
	_ = vaultcore.HardenProcess()
	if len(args) > 1 {
		switch args[1] {
		case vaultcore.KDFChildArg:
			if err := vaultcore.RunKDFChild(os.Stdin, os.Stdout); err != nil {
				return exitUnknown
			}
			return 0
		case daemonCommand:
			return runBackground()
		}
	}
	u := newUI()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends at once
	if len(args) > 0 && isMountHelper(args[0]) {
		return runMountHelper(ctx, u, args[1:])
	}
	return runCommand(ctx, u, args)
}

func runCommand(ctx context.Context, u *ui, args []string) int {
	app := newApp(u)
	if len(args) > 1 {
		rest := permute(app.Commands, nil, args[1:])
		args = append([]string{args[0]}, rest...)
	}
	err := interruptible(ctx, u, func() error { return app.RunContext(ctx, args) })
	var f *failure
	if err != nil && ctx.Err() != nil && (!errors.As(err, &f) || !f.final) {
		err = &failure{cause: context.Canceled, text: "interrupted"}
	}
	return u.report(err)
}

// interruptGrace is how long an interrupted command may take to tidy up.
const interruptGrace = 5 * time.Second

// interruptible runs a command and leaves it when it does not heed an
// interrupt: it waits in the kernel, for a file system that does not answer.
func interruptible(ctx context.Context, u *ui, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if u.draining.Load() {
		return <-done
	}
	timer := time.NewTimer(interruptGrace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	if u.draining.Load() { // by now it is one that ends what is under way
		return <-done
	}
	return ctx.Err()
}

func newApp(u *ui) *cli.App {
	app := &cli.App{
		Name:                   "vaultdrive",
		Usage:                  "an encrypted vault as a drive",
		Version:                version(),
		Description:            exitCodeHelp(),
		Writer:                 u.out,
		ErrWriter:              u.err,
		UseShortOptionHandling: true,
		// Errors and exit codes are this program's business alone.
		ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{
			initCLI(u), demoCLI(u), mountCLI(u), umountCLI(u), lockCLI(u), statusCLI(u), waitCLI(u),
			lsCLI(u), getCLI(u), putCLI(u), rmCLI(u), mvCLI(u), assetCLI(u), trashCLI(u),
			syncCLI(u), joinCLI(u), conflictsCLI(u), adoptCLI(u),
			passwdCLI(u), kitCLI(u), deviceCLI(u),
			checkCLI(u), rescueCLI(u), backupCLI(u), eventsCLI(u), serveCLI(u), completionCLI(u), completeCLI(u),
		},
	}
	app.Commands = append(app.Commands, localCLI(u)...)
	app.Action = needCommand
	app.OnUsageError = usageError
	tidyCommands(app.Commands)
	addExamples("", app.Commands)
	return app
}

// tidyCommands gives all commands the same manners: operands are never taken
// for a help command, wrong options are one line.
func tidyCommands(cmds []*cli.Command) {
	for _, c := range cmds {
		c.HideHelpCommand = true
		c.OnUsageError = usageError
		if c.Action == nil {
			c.Action = needCommand
		}
		tidyCommands(c.Subcommands)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return usage("%v", err)
}

// needCommand answers a missing or unknown command.
func needCommand(cx *cli.Context) error {
	if cx.NArg() > 0 {
		return usage("there is no command %q", cx.Args().First())
	}
	if cx.Command != nil && len(cx.Lineage()) > 2 {
		return usage("%s needs one of its commands", cx.Command.Name)
	}
	return cli.ShowAppHelp(cx)
}

// version is the module's, as the Go tool recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
