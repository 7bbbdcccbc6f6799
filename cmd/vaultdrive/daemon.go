package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vaultdrive/vaultdrive/fs"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// daemon is the process of a mount: the open vault, the kernel's requests, and
// the socket the other commands talk to.
type daemon struct {
	plan    mountPlan
	home    vaultHome
	logPath string
	logFile *logFile
	log     *slog.Logger
	hooks   daemonHooks

	point string // as the kernel has it
	vault *vaultcore.Vault
	// closeBackup closes the vault and the backup it lies in; nil without one.
	closeBackup func() error
	mount       *fs.Server
	server      *server
	sync        *syncing
	load        load
	listener    net.Listener
	socket      string

	cut      chan struct{} // closed when it shall not be waited for
	forced   sync.Once     // closes cut
	finished chan struct{} // closed when the vault is closed
	draining sync.Mutex    // one drain at a time
	// What is set before finished is closed.
	closeErr error
	left     leftBehind
	// uploadFor is how long to go on uploading when the mount has gone, in ns.
	uploadFor atomic.Int64
	uploading atomic.Bool
	// asking counts who waits for the end of an unmount.
	asking atomic.Int64
}

// daemonHooks connect a daemon to whoever started it.
type daemonHooks struct {
	// ready is called once, when the mount answers.
	ready func(*daemon)
	// log is used instead of a file when set.
	log *slog.Logger
	// unsealed leaves the mount point writable when it is unmounted.
	unsealed bool
}

// runDaemon mounts as planned and returns when the vault is unmounted and
// closed. It ends by a signal, by a command, or when somebody else unmounts. The end
// of interrupted is a signal that came before this listens for them.
func runDaemon(interrupted context.Context, plan mountPlan, creds *credentials, hooks daemonHooks) error {
	// Hardening that fails makes nothing worse than it was.
	_ = vaultcore.HardenProcess()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background()) // of the start
	defer cancel()
	stopHearing := context.AfterFunc(interrupted, cancel)
	d := &daemon{plan: plan, hooks: hooks, cut: make(chan struct{}), finished: make(chan struct{})}
	started := make(chan error, 1)
	go func() { started <- d.start(ctx, creds) }()
	for {
		select {
		case err := <-started:
			stopHearing() // from here on there are signals
			creds.wipe()
			if err != nil {
				return err
			}
			if errors.Join(ctx.Err(), interrupted.Err()) != nil && len(signals) == 0 {
				signals <- syscall.SIGTERM // it came too late to stop the start
			}
			return d.serve(signals)
		case <-signals:
			cancel()
		}
	}
}

// start takes everything a mount needs, in the order in which it can fail
// without harm, and gives it back when something fails.
func (d *daemon) start(ctx context.Context, creds *credentials) (err error) {
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}()
	if err := d.openHome(); err != nil {
		return err
	}
	if err := checkPoint(d.plan.MountPoint); err != nil {
		return err
	}
	d.startLog()
	if d.logFile != nil {
		undo = append(undo, func() { _ = d.logFile.Close() })
	}
	if d.plan.DebugAddr != "" {
		l, err := serveDebug(d.plan.DebugAddr)
		if err != nil {
			return err
		}
		undo = append(undo, func() { _ = l.Close() })
		d.log.Info("profiles are served", "address", l.Addr().String())
	}
	if err := d.openVault(ctx, creds); err != nil {
		return err
	}
	undo = append(undo, func() { _ = d.closeVault() })
	if err := d.listen(); err != nil {
		return err
	}
	undo = append(undo, func() { _ = d.listener.Close(); _ = os.Remove(d.socket) })
	return d.mountVault(ctx)
}

func (d *daemon) openHome() (err error) {
	if d.plan.Backup != "" { // its home is made when it is opened
		d.logPath = filepath.Join(stateDir(), "backup.log")
		return nil
	}
	d.home, err = selectVault(d.plan.Home + "/")
	d.logPath = d.plan.logPath(d.home)
	return err
}

// startLog goes without a log where none can be written: a vault on a machine
// whose home is not writable is still a vault.
func (d *daemon) startLog() {
	d.log = d.hooks.log
	if d.log != nil {
		d.logPath = ""
		return
	}
	var err error
	if d.logFile, err = openLog(d.logPath); err != nil {
		d.log, d.logPath = slog.New(slog.DiscardHandler), ""
		return
	}
	d.log = newLogger(d.logFile)
	slog.SetDefault(d.log)
	// A crash that Go itself reports goes where somebody will look for it.
	if err := debug.SetCrashOutput(d.logFile.f, debug.CrashOptions{}); err != nil {
		d.log.Warn("crashes are not logged", "err", err)
	}
}

