package vaultcore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func changeHome(t *testing.T, home *Home, k *keyring, from, to string) {
	t.Helper()
	if err := changePassword(t.Context(), home, k, withPassword([]byte(from)), []byte(to), quickKDF, seal.KDFParams{}); err != nil {
		t.Fatal(err)
	}
}

func TestPasswdBeginsAnEpoch(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	fk := seal.NewKey()
	wire, _, _ := k.wrap(&fk)
	row := k.local().SealRow(nil, []byte("row"), []byte("aad"))
	first := k.header()
	passwords := []string{homePassword, otherPassword, "third time lucky", "and once more now"}
	for i := 1; i < len(passwords); i++ {
		changeHome(t, home, k, passwords[i-1], passwords[i])
		if k.epoch() != uint32(i+1) || !k.settled() || k.uses().wraps != 0 {
			t.Errorf("epoch %d after %d changes, %+v", k.epoch(), i, k.uses())
		}
		if got, err := k.unwrap(1, wire); err != nil || !got.Equal(&fk) {
			t.Errorf("wrap of epoch 1: %v", err)
		}
		if _, epoch, err := k.wrap(&fk); err != nil || epoch != uint32(i+1) {
			t.Errorf("new wrap in epoch %d, %v", epoch, err)
		}
	}
	last := passwords[len(passwords)-1]
	for _, old := range passwords[:len(passwords)-1] {
		_, err := unlock(t.Context(), home, byPassword(old), quickKDF)
		wantHomeErr(t, "old password", err, ErrWrongPassword)
	}
	again := unlockHome(t, home, byPassword(last))
	if got, err := again.unwrap(1, wire); err != nil || !got.Equal(&fk) {
		t.Errorf("wrap of epoch 1 after a new unlock: %v", err)
	}
	if got, err := again.local().OpenRow(nil, row, []byte("aad")); err != nil || string(got) != "row" {
		t.Errorf("row: %q, %v", got, err)
	}
	h := again.header()
	if h.DID != first.DID || h.Seq != first.Seq+3 || h.KDF.Salt == first.KDF.Salt || h.VerifyNext(first) == nil {
		t.Error("the header's chain is wrong")
	}
}

func TestPasswdRefuses(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	before := homeFiles(t, made.Home)
	try := func(from, to string, params seal.KDFParams) error {
		return changePassword(t.Context(), home, k, withPassword([]byte(from)), []byte(to), quickKDF, params)
	}
	wantHomeErr(t, "wrong old password", try(otherPassword, otherPassword, seal.KDFParams{}), ErrWrongPassword)
	wantHomeErr(t, "weak new password", try(homePassword, "weak", seal.KDFParams{}), seal.ErrWeakPassword)
	wantHomeErr(t, "absurd KDF", try(homePassword, otherPassword, seal.KDFParams{Memory: 1 << 31}), seal.ErrKDFParams)
	if k.epoch() != 1 || !sameHomeFiles(before, homeFiles(t, made.Home)) {
		t.Error("a refused change changed something")
	}
	foreign, _ := os.ReadFile(filepath.Join(createHome(t).Home, fileHeader))
	os.WriteFile(home.Path(fileHeader), foreign, 0o600)
	wantHomeErr(t, "header changed under us", try(homePassword, otherPassword, seal.KDFParams{}), ErrForeignHeader)
}

func TestPasswdRaisesKDFOnly(t *testing.T) {
	o := homeOptions(filepath.Join(t.TempDir(), "vault"))
	o.Params = seal.LowKDF()
	made, err := Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	for _, params := range []seal.KDFParams{seal.DefaultKDF(), seal.LowKDF(), {Time: 5}} {
		before := k.header().KDF
		if err := changePassword(t.Context(), home, k, withPassword([]byte(homePassword)), []byte(homePassword), quickKDF, params); err != nil {
			t.Fatal(err)
		}
		now := k.header().KDF
		if now.Memory < before.Memory || now.Time < before.Time || now.Parallelism < before.Parallelism || now.Salt == before.Salt {
			t.Errorf("KDF went from %+v to %+v", before, now)
		}
	}
	if now := k.header().KDF; now.Memory != seal.DefaultKDF().Memory || now.Time != 5 {
		t.Errorf("KDF ended at %+v", now)
	}
}

// homeState is one state of the files in which a kill could leave them.
type homeState struct {
	what string
	path string
}

// recordStates makes home copy its files before, within and after each of its
// writes.
func recordStates(t *testing.T, home *Home) *[]homeState {
	t.Helper()
	states := &[]homeState{}
	note := func(what string) {
		*states = append(*states, homeState{what, copyHome(t, home.path)})
	}
	write := home.replace
	home.replace = func(path string, data []byte) error {
		name := filepath.Base(path)
		note("before " + name)
		for _, part := range []int{0, len(data) / 2, len(data)} {
			temp := filepath.Join(home.path, homeTempPrefix+"0a")
			if err := os.WriteFile(temp, data[:part], 0o600); err != nil {
				t.Fatal(err)
			}
			note(fmt.Sprintf("%d bytes into %s", part, name))
			os.Remove(temp)
		}
		err := write(path, data)
		note("after " + name)
		return err
	}
	return states
}

