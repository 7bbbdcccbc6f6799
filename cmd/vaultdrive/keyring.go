package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	// keyringService and the vault's id as account are what the key of an
	// enrolled device is kept under.
	keyringService = "vaultdrive"
	// keyringPatience ends the wait for a keyring that wants to be unlocked by
	// somebody who is not there.
	keyringPatience = 20 * time.Second
	maxDeviceKey    = 4096
)

// keyringDo runs one call to the keyring of the session and gives up on it
// after a while.
func keyringDo(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		switch {
		case err == nil:
			return nil
		case errors.Is(err, keyring.ErrNotFound):
			return fail(errKeyring, "", "the keyring holds no key for this vault")
		}
		return fail(errKeyring, "", "the keyring of the system cannot be used: %v", err)
	case <-time.After(keyringPatience):
		return fail(errKeyring, "", "the keyring of the system does not answer")
	}
}

func keyringGet(home vaultHome) (*seal.Key, error) {
	var text string
	err := keyringDo(func() (err error) {
		if text, err = keyring.Get(keyringService, home.slot()); errors.Is(err, keyring.ErrNotFound) {
			text, err = keyring.Get(keyringService, home.id) // as it was called before
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return parseDeviceKey(home, []byte(text))
}

func keyringSet(home vaultHome, text []byte) error {
	return keyringDo(func() error { return keyring.Set(keyringService, home.slot(), string(bytes.TrimSpace(text))) })
}

func keyringDelete(home vaultHome) error {
	return keyringDo(func() error {
		err := keyring.Delete(keyringService, home.slot())
		if errors.Is(err, keyring.ErrNotFound) {
			err = keyring.Delete(keyringService, home.id)
		}
		return err
	})
}

// deviceKeyFrom reads a key file or a systemd credential.
func deviceKeyFrom(home vaultHome, path string) (*seal.Key, error) {
	b, err := readBounded(path, maxDeviceKey)
	if err != nil {
		return nil, fail(errNoPassword, "", "device key: %v", err)
	}
	defer clear(b)
	key, err := parseDeviceKey(home, b)
	if err != nil {
		return nil, &failure{cause: err, text: fmt.Sprintf("%s: %v", path, err)}
	}
	return key, nil
}

func parseDeviceKey(home vaultHome, text []byte) (*seal.Key, error) {
	vault, err := seal.ParseUUID(home.id)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", home.path, seal.ErrHeader)
	}
	key, err := vaultcore.ParseDeviceKey(vault, text)
	if err != nil {
		return nil, err
	}
	return &key, nil
}

// writeDeviceKey stores a key where only its owner can read it. It never
// replaces a file.
func writeDeviceKey(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("device key: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
