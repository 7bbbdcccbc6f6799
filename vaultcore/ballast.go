package vaultcore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	fileBallast  = "ballast"
	ballastSize  = 2 << 20
	ballastSteps = 4 // what it is given up in
)

// roomFile is a file in the vault's home that holds room for the transactions
// that make room: on a disk full to its last byte SQLite could not write that
// something was deleted or evicted. It is cut shorter a step at a time, so that
// another program that fills the disk takes no more than one step, and made
// whole again once there is room for twice of it.
//
// The committer alone calls it, but for whole.
type roomFile struct {
	// Set at construction.
	file *os.File // nil: there is none, and nothing is held back
	size int64
	free func() (avail, total uint64, err error)

	held  int64 // bytes of the file
	short atomic.Bool
}

// openBallast opens the file and fills it if there is room. One that cannot be
// made is done without: it only helps on a full disk.
func openBallast(path string, free func() (avail, total uint64, err error)) (*roomFile, error) {
	b := &roomFile{free: free}
	_, total, err := free()
	if err != nil {
		return b, err
	}
	b.size = min(ballastSize, clampSize(total)/64) &^ (4096*ballastSteps - 1)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return b, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file: %w", path, fs.ErrInvalid)
	}
	if err != nil {
		return b, errors.Join(err, f.Close())
	}
	b.file, b.held = f, min(fi.Size(), b.size)
	b.short.Store(b.held < b.size)
	b.refill()
	return b, nil
}

func (b *roomFile) close() error {
	if b == nil || b.file == nil {
		return nil
	}
	return b.file.Close()
}

// whole says that nothing of the room is given up.
func (b *roomFile) whole() bool { return b == nil || !b.short.Load() }

// give gives up a step of the room. It says whether there was one.
func (b *roomFile) give() bool {
	if b == nil || b.file == nil || b.held == 0 {
		return false
	}
	b.held = max(0, b.held-b.size/ballastSteps)
	b.short.Store(true)
	if b.file.Truncate(b.held) != nil {
		return false
	}
	// A journal may give blocks free only once it has said so itself.
	_ = b.file.Sync()
	return true
}

// refill takes the room back if the disk has it and as much again. It says
// whether the room is whole.
func (b *roomFile) refill() bool {
	if b.whole() {
		return true
	}
	avail, _, err := b.free()
	if err != nil || clampSize(avail) < 2*b.size-b.held {
		return false
	}
	if err := allocate(b.file, b.held, b.size); err != nil {
		_ = b.file.Truncate(b.held)
		return false
	}
	b.held = b.size
	b.short.Store(false)
	return true
}

// allocate takes room on the disk for a file from one size to another. Where a
// file system cannot set room aside, it gets bytes that do not compress.
func allocate(f *os.File, from, to int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, from, to-from)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	data := make([]byte, to-from)
	_, _ = rand.Read(data) // it never fails
	if _, err := f.WriteAt(data, from); err != nil {
		return err
	}
	return f.Sync()
}