// TestPasswdKilledAnywhere opens every state in which a kill can leave a
// change of password on an enrolled device: exactly one password opens, and
// everything sealed before does.
func TestPasswdKilledAnywhere(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	dk, err := enrollDevice(home, k)
	if err != nil {
		t.Fatal(err)
	}
	fk := seal.NewKey()
	wire, _, _ := k.wrap(&fk)
	row := k.local().SealRow(nil, []byte("row"), nil)
	states := recordStates(t, home)
	changeHome(t, home, k, homePassword, otherPassword)
	if len(*states) != 15 {
		t.Fatalf("%d states of three writes", len(*states))
	}
	for i, state := range *states {
		password, wrong, epoch := homePassword, otherPassword, uint32(1)
		if i >= 4 { // the header is in place
			password, wrong, epoch = wrong, password, 2
		}
		found := takeHome(t, state.path)
		_, err := unlock(t.Context(), found, byPassword(wrong), quickKDF)
		wantHomeErr(t, state.what+", the other password", err, ErrWrongPassword)
		byDevice := Credentials{DeviceKey: &dk}
		_, err = unlock(t.Context(), found, byDevice, quickKDF)
		if stale := epoch == 2 && i < len(*states)-1; stale {
			wantHomeErr(t, state.what+", by device", err, ErrNotEnrolled)
		} else if err != nil {
			t.Errorf("%s, by device: %v", state.what, err)
		}
		found.Close()

		found = takeHome(t, state.path)
		both := Credentials{Password: []byte(password), DeviceKey: &dk}
		again := unlockHome(t, found, both)
		if again.epoch() != epoch || !again.settled() || !again.enrolled() {
			t.Errorf("%s: epoch %d, settled %v", state.what, again.epoch(), again.settled())
		}
		if got, err := again.unwrap(1, wire); err != nil || !got.Equal(&fk) {
			t.Errorf("%s: wrap of epoch 1: %v", state.what, err)
		}
		if got, err := again.local().OpenRow(nil, row, nil); err != nil || string(got) != "row" {
			t.Errorf("%s: row: %v", state.what, err)
		}
		for name := range homeFiles(t, state.path) {
			if filepath.Base(name) == homeTempPrefix+"0a" {
				t.Errorf("%s: %s was left", state.what, name)
			}
		}
		unlockHome(t, found, byDevice) // once the password was given, the device does again
	}
}

// TestPasswdFailsAnywhere lets each write fail in turn.
func TestPasswdFailsAnywhere(t *testing.T) {
	broken := errors.New("the disk broke")
	for n := range 3 {
		home := takeHome(t, createHome(t).Home)
		k := unlockHome(t, home, byPassword(homePassword))
		dk, err := enrollDevice(home, k)
		if err != nil {
			t.Fatal(err)
		}
		before := homeFiles(t, home.path)
		calls := 0
		home.replace = func(path string, data []byte) error {
			if calls++; calls == n+1 {
				return broken
			}
			return replaceFile(path, data)
		}
		err = changePassword(t.Context(), home, k, withPassword([]byte(homePassword)), []byte(otherPassword), quickKDF, seal.KDFParams{})
		if n == 0 {
			wantHomeErr(t, "header not written", err, broken)
			if k.epoch() != 1 || !sameHomeFiles(before, homeFiles(t, home.path)) {
				t.Error("the failed change left a trace")
			}
			continue
		}
		if err != nil || k.epoch() != 2 || k.settled() {
			t.Errorf("write %d failed: %v, epoch %d, settled %v", n, err, k.epoch(), k.settled())
		}
		k.renew(home)
		if !k.settled() {
			t.Error("not made up for at the next chance")
		}
		unlockHome(t, home, Credentials{DeviceKey: &dk})
	}
}

// A change without the device key at hand leaves the slot behind; giving both
// once brings it back.
func TestPasswdWithoutDeviceKey(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	dk, err := enrollDevice(home, k)
	if err != nil {
		t.Fatal(err)
	}
	changeHome(t, home, unlockHome(t, home, byPassword(homePassword)), homePassword, otherPassword)
	_, err = unlock(t.Context(), home, Credentials{DeviceKey: &dk}, quickKDF)
	wantHomeErr(t, "stale slot", err, ErrNotEnrolled)
	unlockHome(t, home, Credentials{DeviceKey: &dk, Password: []byte(otherPassword)})
	unlockHome(t, home, Credentials{DeviceKey: &dk})
}
