package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// statusCommand shows the state of a vault, or of files in it.
type statusCommand struct {
	common
	paths []string
}

func statusCLI(u *ui) *cli.Command {
	c := &statusCommand{common: common{ui: u}}
	return &cli.Command{
		Name:      "status",
		Usage:     "show whether the vault is mounted, and how it is",
		ArgsUsage: "[PATH...]",
		Description: "Nobody is asked for a password: of a vault that is not mounted it shows only what needs no key, unless a\n" +
			"password option is given. With PATH, the state of files.",
		Flags: c.flags(),
		Action: func(cx *cli.Context) error {
			c.paths = cx.Args().Slice()
			return c.Run(cx.Context)
		},
	}
}

// Run shows.
func (c *statusCommand) Run(ctx context.Context) error {
	home, err := c.locate(c.paths, toFind)
	if err != nil {
		return err
	}
	cl, err := dialVault(ctx, home)
	if err != nil {
		return err
	}
	if cl == nil && len(c.paths) == 0 {
		if r, dead := deadMount(ctx, home); dead {
			return c.showDead(home, r)
		}
	}
	if cl == nil && !c.password.explicit() && len(c.paths) == 0 {
		return c.showLocked(home)
	}
	if cl == nil {
		if cl, err = c.connectHome(ctx, home); err != nil {
			return err
		}
	}
	defer cl.close(ctx)
	if len(c.paths) > 0 {
		return c.showPaths(ctx, cl)
	}
	var view statusView
	if err := cl.status(ctx, &view); err != nil {
		return err
	}
	if c.json {
		return c.ui.writeJSON(view)
	}
	c.show(view)
	return nil
}

func (c *statusCommand) showLocked(home vaultHome) error {
	view := newLockedView(home, "locked")
	if c.json {
		return c.ui.writeJSON(view)
	}
	c.line("vault", "%s (%s)", c.ui.name(home.label), home.id)
	c.line("home", "%s", c.ui.name(home.path))
	c.line("state", "locked")
	return nil
}

func newLockedView(home vaultHome, state string) lockedView {
	return lockedView{Vault: home.id, Label: home.label, Home: home.path, State: state,
		Enrolled: home.isEnrolled(), Swap: vaultcore.UnencryptedSwap(), Alarms: []string{}}
}

// showDead says what is left of a mount whose process was killed or crashed,
// and how to get on.
func (c *statusCommand) showDead(home vaultHome, r mountRecord) error {
	view := newLockedView(home, "dead")
	view.MountPoint, view.Log = r.MountPoint, r.Log
	view.Alarms = append(view.Alarms, "the process of the mount on "+r.MountPoint+" ended without unmounting")
	if c.json {
		return c.ui.writeJSON(view)
	}
	point := shellQuote(r.MountPoint)
	c.line("vault", "%s (%s)", c.ui.name(home.label), home.id)
	c.line("home", "%s", c.ui.name(home.path))
	c.line("state", "dead: the process of the mount on %s ended without unmounting", c.ui.name(r.MountPoint))
	c.line("to do", "%s", c.ui.name("vaultdrive umount "+point+" clears the mount point; vaultdrive mount "+point+" mounts again"))
	if r.Log != "" {
		c.line("log", "%s", c.ui.name(r.Log))
	}
	return nil
}

func (c *common) line(what, format string, args ...any) {
	c.ui.printf("%-11s %s\n", what, fmt.Sprintf(format, args...))
}

