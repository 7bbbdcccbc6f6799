package fs

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// TestStuckRequestsHoldUpNobody has several requests wait at once, as for a
// network, and wants all others answered beside them.
func TestStuckRequestsHoldUpNobody(t *testing.T) {
	const stuck = 5
	free, entered := make(chan struct{}), make(chan struct{}, stuck)
	m := mountVault(t, func(_ *mounted, o *Options) {
		o.StatusJSON = func() []byte { entered <- struct{}{}; <-free; return []byte("{}") }
	})
	var wg sync.WaitGroup
	for range stuck {
		c := startClient(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if a := c.do(call{Op: "open", Path: m.dir + "/.vaultdrive/status.json", Flags: os.O_RDONLY}); a.Errno != 0 {
				t.Errorf("status: %v", a.Errno)
			}
		}()
		<-entered
	}
	c := startClient(t)
	for range 3 {
		c.write(m.a+"/f", "beside")
		if got := c.read(m.a + "/f"); got != "beside" {
			t.Errorf("read %q", got)
		}
		c.must(call{Op: "unlink", Path: m.a + "/f"})
	}
	close(free)
	wg.Wait()
}

// TestMountByHelper: who may not mount by system call has the helper do it.
func TestMountByHelper(t *testing.T) {
	needFUSE(t)
	if helper() == "" {
		t.Skip("no fusermount3 here")
	}
	v, point := openVault(t, newVault(t), vaultcore.Options{}), t.TempDir()
	o := withDefaults(Options{MountPoint: point, Label: `a,b\c`})
	f := newFileSystem(v, o)
	fd, err := mountByHelper(point, mountOptions(f, o))
	if err != nil {
		t.Fatal(err)
	}
	m, err := topMount(point)
	if err != nil || !m.ours() {
		t.Errorf("mounted %+v, %v", m, err)
	}
	if err := unmountLazily(point); err != nil {
		t.Error(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

// TestReadersComeAndGo: large requests, and small ones side by side, are
// worth more readers; one program with small ones is served by one.
func TestReadersComeAndGo(t *testing.T) {
	c := &kernelConn{most: 2, fd: -1}
	c.watching.Store(true)
	c.gone = true // no reader is started here
	in := make([]byte, unsafe.Sizeof(fuse.ReadIn{}))
	read := (*fuse.ReadIn)(unsafe.Pointer(&in[0]))
	read.Opcode, read.Size = opRead, largeRequest
	if _, large := requestKind(in); !large {
		t.Error("a large READ counts as small")
	}
	read.Size = 4096
	if _, large := requestKind(in); large {
		t.Error("a small READ counts as large")
	}
	for range 10 {
		c.busy.Store(1) // another program's
		if !c.took(in) {
			t.Fatal("nobody waits for a READ")
		}
	}
	if got := c.readers(); got != 2 {
		t.Errorf("%d readers for requests side by side", got)
	}
	for range 4 * crowdMost * lookEvery {
		c.busy.Store(0)
		c.took(in)
	}
	if got := c.readers(); got != 1 {
		t.Errorf("%d readers for one program", got)
	}
	read.Opcode = opRelease
	if c.took(in) {
		t.Error("somebody waits for a RELEASE")
	}
}

// TestSomebodyAlwaysReads lets readers take and answer requests that cost
// nothing, so that they decide all the time whether they are one too many.
func TestSomebodyAlwaysReads(t *testing.T) {
	var c kernelConn
	var alive atomic.Int32
	var left sync.WaitGroup
	for range 20000 {
		const crowd = 4
		alive.Store(crowd)
		c.waiting.Store(crowd)
		for range crowd {
			left.Go(func() {
				for range 3 {
					c.waiting.Add(-1) // takes a request
					if !c.stay() {
						alive.Add(-1)
						return
					}
				}
			})
		}
		left.Wait()
		if alive.Load() == 0 {
			t.Fatal("all readers have left")
		}
	}
}
