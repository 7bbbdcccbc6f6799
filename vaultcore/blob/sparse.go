package blob

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ReopenFile opens a file that is there for reading and writing; ErrNotFound if
// there is none.
func (d *Dir) ReopenFile(name string) (*File, error) {
	f, err := d.openAt("open", name, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	return &File{File: f, dir: d, name: name, flags: unix.O_RDWR}, nil
}

// Punch gives the disk space of a range of the file back; it reads as zeros
// then. A file system that has no holes keeps the space, which is no error.
func (f *File) Punch(off, n int64) error {
	_, err := retryEINTR(func() (int, error) {
		return 0, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		return nil
	}
	return Wrap("punch", filepath.Base(f.Name()), err)
}

// Touch sets the modification time of a file. One that is not there is no error.
func (d *Dir) Touch(name string, t time.Time) error {
	if err := checkName(name); err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(t.UnixNano())}
	err := d.at(func(fd int) error {
		_, err := retryEINTR(func() (int, error) {
			return 0, unix.UtimesNanoAt(fd, name, times, unix.AT_SYMLINK_NOFOLLOW)
		})
		return err
	})
	if err == unix.ENOENT {
		return nil
	}
	return Wrap("touch", name, err)
}

// Usage gives the disk space a file takes, in bytes, and its modification time;
// ErrNotFound if there is none.
func (d *Dir) Usage(name string) (bytes int64, mtime time.Time, err error) {
	if err := checkName(name); err != nil {
		return 0, time.Time{}, err
	}
	var st unix.Stat_t
	if err := d.at(func(fd int) error { return lstatat(fd, name, &st) }); err != nil {
		return 0, time.Time{}, Wrap("stat", name, err)
	}
	return st.Blocks * 512, time.Unix(st.Mtim.Unix()), nil
}
