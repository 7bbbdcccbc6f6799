package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// openPatience is how long a command waits for a vault that another
// vaultdrive process holds: a mount that is just starting or ending, or
// another short command.
const openPatience = 5 * time.Second

// common holds the options every command that needs a vault takes.
type common struct {
	ui       *ui
	vault    string
	password passwordSource
	json     bool
}

func (c *common) flags(more ...cli.Flag) []cli.Flag {
	flags := append([]cli.Flag{c.vaultFlag()}, c.password.flags()...)
	return append(append(flags, c.jsonFlag()), more...)
}

func (c *common) vaultFlag() cli.Flag {
	return &cli.StringFlag{Name: "vault", EnvVars: []string{"VAULTDRIVE_VAULT"}, Destination: &c.vault,
		Usage: "the vault: a `NAME`, or a directory written with a slash; default: the only one"}
}

func (c *common) jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Destination: &c.json, Usage: "print JSON with a stable schema"}
}

// connect reaches the vault: through its mount if it has one, else by opening
// it in this process, which needs a password.
func (c *common) connect(ctx context.Context) (*client, error) {
	return c.connectFor(ctx, nil, toFind)
}

// connectFor is connect for a command with paths of the vault. A path in a
// mount of ours says which vault is meant; it is put in the vault's own form.
func (c *common) connectFor(ctx context.Context, paths []string, use pathUse) (*client, error) {
	home, err := c.locate(paths, use)
	if err != nil {
		return nil, err
	}
	return c.connectHome(ctx, home)
}

func (c *common) connectHome(ctx context.Context, home vaultHome) (*client, error) {
	if cl, err := dialVault(ctx, home); err != nil || cl != nil {
		return cl, err
	}
	creds, err := c.password.credentials(ctx, c.ui, home)
	if err != nil {
		return nil, err
	}
	defer creds.wipe()
	return c.openLocal(ctx, home, creds)
}

// openLocal opens the vault here. Held by somebody else, it may be a mount
// that has just come up.
func (c *common) openLocal(ctx context.Context, home vaultHome, creds *credentials) (*client, error) {
	deadline := time.Now().Add(openPatience)
	for {
		vault, err := openForCommand(ctx, home, creds)
		if err == nil {
			cl := localClient(vault)
			cl.lockedDisk = vault.ReadOnly()
			return cl, nil
		}
		if creds.askAfter(ctx, c.ui, home, err) {
			continue
		}
		if !errors.Is(err, vaultcore.ErrInUse) || time.Now().After(deadline) {
			return nil, err
		}
		if cl, dialErr := dialVault(ctx, home); dialErr != nil || cl != nil {
			return cl, dialErr
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// openVault opens a vault with the settings of every command.
func openVault(ctx context.Context, home vaultHome, creds *credentials, o vaultcore.Options) (*vaultcore.Vault, error) {
	o.KDF, o.Marks = vaultcore.ChildKDF, marks
	vault, err := vaultcore.Open(ctx, home.path, creds.forVault(), o)
	return vault, partHint(err)
}

// openForCommand is openVault for a single command: a vault on a read-only
// disk can still be read. A mount asks to be told so.
func openForCommand(ctx context.Context, home vaultHome, creds *credentials) (*vaultcore.Vault, error) {
	vault, err := openVault(ctx, home, creds, vaultcore.Options{})
	if errors.Is(err, vaultcore.ErrReadOnlyDisk) {
		return openVault(ctx, home, creds, vaultcore.Options{ReadOnly: true})
	}
	return vault, err
}

// dialVault connects to the process that has the vault mounted; nil without an
// error when there is none.
func dialVault(ctx context.Context, home vaultHome) (*client, error) {
	if home.id == "" {
		return nil, nil
	}
	for _, dir := range clientDirs() {
		cl, err := dialPath(ctx, filepath.Join(dir, home.slot()+socketSuffix))
		if cl != nil && !sameDir(cl.home, home.path) {
			defer cl.close(ctx)
			return nil, fail(errMounted, "unmount that one first; to use both, vaultdrive device enroll --new-id makes this copy a device of its own",
				"a copy of this vault with the same identity is in use by process %d: %s", cl.pid, cl.home)
		}
		if err != nil || cl != nil {
			return cl, err
		}
	}
	return nil, nil
}

// sameDir says whether two paths are one directory. What cannot be looked at may be.
func sameDir(a, b string) bool {
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return err != nil || err2 != nil || os.SameFile(one, two)
}

// dialPath connects to one socket; one that nobody serves is no error. A
// process that is just dying may still take a connection, so it has to answer
// once.
func dialPath(ctx context.Context, path string) (*client, error) {
	conn, pid, err := dialSocket(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case err != nil && isSilent(err):
		return nil, silent(path, 0)
	case err != nil:
		return nil, err
	}
	conn.Close()
	cl := socketClient(path, pid)
	asking, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	var is pingAnswer
	err = cl.call(asking, callPing, none{}, &is)
	cl.home = is.Home
	if err == nil || errors.Is(err, errDaemonOld) {
		return cl, nil
	}
	_ = cl.close(ctx)
	switch {
	case errors.Is(asking.Err(), context.DeadlineExceeded):
		return nil, silent(path, pid)
	case errors.Is(err, errDaemonLost):
		return nil, nil
	}
	return nil, err
}

// socketClient speaks to a process and watches that it goes on answering.
func socketClient(path string, pid int) *client {
	life, end := context.WithCancelCause(context.Background())
	cl := newClient(func() (net.Conn, error) {
		conn, _, err := dialSocket(path)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(life, func() { conn.Close() })
		return conn, nil
	})
	cl.pid, cl.socket, cl.life = pid, path, life
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		cl.watch(life, pulseEvery, silencePatience, end)
	}()
	idle := cl.closing
	cl.closing = func(ctx context.Context) error {
		end(context.Canceled)
		<-watched
		return idle(ctx)
	}
	return cl
}

// pause waits, or gives up with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
