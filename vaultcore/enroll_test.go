package vaultcore

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestEnrollUnlocksWithoutPassword(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	first, err := enrollDevice(home, k)
	if err != nil || !k.enrolled() {
		t.Fatal(err)
	}
	by := unlockHome(t, home, Credentials{DeviceKey: &first})
	if by.deviceID() != made.Device || by.vaultID() != made.Vault || !by.enrolled() {
		t.Error("another vault or device")
	}
	second, err := enrollDevice(home, by)
	if err != nil || second.Equal(&first) {
		t.Fatalf("second enrolment: %v", err)
	}
	_, err = unlock(t.Context(), home, Credentials{DeviceKey: &first}, quickKDF)
	wantHomeErr(t, "key of the first enrolment", err, ErrNotEnrolled)
	changeHome(t, home, by, homePassword, otherPassword)
	by = unlockHome(t, home, Credentials{DeviceKey: &second}) // the slot went along

	for range 2 {
		if err := unenrollDevice(home, by); err != nil {
			t.Fatal(err)
		}
	}
	if by.enrolled() {
		t.Error("still enrolled")
	}
	_, err = unlock(t.Context(), home, Credentials{DeviceKey: &second}, quickKDF)
	wantHomeErr(t, "after unenrolling", err, ErrNotEnrolled)
	if _, err := os.Stat(home.Path(fileDeviceSlot)); err == nil {
		t.Error("the slot is still there")
	}
}

func TestEnrollSlotOfAnotherVault(t *testing.T) {
	made, foreign := createHome(t), createHome(t)
	other := takeHome(t, foreign.Home)
	dk, err := enrollDevice(other, unlockHome(t, other, byPassword(homePassword)))
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{fileDeviceSlot}, {fileDeviceSlot, fileDeviceKey}} {
		path := copyHome(t, made.Home)
		for _, name := range names {
			b, _ := os.ReadFile(filepath.Join(foreign.Home, name))
			os.WriteFile(filepath.Join(path, name), b, 0o600)
		}
		_, err = unlock(t.Context(), takeHome(t, path), Credentials{DeviceKey: &dk}, quickKDF)
		wantHomeErr(t, strings.Join(names, " and "), err, ErrNotEnrolled)
	}
	// A whole foreign header opens under the foreign slot, local.key does not.
	path := copyHome(t, foreign.Home)
	b, _ := os.ReadFile(filepath.Join(made.Home, fileLocalKey))
	os.WriteFile(filepath.Join(path, fileLocalKey), b, 0o600)
	_, err = unlock(t.Context(), takeHome(t, path), Credentials{DeviceKey: &dk}, quickKDF)
	wantHomeErr(t, "local.key of another vault", err, ErrForeignHeader)
}

func TestEnrollRolledBackHeader(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	dk, err := enrollDevice(home, k)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := os.ReadFile(home.Path(fileHeader))
	changeHome(t, home, k, homePassword, otherPassword)
	os.WriteFile(home.Path(fileHeader), old, 0o600)
	_, err = unlock(t.Context(), home, Credentials{DeviceKey: &dk}, quickKDF)
	wantHomeErr(t, "older header", err, ErrRollback)
}

func TestEnrollKeyText(t *testing.T) {
	vault, dk := seal.NewID(), seal.NewKey()
	text := FormatDeviceKey(vault, &dk)
	if bytes.Count(text, []byte("\n")) != 1 || cap(text) > 160 {
		t.Errorf("%d bytes, room for %d", len(text), cap(text))
	}
	for _, form := range [][]byte{text, bytes.TrimSpace(text), append([]byte(" \r\n"), text...)} {
		got, err := ParseDeviceKey(vault, form)
		if err != nil || !got.Equal(&dk) {
			t.Errorf("%v", err)
		}
	}
	_, err := ParseDeviceKey(seal.NewID(), text)
	wantHomeErr(t, "of another vault", err, ErrDeviceKey)
	clean := bytes.TrimSpace(text)
	for at := range clean {
		flipped := bytes.Clone(clean)
		flipped[at] ^= 1
		_, err := ParseDeviceKey(vault, flipped)
		wantHomeErr(t, "altered", err, ErrDeviceKey)
		_, err = ParseDeviceKey(vault, clean[:at])
		wantHomeErr(t, "cut", err, ErrDeviceKey)
	}
	_, err = ParseDeviceKey(vault, append(bytes.Clone(clean), " more"...))
	wantHomeErr(t, "longer", err, ErrDeviceKey)
	if err != nil && strings.Contains(err.Error(), string(clean[40:80])) {
		t.Error("the error tells the key")
	}
}
