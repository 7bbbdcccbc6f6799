package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	socketSuffix = ".sock"
	// maxSocketPath is what fits sun_path with its final NUL.
	maxSocketPath = 107
)

// serveDir is the directory a daemon puts its socket in; it is made if need be
// and must be ours alone.
func serveDir() (string, error) {
	dir := fallbackRuntimeDir()
	if base := os.Getenv("XDG_RUNTIME_DIR"); base != "" {
		dir = filepath.Join(base, "vaultdrive")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make runtime directory: %w", err)
	}
	return dir, checkPrivate(dir)
}

// clientDirs are the places a daemon of this user may have put its socket. A
// command from cron or sudo has no XDG_RUNTIME_DIR, its daemon may have had.
func clientDirs() []string {
	var dirs []string
	seen := map[string]bool{}
	for _, dir := range []string{
		runtimeUnder(os.Getenv("XDG_RUNTIME_DIR")),
		runtimeUnder(fmt.Sprintf("/run/user/%d", os.Geteuid())),
		fallbackRuntimeDir(),
	} {
		if dir != "" && !seen[dir] && checkPrivate(dir) == nil {
			dirs = append(dirs, dir)
		}
		seen[dir] = true
	}
	return dirs
}

func runtimeUnder(base string) string {
	if base == "" {
		return ""
	}
	return filepath.Join(base, "vaultdrive")
}

func fallbackRuntimeDir() string {
	return fmt.Sprintf("/tmp/vaultdrive-%d", os.Geteuid())
}

// checkPrivate refuses a directory that anybody else could have prepared or
// can enter: whoever owns it could stand between a command and its daemon.
func checkPrivate(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fail(errRuntimeDir, "", "%s is not a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fail(errRuntimeDir, "", "%s belongs to user %d", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fail(errRuntimeDir, "", "%s is open to others (mode %04o)", dir, st.Mode&0o7777)
	}
	return nil
}

// socketsHere lists the homes, by slot, that have a socket, with its path.
func socketsHere() map[string]string {
	found := map[string]string{}
	for _, dir := range clientDirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), socketSuffix)
			if _, taken := found[id]; ok && !taken {
				found[id] = filepath.Join(dir, e.Name())
			}
		}
	}
	return found
}

// socketAddress calls use with an address that stands for path. One too long
// for the kernel is reached through a descriptor of its directory.
func socketAddress(path string, use func(addr string) error) error {
	if len(path) <= maxSocketPath {
		return use(path)
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(fd)
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)))
}

// listenSocket binds the socket of a vault. One that lies there is a dead
// daemon's: the caller holds the vault's lock.
func listenSocket(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	var l *net.UnixListener
	err := socketAddress(path, func(addr string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect socket: %w", err)
	}
	return &ownListener{l}, nil
}

// ownListener accepts only connections of processes of its own user.
type ownListener struct{ *net.UnixListener }

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peer, err := peerOf(conn); err == nil && int(peer.Uid) == os.Geteuid() {
			return conn, nil
		}
		conn.Close()
	}
}

// dialSocket connects to a daemon and makes sure that it is ours before any
// password is sent. The process id is the kernel's word.
func dialSocket(path string) (net.Conn, int, error) {
	var conn *net.UnixConn
	err := socketAddress(path, func(addr string) (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: addr, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	peer, err := peerOf(conn)
	if err == nil && int(peer.Uid) != os.Geteuid() {
		err = fail(errForeignSocket, "", "socket %s is served by user %d", path, peer.Uid)
	}
	if err != nil {
		conn.Close()
		return nil, 0, err
	}
	return conn, int(peer.Pid), nil
}

func peerOf(conn syscall.Conn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return nil, err
	}
	return cred, credErr
}
