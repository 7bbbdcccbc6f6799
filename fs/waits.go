package fs

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// waits are those of requests for a network, as far as they end before their
// deadline: one of them when its program is killed, all of them when the mount
// goes.
type waits struct {
	over chan struct{} // closed once nothing is waited for any more
	once sync.Once
}

// end ends all waits under way and to come.
func (w *waits) end() { w.once.Do(func() { close(w.over) }) }

// caller is who a request was sent for. cancel is closed when a signal has come
// for that thread, of which the kernel does not say what it does.
func (w *waits) caller(cancel <-chan struct{}, h *fuse.InHeader) vaultcore.Caller {
	return vaultcore.Caller{Interrupted: cancel, Killed: killed, Thread: h.Pid, Gone: w.over}
}

// killed says whether a thread is about to die of a signal: whichever that was,
// the kernel has sent it the one that nothing can catch. A thread that cannot be
// looked at, as one of another PID namespace, is not.
func killed(thread uint32) bool {
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(thread), 10) + "/status")
	if err != nil {
		return false
	}
	_, rest, found := bytes.Cut(status, []byte("\nSigPnd:\t"))
	if !found {
		return false
	}
	mask, _, _ := bytes.Cut(rest, []byte("\n"))
	pending, err := strconv.ParseUint(string(mask), 16, 64)
	return err == nil && pending&(1<<(syscall.SIGKILL-1)) != 0
}
