package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// farVault is a mounted vault whose files are on a remote only.
type farVault struct {
	*mounted
	remote seal.ID

	mu    sync.Mutex
	blobs map[seal.ID][]byte
	asked int
	ended int           // without an answer
	gate  chan struct{} // while not nil, the remote hangs
}

// mountFar mounts a vault with files of size bytes each, evicted.
func mountFar(t testing.TB, wait time.Duration, size int, names ...string) *farVault {
	t.Helper()
	needFUSE(t)
	home := filepath.Join(t.TempDir(), "home")
	_, err := vaultcore.Create(context.Background(), vaultcore.CreateOptions{
		Home: home, Password: []byte(testPassword), KDF: quickKDF, Write: seal.WriteV4,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &farVault{mounted: &mounted{t: t, home: home, log: &logLines{}}, remote: seal.NewID(), blobs: make(map[seal.ID][]byte)}
	f.v = openVault(t, home, vaultcore.Options{Now: f.now, Limits: vaultcore.Limits{FetchWait: wait}})
	if _, err := f.v.AddAsset("A", "item"); err != nil {
		t.Fatal(err)
	}
	f.connect()
	for i, name := range names {
		f.save("A/"+name, farBytes(size, i))
	}
	f.sendAway()
	f.mount(func(_ *mounted, o *Options) { o.XAttr = true })
	return f
}

func farBytes(size, i int) []byte {
	data := make([]byte, size)
	rand.New(rand.NewSource(int64(i))).Read(data)
	return data
}

func (f *farVault) save(path string, data []byte) {
	f.t.Helper()
	w, err := f.v.OpenWrite(path, vaultcore.WriteOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *farVault) connect() {
	f.t.Helper()
	ctx := context.Background()
	if err := f.v.EnableLedger(ctx, "here"); err != nil {
		f.t.Fatal(err)
	}
	if err := f.v.SetRemote(ctx, vaultcore.RemoteSettings{URL: "file:///nowhere", ID: f.remote, Enabled: true}); err != nil {
		f.t.Fatal(err)
	}
	f.v.OnFetchRange(func(ctx context.Context, id seal.ID, off, n int64, w io.WriterAt) error {
		data, err := f.get(ctx, id)
		if err == nil {
			_, err = w.WriteAt(data[off:off+n], off)
		}
		return err
	})
	f.v.OnFetch(func(ctx context.Context, id seal.ID) error {
		data, err := f.get(ctx, id)
		if err != nil {
			return err
		}
		return f.v.PutBlob(ctx, id, bytes.NewReader(data))
	})
}

func (f *farVault) get(ctx context.Context, id seal.ID) ([]byte, error) {
	f.mu.Lock()
	f.asked++
	gate, data := f.gate, f.blobs[id]
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			f.mu.Lock()
			f.ended++
			f.mu.Unlock()
			return nil, ctx.Err()
		}
	}
	if data == nil {
		return nil, blob.ErrNotFound
	}
	return data, nil
}

// sendAway publishes all that changed and evicts it.
func (f *farVault) sendAway() {
	f.t.Helper()
	ctx := context.Background()
	for more := true; more; {
		var err error
		if _, more, err = f.v.Seal(ctx, vaultcore.SealOptions{}); err != nil {
			f.t.Fatal(err)
		}
	}
	ids, err := f.v.UploadBlobs(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, id := range ids {
		src, err := f.v.UploadSource(ctx, id)
		if err != nil {
			f.t.Fatal(err)
		}
		data, err := io.ReadAll(src)
		src.Close()
		if err != nil {
			f.t.Fatal(err)
		}
		f.mu.Lock()
		f.blobs[id] = data
		f.mu.Unlock()
	}
	if err := f.v.Sent(ctx, ids); err != nil {
		f.t.Fatal(err)
	}
	info, err := f.v.Stat("A")
	if err != nil {
		f.t.Fatal(err)
	}
	asset, err := seal.ParseUUID(info.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := f.v.Evict(ctx, []seal.ID{asset})
	if err != nil || len(out.Kept) > 0 {
		f.t.Fatalf("%+v %v", out, err)
	}
}

func (f *farVault) hang() (open func()) {
	gate := make(chan struct{})
	f.mu.Lock()
	f.gate = gate
	f.mu.Unlock()
	return sync.OnceFunc(func() {
		f.mu.Lock()
		f.gate = nil
		f.mu.Unlock()
		close(gate)
	})
}

func (f *farVault) requestsSoFar() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// Contents that are elsewhere come through the mount as they were written.
func TestFarRead(t *testing.T) {
	const size = 5<<20 + 333
	f := mountFar(t, generous, size, "one", "two")
	c := startClient(t)
	want := farBytes(size, 0)
	fd := c.open(f.a+"/one", os.O_RDONLY)
	got := c.must(call{Op: "pread", FD: fd, N: 5000, Off: 3 << 20}).Data
	if !bytes.Equal(got, want[3<<20:3<<20+5000]) {
		t.Fatal("wrong bytes of a range")
	}
	c.must(call{Op: "close", FD: fd})
	if c.read(f.a+"/one") != string(want) || c.read(f.a+"/two") != string(farBytes(size, 1)) {
		t.Fatal("wrong bytes")
	}
	eventually(t, "an ordinary blob", func() bool {
		a := c.do(call{Op: "getxattr", Path: f.a + "/one", To: "user.vaultdrive.content", N: 100})
		return string(a.Data) == vaultcore.ResidentHere
	})
}

// Names, sizes, attributes, opening and what is read ahead fetch nothing.
func TestFarListingFetchesNothing(t *testing.T) {
	for _, size := range []int{9000, 4 * smallFile} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { farListing(t, size) })
	}
}

func farListing(t *testing.T, size int) {
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("%02d", i))
	}
	f := mountFar(t, generous, size, names...)
	c := startClient(t)
	f.hang()
	c.must(call{Op: "lsl", Path: f.a})
	for i, name := range names {
		fd := c.open(f.a+"/"+name, os.O_RDONLY)
		c.must(call{Op: "fstat", FD: fd})
		c.must(call{Op: "close", FD: fd})
		a := c.must(call{Op: "getxattr", Path: f.a + "/" + name, To: "user.vaultdrive.content", N: 100})
		if string(a.Data) != vaultcore.ResidentRemote {
			t.Fatalf("%d: %q", i, a.Data)
		}
	}
	c.must(call{Op: "chmod", Path: f.a + "/00", Mode: 0o640})
	c.must(call{Op: "rename", Path: f.a + "/00", To: f.a + "/renamed"})
	c.must(call{Op: "unlink", Path: f.a + "/01"})
	c.must(call{Op: "truncate", Path: f.a + "/02", Off: 0})
	if n := f.requestsSoFar(); n != 0 {
		t.Fatalf("%d requests to the remote", n)
	}
}

