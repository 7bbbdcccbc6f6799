package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/vaultdrive/vaultdrive/fs"
)

const (
	// lazyDeadline is how long programs may go on with open files after the
	// process was told to end. Then the connection is cut.
	lazyDeadline = 20 * time.Second
	// briefly is the same for commands, where a person waits.
	briefly = time.Second
	// commitDeadline bounds the wait for drafts and barrier on the way out.
	commitDeadline = 5 * time.Minute
	// signalUpload is how long uploads go on after the process was told to end.
	signalUpload = 5 * time.Second
	// callsMoment is how long calls may go on when the vault is closed.
	callsMoment = time.Second
)

// Stages an unmount passes; umount shows them.
const (
	stageCommit   = "commit"   // drafts become revisions, then the barrier
	stageDetach   = "detach"   // the kernel lets go
	stageDetached = "detached" // out of sight, still used by open files
	stageUpload   = "upload"   // what the remote has not got yet goes there, for a while
	stageClose    = "close"    // contents settle, keys are wiped
)

// unmount serves the umount command. What is written is made durable first:
// whatever happens afterwards loses nothing. Busy, and neither lazy nor forced,
// nothing else has changed. It returns when the vault is closed, or, lazy and
// still used, when the mount is out of sight; and says what is not uploaded.
func (d *daemon) unmount(ctx context.Context, r unmountRequest, tell func(frame)) (leftBehind, error) {
	d.uploadFor.Store(int64(r.Upload))
	if err := d.letGo(ctx, r, tell); err != nil {
		return leftBehind{}, err
	}
	if !d.isGone() && !r.Force {
		d.server.detached.Store(true)
		tell(frame{Stage: stageDetached})
		return leftBehind{}, nil
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var p transferProgress
	for {
		select {
		case <-d.finished:
			return d.left, d.closeErr
		case <-ticker.C:
		}
		f := frame{Stage: stageClose}
		if d.uploading.Load() {
			f.Stage = stageUpload
			f.Done, f.Total = p.step(d.sync.engineStatus())
		}
		tell(f)
	}
}

// uploadRest goes on for a while after the mount has gone, and notes what is
// left for the next one.
func (d *daemon) uploadRest() {
	d.load.stop()
	stop := keepAlive()
	defer stop()
	d.uploading.Store(true)
	d.left = d.sync.drain(time.Duration(d.uploadFor.Load()))
	d.uploading.Store(false)
}

// letGo commits and detaches, one caller at a time.
func (d *daemon) letGo(ctx context.Context, r unmountRequest, tell func(frame)) error {
	d.draining.Lock()
	defer d.draining.Unlock()
	if d.isGone() {
		return nil
	}
	tell(frame{Stage: stageCommit})
	if err := d.vault.CommitAll(ctx); err != nil {
		if !r.Lazy && !r.Force {
			return err
		}
		d.log.Error("commit", "err", err)
	}
	tell(frame{Stage: stageDetach})
	if !r.Lazy && !r.Force {
		return d.mount.TryUnmount(ctx)
	}
	return d.detach(ctx, briefly, r.Force)
}

// detach takes the mount out of sight and gives programs some time to close
// what they have open. Then, if cut is set, the connection ends.
func (d *daemon) detach(ctx context.Context, patience time.Duration, cut bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := d.mount.Unmount(ctx)
	if !errors.Is(err, fs.ErrBusy) || !cut {
		var busy *fs.BusyError
		if errors.As(err, &busy) && busy.Lazy {
			return nil
		}
		return err
	}
	d.log.Warn("files are still open; they end here")
	if err := d.mount.Abort(); err != nil {
		// The end of this process will cut the connection.
		d.log.Error("abort", "err", err)
		d.forced.Do(func() { close(d.cut) })
	}
	return nil
}

func (d *daemon) isGone() bool {
	select {
	case <-d.mount.Done():
		return true
	default:
		return false
	}
}

// drainForSignal is the way out when nobody waits for an answer: it ends in
// any case, after everything that was written is safe. A second signal cuts
// the wait for programs that keep files open.
func (d *daemon) drainForSignal(signals <-chan os.Signal) {
	notify("STOPPING=1\nSTATUS=unmounting")
	stop := keepAlive()
	defer stop()
	d.draining.Lock()
	defer d.draining.Unlock()
	d.uploadFor.Store(int64(signalUpload))
	d.commit()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := d.detach(ctx, lazyDeadline, true); err != nil {
		d.log.Error("unmount", "err", err)
	}
	d.commit()
}

// notify tells systemd, if it started this process.
func notify(state string) {
	// Without a manager there is nobody to tell.
	_, _ = systemd.SdNotify(false, state)
}

// keepAlive asks the service manager for time until stop is called.
func keepAlive() (stop func()) {
	const every = 5 * time.Second
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			notify("EXTEND_TIMEOUT_USEC=15000000")
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	})
	var once sync.Once
	return func() {
		once.Do(func() { close(done) })
		ended.Wait()
	}
}