func (c *statusCommand) show(v statusView) {
	c.line("vault", "%s (%s)", c.ui.name(v.Label), v.Vault)
	c.line("home", "%s", c.ui.name(v.Home))
	c.line("state", "%s", c.state(v))
	c.line("content", "%s, %s, %s, %s", plural(v.Assets, "asset"), plural(v.Folders, "folder"), plural(v.Files, "file"), humanSize(v.Bytes))
	c.line("trash", "%s, %s", plural(v.Trash, "file"), humanSize(v.TrashBytes))
	if v.Conflicts > 0 {
		c.line("conflicts", "%d; vaultdrive conflicts list shows them", v.Conflicts)
	}
	if text := unverifiedText(v.Unverified, v.Deletions); text != "" {
		c.line("unverified", "%s", text)
	}
	c.line("unsent", "%s changed since the last sync, %d to upload", plural(v.Dirty, "row"), v.Queued)
	if v.Sync != nil {
		c.line("sync", "%s with %s", v.Sync.State, c.ui.name(v.Sync.Remote))
	}
	c.line("drafts", "%s", draftsText(v.Drafts, v.Waiting))
	c.line("durable", "up to commit %d of %d", v.Barrier, v.Commit)
	k := v.KeyCache
	c.line("keys", "%d of %d cached; %d hits, %d misses, %d evicted", k.Len, k.Max, k.Hits, k.Misses, k.Evictions)
	c.line("identity", "%s, device %s, epoch %d", v.DID, v.Device, v.Epoch)
	if r := v.Rewrap; r != nil {
		c.line("password", "changed; %d of %d file keys are under the new one", r.Done, r.Total)
	}
	if !v.KeysLocked {
		c.line("memory", "keys could not be locked in memory")
	}
	if v.Log != "" {
		c.line("log", "%s", c.ui.name(v.Log))
	}
	for _, alarm := range v.Alarms {
		c.line("alarm", "%s", c.ui.name(alarm))
	}
}

func (c *statusCommand) state(v statusView) string {
	switch v.State {
	case "mounted":
	case "unmounting":
		return fmt.Sprintf("unmounted, but process %d waits for programs to close their files", v.PID)
	default:
		return v.State
	}
	s := fmt.Sprintf("mounted on %s by process %d", c.ui.name(v.MountPoint), v.PID)
	if v.MountAsset != "" {
		s += ", asset " + c.ui.name(v.MountAsset)
	}
	if v.ReadOnly {
		s += ", read-only"
	}
	return s + ", since " + v.Since.Local().Format("2006-01-02 15:04")
}

// draftsText tells what is open for writing from what was closed and waits.
func draftsText(drafts, waiting int) string {
	s := plural(drafts, "file") + " being written"
	if waiting > 0 {
		s += fmt.Sprintf(", %d of them saved and waiting for the rest from the remote", waiting)
	}
	return s
}

func (c *statusCommand) showPaths(ctx context.Context, cl *client) error {
	infos := []vaultcore.Info{}
	var failures []error
	for _, p := range c.paths {
		info, err := cl.stat(ctx, cleanPath(p))
		if err != nil {
			failures = append(failures, named(err, p))
			continue
		}
		infos = append(infos, info)
	}
	if err := c.showInfos(infos); err != nil {
		return err
	}
	return errors.Join(failures...)
}

func (c *statusCommand) showInfos(infos []vaultcore.Info) error {
	if c.json {
		return c.ui.writeJSON(infos)
	}
	for i, info := range infos {
		if i > 0 {
			c.ui.printf("\n")
		}
		c.showInfo(info)
	}
	return nil
}

func (c *statusCommand) showInfo(i vaultcore.Info) {
	c.line("path", "%s", c.ui.name(i.Path))
	c.line("kind", "%s", strings.TrimSpace(i.Kind+" "+i.Type))
	c.line("id", "%s", i.ID)
	if i.State != "" {
		c.line("state", "%s", i.State)
	}
	if !isDir(i) {
		c.line("size", "%d", i.Size)
		c.line("type", "%s", i.MIME)
		c.line("revision", "%d", i.Revision)
		c.line("format", "%d", i.Version)
	}
	c.line("mode", "%04o", i.Mode)
	c.line("modified", "%s", i.Mtime.Local().Format("2006-01-02 15:04:05.000000000 -0700"))
}
