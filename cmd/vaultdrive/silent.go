package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/fs"
)

const (
	// answerPatience is how long a mount's process may take for its first word, which
	// on a machine that does far too much at a time it gets to after seconds.
	answerPatience = 10 * time.Second
	// silencePatience is how long it may be silent later, while it works and
	// the machine is perhaps short of everything.
	silencePatience = 20 * time.Second
	pulseEvery      = 2 * time.Second
	// statusPatience is for a process that answers, and waits for its disk.
	statusPatience = 15 * time.Second
)

// silentDaemon is a process of a mount that is there and does not answer: it
// is stopped, or hangs.
type silentDaemon struct {
	pid    int // 0 when even the connection was not taken
	socket string
	record mountRecord
	known  bool // record was found
}

func (s *silentDaemon) Error() string        { return errDaemonSilent.Error() }
func (s *silentDaemon) Is(target error) bool { return target == errDaemonSilent }

// silent makes the failure that names the ways out.
func silent(socket string, pid int) error {
	s := &silentDaemon{pid: pid, socket: socket}
	s.record, s.known = readRecord(socket)
	who, hint := "the mounted vault's process", "vaultdrive lock --force ends it"
	if pid != 0 {
		who = fmt.Sprintf("process %d of the mounted vault", pid)
	}
	if s.known {
		who += " on " + s.record.MountPoint
		hint = fmt.Sprintf("vaultdrive umount --lazy %s takes the mount away; vaultdrive lock --force --vault %s ends the process too",
			shellQuote(s.record.MountPoint), shellQuote(s.record.Home+"/"))
	}
	return &failure{cause: s, text: who + " does not answer", hint: hint}
}

// isSilent tells a full queue of connections, which nobody takes off, from a
// socket that nobody serves.
func isSilent(err error) bool { return errors.Is(err, syscall.EAGAIN) }

// watch ends all calls of a client when its process falls silent in the middle
// of them. It returns when ctx ends.
func (c *client) watch(ctx context.Context, every, patience time.Duration, end context.CancelCauseFunc) {
	for pause(ctx, every) == nil {
		asking, cancel := context.WithTimeout(ctx, patience)
		err := c.call(asking, callPing, none{}, nil)
		late := errors.Is(asking.Err(), context.DeadlineExceeded)
		cancel()
		if err != nil && late {
			end(silent(c.socket, c.pid))
			return
		}
	}
}

// detach takes the mount out of sight without its process.
func (s *silentDaemon) detach(ctx context.Context) error {
	if !s.known || !s.record.seen() {
		return nil
	}
	return unmountDirect(ctx, s.record.MountPoint, true)
}

// end locks a vault whose process does not answer: the connection is cut, so
// that no program hangs, the process ends, and its keys with it. What it had
// stored of open files is recovered by the next mount, as after a crash.
func (s *silentDaemon) end(ctx context.Context) error {
	if s.known && s.record.seen() {
		// Only root may, in most places; the end of the process cuts as well.
		_, _ = bounded(ctx, systemPatience, func() (none, error) { return none{}, fs.Cut(s.record.MountPoint) })
	}
	if err := s.kill(ctx); err != nil {
		return errors.Join(err, s.detach(ctx))
	}
	if err := s.detach(ctx); err != nil {
		return busyOr(s.record.MountPoint, "", err)
	}
	mountRecord{socket: s.socket}.forget()
	return nil
}

// kill ends the process whose id the kernel gave for the socket.
func (s *silentDaemon) kill(ctx context.Context) error {
	if s.pid == 0 {
		return fail(errDaemonSilent, "end it by its process id", "the mounted vault's process takes no connection and cannot be found")
	}
	process, err := unix.PidfdOpen(s.pid, 0)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", s.pid, err)
	}
	defer unix.Close(process)
	if err := unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", s.pid, err)
	}
	if err := awaitExit(ctx, process); err != nil {
		return fail(errDaemonSilent, "", "process %d does not end, the system holds it up", s.pid)
	}
	return nil
}

// clearDead takes away what a process that died left of its mount.
func clearDead(ctx context.Context, r mountRecord) error {
	if err := unmountDirect(ctx, r.MountPoint, true); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return busyOr(r.MountPoint, "", err)
	}
	if r.socket != "" {
		r.forget()
	}
	return nil
}
