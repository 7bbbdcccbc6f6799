package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// marksPatience is short: nobody asked for the keyring, and nothing waits for a
// person here.
const marksPatience = 2 * time.Second

// keyringMarks remembers in the user's keyring how far a device has come. Where
// there is no keyring it forgets, silently, and does not try again.
type keyringMarks struct {
	gone atomic.Bool
}

// marks are those of this process.
var marks = &keyringMarks{}

func markAccount(vault, device seal.ID) string { return vault.UUID() + "-" + device.UUID() + "-mark" }

// Recall implements vaultcore.Marks.
func (k *keyringMarks) Recall(vault, device seal.ID) (m vaultcore.Mark) {
	text, ok := k.try(func() (string, error) {
		text, err := keyring.Get(keyringService, markAccount(vault, device))
		if errors.Is(err, keyring.ErrNotFound) {
			return "", nil
		}
		return text, err
	})
	if !ok {
		return vaultcore.Mark{}
	}
	if _, err := fmt.Sscanf(text, "batch %d header %d", &m.Batch, &m.Header); err != nil {
		return vaultcore.Mark{}
	}
	return m
}

// Remember implements vaultcore.Marks.
func (k *keyringMarks) Remember(vault, device seal.ID, m vaultcore.Mark) {
	k.try(func() (string, error) {
		return "", keyring.Set(keyringService, markAccount(vault, device), fmt.Sprintf("batch %d header %d", m.Batch, m.Header))
	})
}

// sessionBus says whether there is a bus a keyring could be on. Asked without, the
// library would start one.
func sessionBus() bool {
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "bus"))
	return err == nil
}

// try runs one call to the keyring.
func (k *keyringMarks) try(call func() (string, error)) (text string, ok bool) {
	if k.gone.Load() || !sessionBus() {
		return "", false
	}
	answer := make(chan string, 1)
	go func() {
		text, err := call()
		if err != nil {
			close(answer)
			return
		}
		answer <- text
	}()
	select {
	case text, ok = <-answer:
	case <-time.After(marksPatience):
	}
	if !ok {
		k.gone.Store(true)
	}
	return text, ok
}
