package syncer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// memory is a keyring.
type memory struct {
	mu    sync.Mutex
	marks map[seal.ID]vaultcore.Mark
}

func (m *memory) Recall(_, device seal.ID) vaultcore.Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.marks[device]
}

func (m *memory) Remember(_, device seal.ID, mark vaultcore.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks[device] = mark
}

// putBack replaces a directory by an older copy of it.
func (f *fleet) putBack(dir, copied string) {
	f.t.Helper()
	f.must(errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(copied))))
}

func (f *fleet) copyOf(dir string) string {
	f.t.Helper()
	to := filepath.Join(f.t.TempDir(), "copy")
	f.must(os.CopyFS(to, os.DirFS(dir)))
	return to
}

// The directory of a device and the remote are put back together. Only what was
// remembered elsewhere tells; then nothing is sealed under numbers that were
// used, and saving goes on.
func TestMarksTellOldCopy(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob")
	ada := f.devices[0]
	keep := &memory{marks: make(map[seal.ID]vaultcore.Mark)}
	f.marks = keep
	ada.restart()
	ada.write("A/f.txt", "old")
	f.sync()
	self := ada.v.DeviceID()
	ada.halt()
	f.must(ada.v.Close(context.Background()))
	home, there := f.copyOf(ada.home), f.copyOf(f.dir())
	ada.resume()
	before := keep.Recall(seal.ID{}, self)
	ada.write("A/g.txt", "newer")
	f.sync()
	after := keep.Recall(seal.ID{}, self)
	if before.Batch == 0 || after.Batch <= before.Batch || after.Header < before.Header {
		t.Fatalf("remembered %+v, then %+v", before, after)
	}
	ada.restart() // a kill after the push, or an orderly end: no false alarm
	f.must(ada.v.RolledBack())
	ada.halt()
	f.must(ada.v.Close(context.Background()))
	f.putBack(ada.home, home)
	f.putBack(f.dir(), there)
	ada.resume()
	ada.write("A/copy.txt", "saved in the copy")
	ada.wantCloned()
	if _, _, err := ada.v.Seal(context.Background(), vaultcore.SealOptions{}); !errors.Is(err, vaultcore.ErrLocalRollback) {
		t.Errorf("sealed: %v", err)
	}
	if got := keep.Recall(seal.ID{}, self); got != after {
		t.Errorf("it remembers %+v now, %+v before", got, after)
	}
	ada.renew()
	ada.sync()
	ada.want("A/", "A/copy.txt = saved in the copy", "A/f.txt = old")
}

// A header that is older than the one remembered is a rollback too.
func TestMarksTellOldHeader(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob")
	ada := f.devices[0]
	keep := &memory{marks: make(map[seal.ID]vaultcore.Mark)}
	f.marks = keep
	_, header := ada.v.HeaderSeq()
	keep.Remember(seal.ID{}, ada.v.DeviceID(), vaultcore.Mark{Header: header + 1})
	ada.restart()
	if err := ada.v.RolledBack(); !errors.Is(err, vaultcore.ErrLocalRollback) {
		t.Fatalf("%v", err)
	}
	keep.Remember(seal.ID{}, ada.v.DeviceID(), vaultcore.Mark{Header: header})
	ada.restart()
	f.must(ada.v.RolledBack())
	if _, told := ada.condition(syncer.CondCloned); told {
		t.Error("a condition without a cause")
	}
}