// openVault waits a little for another process to let go: a mount that is
// just ending, or a short command.
func (d *daemon) openVault(ctx context.Context, creds *credentials) error {
	if d.plan.Backup != "" {
		return d.openBackup(ctx, creds)
	}
	boundGarbage()
	o := d.plan.vaultOptions()
	o.Log, o.Unlocking = d.log, d.forget
	deadline := time.Now().Add(openPatience)
	for {
		vault, err := openVault(ctx, d.home, creds, o)
		if err == nil {
			d.vault = vault
			return nil
		}
		if !errors.Is(err, vaultcore.ErrInUse) || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// listen binds the socket. The vault's lock is ours by now, so whatever lies
// there is left over.
func (d *daemon) listen() error {
	dir, err := serveDir()
	if err != nil {
		return err
	}
	d.socket = filepath.Join(dir, d.home.slot()+socketSuffix)
	d.listener, err = listenSocket(d.socket)
	return err
}

func (d *daemon) mountVault(ctx context.Context) error {
	d.sync = newSyncing(d.vault, d.log)
	d.sync.busy, d.sync.steady = d.load.busy, true
	d.server = &server{
		vault:   d.vault,
		sync:    d.sync,
		since:   time.Now(),
		log:     d.log,
		unmount: d.unmount,
		mount:   mountState{Asset: d.plan.Asset, Log: d.logPath},
	}
	o := fs.Options{
		MountPoint: d.plan.MountPoint,
		ReadOnly:   d.vault.ReadOnly(),
		AllowOther: d.plan.AllowOther,
		XAttr:      d.plan.XAttr,
		Label:      d.plan.Source,
		Seal:       !d.hooks.unsealed,
		Log:        d.log,
		StatusJSON: d.server.statusJSON,
	}
	if d.plan.Asset != "" {
		asset, err := d.vault.AssetByTitle(d.plan.Asset)
		if err != nil {
			return &failure{cause: err, text: fmt.Sprintf("asset %q: %v", d.plan.Asset, err)}
		}
		o.Asset = asset
	}
	mount, err := fs.Mount(ctx, d.vault, o)
	if err != nil {
		return err
	}
	d.mount, d.point = mount, mount.MountPoint()
	d.server.mount.MountPoint, d.server.settled = d.point, mount.Settled
	d.record()
	d.load.start(mount, d.sync.poke)
	d.vault.SettleGently(func() bool { return d.load.busy() || d.sync.transferring() })
	d.sync.begin(ctx)
	return nil
}

// record leaves what commands need should this process die or hang.
func (d *daemon) record() {
	entry, _, err := mountAt(d.point)
	if err == nil {
		err = writeRecord(d.socket, mountRecord{Vault: d.home.id, Home: d.home.path, MountPoint: d.point,
			Asset: d.plan.Asset, Device: entry.device, Log: d.logPath, Backup: d.plan.Backup})
	}
	if err != nil {
		d.log.Warn("the mount is not recorded", "err", err)
	}
}

// serve answers until the mount has gone, then closes the vault.
func (d *daemon) serve(signals <-chan os.Signal) error {
	httpServer := newHTTPServer(d.counting(d.server.handler()), d.log)
	go func() {
		if err := httpServer.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("socket", "err", err)
		}
	}()
	d.log.Info("mounted", "vault", d.home.id, "pid", os.Getpid(), "read_only", d.vault.ReadOnly())
	notify("READY=1\nSTATUS=mounted")
	if d.hooks.ready != nil {
		d.hooks.ready(d)
	}
	select {
	case <-d.mount.Done():
		d.log.Info("unmounted")
	case <-signals:
		d.log.Info("asked to end")
		d.drainForSignal(signals)
	case <-d.cut:
		d.log.Warn("locked by force")
		d.commit()
	}
	d.uploadRest()
	err := d.finish()
	d.hangUp(httpServer)
	if err != nil {
		return &failure{cause: err, text: oneLine(err), final: true}
	}
	return nil
}

// counting notes who waits for the end of an unmount.
func (d *daemon) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == apiPrefix+callUnmount {
			d.asking.Add(1)
			defer d.asking.Add(-1)
		}
		next.ServeHTTP(w, r)
	})
}

// hangUp ends the calls. Those of a vault that is closed have a moment to fail; who
// waits for the end of an unmount hears of it, also on a machine that does far too
// much at a time: without an answer it would take the unmount for one that failed.
func (d *daemon) hangUp(httpServer *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), callsMoment)
	defer cancel()
	_ = httpServer.Shutdown(ctx)
	for end := time.Now().Add(answerPatience); d.asking.Load() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// commit stores what was written up to now, on the way out.
func (d *daemon) commit() {
	ctx, cancel := context.WithTimeout(context.Background(), commitDeadline)
	defer cancel()
	if err := d.vault.CommitAll(ctx); err != nil {
		d.log.Error("commit", "err", err)
	}
}

// finish closes the vault, and with it goes what shows that it was mounted.
func (d *daemon) finish() error {
	stop := keepAlive()
	defer stop()
	d.sync.end()
	err := d.closeVault()
	if err != nil {
		d.log.Error("close vault", "err", err)
	}
	if d.closeBackup != nil {
		d.forget()
	}
	d.log.Info("ended")
	d.closeErr = err
	close(d.finished)
	return err
}

// forget removes what shows that the vault is mounted: last, so that whoever waits for
// that finds everything done, and before another mount, which may be waiting for the
// vault, has put its own there.
func (d *daemon) forget() {
	if d.socket != "" {
		mountRecord{socket: d.socket}.forget()
	}
}