// While more downloads hang than the kernel usually has reads under way, every
// other file answers, and so do the names and handles of those that hang. The
// reads end with ETIMEDOUT.
func TestFarHang(t *testing.T) {
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("far%02d", i))
	}
	f := mountFar(t, 24*time.Hour, 3<<20, names...)
	c := startClient(t)
	c.write(f.a+"/near", strings.Repeat("near", 100_000))
	open := f.hang()
	defer open()
	results := make(chan syscall.Errno, len(names))
	for _, name := range names {
		reader := startClient(t)
		go func() { results <- reader.do(call{Op: "read", Path: f.a + "/" + name}).Errno }()
	}
	eventually(t, "all hang", func() bool { return f.requestsSoFar() >= len(names) })

	for i := range 20 {
		if got := c.read(f.a + "/near"); len(got) != 400_000 {
			t.Fatalf("%d bytes", len(got))
		}
		c.write(fmt.Sprintf("%s/new%d", f.a, i), "new")
		if got := c.read(fmt.Sprintf("%s/new%d", f.a, i)); got != "new" {
			t.Fatalf("%q", got)
		}
	}
	c.must(call{Op: "lsl", Path: f.a})
	far := f.a + "/" + names[0]
	fd := c.open(far, os.O_RDONLY)
	c.must(call{Op: "close", FD: fd})
	fd = c.open(far, os.O_RDWR)
	c.must(call{Op: "fsync", FD: fd})
	c.must(call{Op: "close", FD: fd})
	c.must(call{Op: "chmod", Path: far, Mode: 0o640})
	c.must(call{Op: "rename", Path: far, To: f.a + "/moved"})
	c.must(call{Op: "unlink", Path: f.a + "/" + names[1]})
	c.must(call{Op: "rename", Path: f.a + "/near", To: f.a + "/" + names[2]})
	if len(results) > 0 {
		t.Fatalf("%v: a read ended before its deadline", <-results)
	}
	open()
	for range names {
		<-results // the files have been renamed, deleted and replaced meanwhile
	}
}

// A read whose content does not come ends with the error that says so.
func TestFarHangEnds(t *testing.T) {
	names := []string{"one", "two", "three"}
	f := mountFar(t, 2*time.Second, 3<<20, names...)
	defer f.hang()()
	results := make(chan syscall.Errno, len(names))
	for _, name := range names {
		reader := startClient(t)
		go func() { results <- reader.do(call{Op: "read", Path: f.a + "/" + name}).Errno }()
	}
	for range names {
		if e := <-results; e != syscall.ETIMEDOUT {
			t.Errorf("got %v, want ETIMEDOUT", e)
		}
	}
}

