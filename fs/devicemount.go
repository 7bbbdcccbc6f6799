package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// mountKernel mounts by system call where that is allowed, else through the
// helper that may.
func mountKernel(point string, m *fuse.MountOptions) (int, error) {
	fd, err := mountDirect(point, m)
	if err == nil || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return fd, err
	}
	helped, helpErr := mountByHelper(point, m)
	if helpErr != nil {
		return -1, errors.Join(helpErr, err)
	}
	return helped, nil
}

func mountDirect(point string, m *fuse.MountOptions) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		return -1, err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	data := []string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
		fmt.Sprintf("max_read=%d", m.MaxWrite),
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	for _, o := range m.Options {
		if o == "ro" {
			flags |= unix.MS_RDONLY
			continue
		}
		data = append(data, o)
	}
	if m.AllowOther {
		data = append(data, "allow_other")
	}
	if err := unix.Mount(m.FsName, point, "fuse."+m.Name, flags, strings.Join(data, ",")); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// mountByHelper has fusermount3 mount; it hands the device over a socket.
func mountByHelper(point string, m *fuse.MountOptions) (int, error) {
	path := helper()
	if path == "" {
		return -1, ErrNoHelper
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "helper")
	defer unix.Close(ours)
	defer theirs.Close()

	opts := append([]string{}, m.Options...)
	if m.AllowOther {
		opts = append(opts, "allow_other")
	}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	opts = append(opts, "fsname="+escape.Replace(m.FsName), "subtype="+m.Name, fmt.Sprintf("max_read=%d", m.MaxWrite))
	cmd := exec.Command(path, "-o", strings.Join(opts, ","), "--", point)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	if out, err := cmd.CombinedOutput(); err != nil {
		return -1, fmt.Errorf("%s: %s: %w", path, strings.TrimSpace(string(out)), err)
	}
	return receiveFD(ours)
}

// receiveFD takes the descriptor that the helper has sent.
func receiveFD(socket int) (int, error) {
	var data [4]byte
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data[:], control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, fmt.Errorf("the helper sent no device: %w", unix.EPROTO)
}
