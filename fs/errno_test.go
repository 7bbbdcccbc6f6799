package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func TestErrnoNeverENOSYS(t *testing.T) {
	for _, e := range errnos {
		if e.st == fuse.ENOSYS || e.st.Ok() {
			t.Errorf("%v gives %v", e.err, e.st)
		}
	}
	for _, err := range []error{syscall.ENOSYS, fmt.Errorf("x: %w", syscall.ENOSYS), errors.New("else")} {
		if st, tell := translate(err); st != fuse.EIO || !tell {
			t.Errorf("%v gives %v, logged: %v", err, st, tell)
		}
	}
}

func TestErrnoWrapped(t *testing.T) {
	err := fmt.Errorf("close: %w", fmt.Errorf("%w: %w", vaultcore.ErrNoSpace, syscall.EIO))
	if st, _ := translate(err); st != fuse.Status(syscall.ENOSPC) {
		t.Errorf("got %v", st)
	}
}

func TestErrnoLogsOnce(t *testing.T) {
	var log logLines
	f := &fileSystem{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		f.errno("READ", fmt.Errorf("attachment 7f3a: %w", vaultcore.ErrDamaged))
		f.errno("LOOKUP", vaultcore.ErrNotFound)
	}
	if got := log.all(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "7f3a") {
		t.Errorf("log:\n%s", got)
	}
}

// TestUnknownNode asks everything about a node that was never given out.
func TestUnknownNode(t *testing.T) {
	v := openVault(t, newVault(t), vaultcore.Options{})
	f := newFileSystem(v, withDefaults(Options{XAttr: true}))
	h := fuse.InHeader{NodeId: 4711}
	_, read := f.Read(nil, &fuse.ReadIn{InHeader: h}, nil)
	_, write := f.Write(nil, &fuse.WriteIn{InHeader: h}, nil)
	_, link := f.Readlink(nil, &h)
	_, list := f.ListXAttr(nil, &h, nil)
	for call, st := range map[string]fuse.Status{
		"LOOKUP": f.Lookup(nil, &h, "x", &fuse.EntryOut{}), "GETATTR": f.GetAttr(nil, &fuse.GetAttrIn{InHeader: h}, &fuse.AttrOut{}),
		"SETATTR": f.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: h}}, &fuse.AttrOut{}),
		"OPEN":    f.Open(nil, &fuse.OpenIn{InHeader: h}, &fuse.OpenOut{}), "READ": read, "WRITE": write, "READLINK": link,
		"FLUSH": f.Flush(nil, &fuse.FlushIn{InHeader: h}), "FSYNC": f.Fsync(nil, &fuse.FsyncIn{InHeader: h}),
		"UNLINK": f.Unlink(nil, &h, "x"), "LISTXATTR": list,
		"RENAME":  f.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: 1}, "x", "y"),
		"READDIR": f.ReadDir(nil, &fuse.ReadIn{InHeader: h}, fuse.NewDirEntryList(make([]byte, 100), 0)),
	} {
		if st != estale {
			t.Errorf("%s: got %v, want ESTALE", call, st)
		}
	}
	if st := f.FsyncDir(nil, &fuse.FsyncIn{InHeader: h}); st == fuse.ENOSYS {
		t.Error("FSYNCDIR: ENOSYS")
	}
	f.Release(nil, &fuse.ReleaseIn{InHeader: h, Fh: 99})
	f.Forget(4711, 1)
	f.nodes.clear()
}
