package blob

import (
	"os"

	"golang.org/x/sys/unix"
)

// Section is a part of a file that is read as if it were a file of its own.
type Section struct {
	File      *os.File
	Off, Size int64 // bytes
}

// Overlay lets OpenFile, ReadFull and ReadPieces look for a name elsewhere first:
// the contents of a backup are read where they lie in it. find is set before the
// Dir is used, and may be called by several goroutines at a time.
func (d *Dir) Overlay(find func(name string) (Section, bool)) { d.overlay = find }

// openSection opens a part of another file by a descriptor of its own; nil if the
// name is none of the overlay's.
func (d *Dir) openSection(name string) (*File, error) {
	if d.overlay == nil {
		return nil, nil
	}
	s, ok := d.overlay(name)
	if !ok {
		return nil, nil
	}
	fd, err := unix.FcntlInt(s.File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, Wrap("open", name, err)
	}
	f := &File{File: os.NewFile(uintptr(fd), name), dir: d, name: name, part: &s}
	f.refused.Store(true) // its blocks are not those of the file around it
	return f, nil
}

// Len is the length in bytes.
func (f *File) Len() (int64, error) {
	if f.part != nil {
		return f.part.Size, nil
	}
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return st.Size, err
}