// A program that waits for a download which never ends can be killed at once,
// however it waits; the deadline of its wait is a day away, and the download goes
// on hanging.
func TestFarKill(t *testing.T) {
	f := mountFar(t, 24*time.Hour, 3<<20, "one", "two", "three")
	defer f.hang()()
	for _, program := range [][]string{
		{"cat", f.a + "/one"},
		{"dd", "if=" + f.a + "/two", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"},
		{"dd", "if=/dev/zero", "of=" + f.a + "/three", "bs=100", "count=1", "conv=notrunc"},
	} {
		p := f.waiting(program...)
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := endOf(t, p); err == nil {
			t.Errorf("%s succeeded", program)
		}
	}
	f.stillHangs()
	// The reads ahead of those programs are under way. Nobody uses the mount.
	f.unmounted(func() error { return f.s.TryUnmount(context.Background()) })
	f.stillHangs()
}

// A mount is taken away from under programs that wait for a download which never
// ends. They fail, and nobody waits for their waits.
func TestFarAbort(t *testing.T) {
	f := mountFar(t, 24*time.Hour, 3<<20, "one", "two")
	defer f.hang()()
	programs := []*exec.Cmd{
		f.waiting("cat", f.a+"/one"),
		f.waiting("dd", "if="+f.a+"/two", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"),
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.s.Unmount(ctx); !errors.Is(err, ErrBusy) {
		t.Errorf("unmounted under a reader: %v", err)
	}
	f.unmounted(f.s.Abort)
	for _, p := range programs {
		if err := endOf(t, p); err == nil {
			t.Errorf("%s succeeded", p.Args)
		}
	}
	f.stillHangs()
}

// waiting starts a program and returns when the remote was asked for what it
// needs.
func (f *farVault) waiting(args ...string) *exec.Cmd {
	f.t.Helper()
	asked := f.requestsSoFar()
	p := exec.Command(args[0], args[1:]...)
	if err := p.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { p.Process.Kill() })
	eventually(f.t, strings.Join(args, " ")+" waits", func() bool { return f.requestsSoFar() > asked })
	return p
}

// generous is a deadline for what happens at once, on however busy a machine.
const generous = 5 * time.Minute

func endOf(t *testing.T, p *exec.Cmd) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(generous):
		t.Fatalf("%s goes on", p.Args)
		return nil
	}
}

func (f *farVault) unmounted(how func() error) {
	f.t.Helper()
	if err := how(); err != nil {
		f.t.Fatal(err)
	}
	select {
	case <-f.s.Done():
	case <-time.After(generous):
		f.t.Fatal("the mount goes on")
	}
}

// stillHangs fails if a request to the remote has ended: then that may be what
// somebody was waiting for.
func (f *farVault) stillHangs() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended > 0 {
		f.t.Fatalf("%d requests to the remote have ended", f.ended)
	}
}

// What is written into a file that is elsewhere is safe at close, without the
// remote, and joins what comes from there.
func TestFarWrite(t *testing.T) {
	const size = 3 << 20
	f := mountFar(t, 24*time.Hour, size, "one", "two")
	c := startClient(t)
	open := f.hang()
	defer open()
	page := bytes.Repeat([]byte("p"), 4096)
	fd := c.open(f.a+"/one", os.O_RDWR)
	c.must(call{Op: "pwrite", FD: fd, Data: page, Off: 8192})
	c.must(call{Op: "close", FD: fd})
	f.stillHangs()
	fd = c.open(f.a+"/two", os.O_RDWR|syscall.O_DIRECT)
	c.must(call{Op: "close", FD: fd})
	if got := c.must(call{Op: "stat", Path: f.a + "/one"}).Stat.Size; got != size {
		t.Fatalf("%d bytes", got)
	}
	open()
	want := farBytes(size, 0)
	copy(want[8192:], page)
	eventually(t, "both together", func() bool {
		a := c.do(call{Op: "read", Path: f.a + "/one"})
		return a.Errno == 0 && bytes.Equal(a.Data, want)
	})
	eventually(t, "no draft", func() bool { return f.v.Status().Drafts == 0 })
	if c.read(f.a+"/two") != string(farBytes(size, 1)) {
		t.Fatal("the other file changed")
	}
}

// A part of a page needs the rest of it, and what does not come is said at write.
func TestFarWriteOfAPart(t *testing.T) {
	const size = 3 << 20
	f := mountFar(t, time.Second, size, "one")
	c := startClient(t)
	open := f.hang()
	defer open()
	fd := c.open(f.a+"/one", os.O_WRONLY)
	c.fails(call{Op: "pwrite", FD: fd, Data: []byte("part"), Off: 100}, syscall.ETIMEDOUT)
	c.must(call{Op: "close", FD: fd})
	open()
	eventually(t, "the file as it was", func() bool {
		a := c.do(call{Op: "read", Path: f.a + "/one"})
		return a.Errno == 0 && bytes.Equal(a.Data, farBytes(size, 0))
	})
}
