package main

import (
	"fmt"
	"io"
	"syscall"
	"time"
)

// Raw system calls, not os.File: that registers descriptors with epoll, which
// sends requests of its own to a mount.

func writeFile(path string, data []byte, sync bool) error {
	return created(path, func(fd int) error {
		for rest := data; len(rest) > 0; {
			n, err := syscall.Write(fd, rest[:min(len(rest), mib)])
			if err != nil {
				return fmt.Errorf("write %s: %w", path, err)
			}
			rest = rest[n:]
		}
		if sync {
			return syscall.Fsync(fd)
		}
		return nil
	})
}

// save writes a new file and returns the seconds of the whole and of its close.
func save(path string, data []byte) (whole, closing float64, err error) {
	start := time.Now()
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return 0, 0, fmt.Errorf("create %s: %w", path, err)
	}
	for len(data) > 0 && err == nil {
		var n int
		n, err = syscall.Write(fd, data[:min(len(data), mib)])
		data = data[max(n, 0):]
	}
	written := time.Now()
	if e := syscall.Close(fd); err == nil {
		err = e
	}
	return time.Since(start).Seconds(), time.Since(written).Seconds(), err
}

func readAll(path string, size int64) error {
	buf := make([]byte, min(size, mib))
	return withFile(path, syscall.O_RDONLY, func(fd int) error {
		var total int64
		for {
			n, err := syscall.Read(fd, buf)
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			if total += int64(n); n == 0 {
				break
			}
		}
		if total != size {
			return fmt.Errorf("read %s: %d bytes of %d", path, total, size)
		}
		return nil
	})
}

func readStart(path string, size int) error {
	return withFile(path, syscall.O_RDONLY, func(fd int) error {
		n, err := syscall.Read(fd, make([]byte, size))
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

// readBlocks reads blocks of 4 KiB in the given order.
func readBlocks(path string, order []int) error {
	buf := make([]byte, 4096)
	return withFile(path, syscall.O_RDONLY, func(fd int) error {
		for _, block := range order {
			n, err := syscall.Pread(fd, buf, int64(block)*4096)
			if err == nil && n != len(buf) {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
		}
		return nil
	})
}

func writeRandom(path string, data []byte) error {
	return withFile(path, syscall.O_WRONLY, func(fd int) error {
		for _, block := range shuffled(len(data) / 4096) {
			if _, err := syscall.Pwrite(fd, data[block*4096:][:4096], int64(block)*4096); err != nil {
				return fmt.Errorf("write %s: %w", path, err)
			}
		}
		return syscall.Fsync(fd)
	})
}

func created(path string, f func(fd int) error) error {
	return withFile(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC, f)
}

func withFile(path string, flags int, f func(fd int) error) error {
	fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	err = f(fd)
	if e := syscall.Close(fd); err == nil {
		err = e
	}
	return err
}
