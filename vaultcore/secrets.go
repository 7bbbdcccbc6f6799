package vaultcore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	arenaSize  = 64 << 10 // within the usual RLIMIT_MEMLOCK
	secretSize = int(unsafe.Sizeof(seal.Key{}))
)

// arena is memory for the vault's long-lived secrets: outside the Go heap, so
// that nothing copies them, locked, so that they never reach swap, and left
// out of core dumps. Safe for concurrent use.
type arena struct {
	mem    []byte
	locked bool

	mu   sync.Mutex
	next int // slots handed out so far; one is never used twice
}

// newArena maps the memory. That it cannot be locked is no error: locked
// tells.
func newArena() (*arena, error) {
	mem, err := unix.Mmap(-1, 0, arenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for keys: %w", err)
	}
	a := &arena{mem: mem, locked: unix.Mlock(mem) == nil}
	// Both only narrow what others see; an old kernel may not know them.
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	_ = unix.Madvise(mem, unix.MADV_DONTFORK)
	// Unmapped with the last reference and not in wipe: a late reader must
	// find zeros, not a fault.
	runtime.AddCleanup(a, func(mem []byte) { _ = unix.Munmap(mem) }, mem)
	return a, nil
}

// keep moves a key in and wipes the caller's copy. Should the arena be full,
// after some two thousand password changes, the key lies in the heap.
func (a *arena) keep(k *seal.Key) *seal.Key {
	a.mu.Lock()
	slot := a.next
	a.next++
	a.mu.Unlock()
	kept := new(seal.Key)
	if off := slot * secretSize; off+secretSize <= len(a.mem) {
		kept = (*seal.Key)(unsafe.Pointer(&a.mem[off]))
	}
	*kept = *k
	k.Wipe()
	return kept
}

// wipe overwrites everything and gives the memory back to the system. Keys
// handed out read as zeros from now on.
func (a *arena) wipe() {
	clear(a.mem)
	_ = unix.Munlock(a.mem)
	_ = unix.Madvise(a.mem, unix.MADV_DONTNEED)
}

// HardenProcess keeps this process's memory from other processes of the user
// and from core dumps. To be called first of all; what follows is as safe as
// before if it fails.
func HardenProcess() error {
	return errors.Join(
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
}

// HasHardwareAES reports whether sealing is fast on this processor and its
// timing tells nothing about keys. Without it a mount should be refused unless
// the user insists.
func HasHardwareAES() bool { return seal.FastAES() }

// UnencryptedSwap reports whether some active swap may write memory to a disk
// in clear. What cannot be told counts as unencrypted.
func UnencryptedSwap() bool {
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return false // no such file, no swap support
	}
	return unencryptedSwap(swaps, "/sys", deviceOf)
}

// unencryptedSwap reads a table in the form of /proc/swaps. sys is where
// sysfs lies, device tells on which block device a swap file does, "8:1".
func unencryptedSwap(swaps []byte, sys string, device func(path string) string) bool {
	lines := bufio.NewScanner(bytes.NewReader(swaps))
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		path := unescapeOctal(fields[0])
		block := filepath.Join(sys, "class/block", filepath.Base(path))
		if fields[1] != "partition" {
			block = filepath.Join(sys, "dev/block", device(path))
		}
		if !encryptedBlock(block, 0) {
			return true
		}
	}
	return false
}

// encryptedBlock says whether all that is written to a block device, given by
// its folder in sysfs, is encrypted or stays in memory.
func encryptedBlock(block string, depth int) bool {
	const deepest = 8 // a stack of mappings; anything deeper is a loop
	if real, err := filepath.EvalSymlinks(block); err == nil {
		block = real
	}
	if strings.HasPrefix(filepath.Base(block), "zram") {
		// Compressed memory, unless it has a disk to spill to.
		backing, err := os.ReadFile(filepath.Join(block, "backing_dev"))
		return err != nil || strings.TrimSpace(string(backing)) == "none"
	}
	uuid, err := os.ReadFile(filepath.Join(block, "dm/uuid"))
	if err == nil && bytes.HasPrefix(uuid, []byte("CRYPT-")) {
		return true
	}
	below, err := os.ReadDir(filepath.Join(block, "slaves"))
	if err != nil || len(below) == 0 || depth == deepest {
		return false
	}
	for _, device := range below {
		if !encryptedBlock(filepath.Join(block, "slaves", device.Name()), depth+1) {
			return false
		}
	}
	return true
}

func deviceOf(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "none"
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
}

// unescapeOctal undoes the kernel's \040 for blanks in paths.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
