package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// joiningPrefix names vaults that are not part of the world yet.
const joiningPrefix = ".vaultdrive-joining-"

// removeAbandoned clears away what killed joins left. One under way has its
// vault open.
func removeAbandoned(parent string) {
	left, err := filepath.Glob(filepath.Join(parent, joiningPrefix+"*"))
	if err != nil {
		return // it is in nobody's way
	}
	for _, path := range left {
		if st, err := os.Stat(path); err != nil || time.Since(st.ModTime()) < time.Minute {
			continue // it may not have come to opening it
		}
		home, err := vaultcore.OpenHome(path, false)
		if errors.Is(err, vaultcore.ErrInUse) {
			continue
		}
		_ = os.RemoveAll(path) // what is left is tried again next time
		if err == nil {
			_ = home.Close()
		}
	}
}

// rememberedKDF derives a key once: joining needs the same one twice.
type rememberedKDF struct {
	derive vaultcore.KDF
	params seal.KDFParams
	known  *seal.Key
}

func (m *rememberedKDF) key(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	if m.known != nil && m.params == p {
		return *m.known, nil
	}
	key, err := m.derive(ctx, password, p)
	if err != nil {
		return key, err
	}
	m.wipe()
	kept := key
	m.known, m.params = &kept, p
	return key, nil
}

func (m *rememberedKDF) wipe() {
	if m.known != nil {
		m.known.Wipe()
		m.known = nil
	}
}
