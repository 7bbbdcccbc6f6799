package blob_test

import (
	"errors"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
)

func TestMemory(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return blobtest.NewMemory() }, 100)
}

func TestFaultyPassesThrough(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store {
		return &blobtest.Faulty{
			Store: blobtest.NewMemory(),
			Plan:  func(blobtest.Call) blobtest.Fault { return blobtest.Fault{} },
		}
	}, 100)
}

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"tip", "vaults/0f/log/x/00000000000000000001.vdb", "a", "A-b_c.d", "a..b"} {
		if err := blob.CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range blobtest.HostileKeys {
		if err := blob.CheckKey(key); !errors.Is(err, blob.ErrKey) {
			t.Errorf("%.30q: %v", key, err)
		}
	}
}
