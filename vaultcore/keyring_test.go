package vaultcore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestKeyringWrapsAndTitles(t *testing.T) {
	k := unlockHome(t, takeHome(t, createHome(t).Home), byPassword(homePassword))
	fk, asset := seal.NewKey(), seal.NewID()
	wire, epoch, err := k.wrap(&fk)
	if err != nil || epoch != 1 {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	got, err := k.unwrap(epoch, wire)
	if err != nil || !got.Equal(&fk) {
		t.Errorf("unwrap: %v", err)
	}
	for _, epoch := range []uint32{0, 2} {
		_, err = k.unwrap(epoch, wire)
		wantHomeErr(t, "unwrap in another epoch", err, ErrDamaged)
		_, err = k.openTitle(epoch, asset, wire)
		wantHomeErr(t, "title of another epoch", err, ErrDamaged)
	}
	wire[20] ^= 1
	_, err = k.unwrap(1, wire)
	wantHomeErr(t, "altered wrap", err, seal.ErrAuth)
	_, err = k.unwrap(1, wire[:59])
	wantHomeErr(t, "short wrap", err, seal.ErrFormat)

	title, epoch, err := k.sealTitle(asset, "Passport")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := k.openTitle(epoch, asset, title); err != nil || text != "Passport" {
		t.Errorf("title %q, %v", text, err)
	}
	_, err = k.openTitle(epoch, seal.NewID(), title)
	wantHomeErr(t, "title of another asset", err, seal.ErrAuth)

	k.local().SealRow(nil, []byte("x"), nil)
	if got := k.uses(); got != (keyUses{epoch: 1, wraps: 1, rows: 1}) {
		t.Errorf("uses %+v", got)
	}
}

func TestKeyringAfterWipe(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	ldk, vk := k.ldk, k.current.VaultKey()
	fk := seal.NewKey()
	wire, _, _ := k.wrap(&fk)
	k.wipe()
	k.wipe()
	if !ldk.IsZero() || !vk.IsZero() {
		t.Error("a secret survived wipe")
	}
	_, err := k.unwrap(1, wire)
	wantHomeErr(t, "unwrap", err, ErrClosed)
	_, _, err = k.wrap(&fk)
	wantHomeErr(t, "wrap", err, ErrClosed)
	_, _, err = k.sealTitle(seal.ID{}, "")
	wantHomeErr(t, "sealTitle", err, ErrClosed)
	_, err = enrollDevice(home, k)
	wantHomeErr(t, "enroll", err, ErrClosed)
	k.renew(home)
	k.install(k.header(), &fk)
}

func TestKeyringWrongCredentials(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	before := homeFiles(t, made.Home)
	dk := seal.NewKey()
	for name, c := range map[string]struct {
		Credentials
		want error
	}{
		"wrong password":        {byPassword(otherPassword), ErrWrongPassword},
		"empty password":        {byPassword(""), ErrWrongPassword},
		"nothing":               {Credentials{}, ErrInvalid},
		"device key, no slot":   {Credentials{DeviceKey: &dk}, ErrNotEnrolled},
		"device key and wrong":  {Credentials{DeviceKey: &dk, Password: []byte(otherPassword)}, ErrWrongPassword},
		"also seal's own error": {byPassword(otherPassword), seal.ErrPassword},
	} {
		_, err := unlock(t.Context(), home, c.Credentials, quickKDF)
		wantHomeErr(t, name, err, c.want)
	}
	if !sameHomeFiles(before, homeFiles(t, made.Home)) {
		t.Error("a refused unlock changed something")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := unlock(ctx, home, byPassword(homePassword), quickKDF)
	wantHomeErr(t, "cancelled", err, context.Canceled)
	k := unlockHome(t, home, Credentials{DeviceKey: &dk, Password: []byte(homePassword)})
	if k.enrolled() {
		t.Error("kept a device key that opens nothing")
	}
}

// The real thing once, with NFC: the same letters typed on another keyboard.
func TestKeyringRealKDF(t *testing.T) {
	o := homeOptions(filepath.Join(t.TempDir(), "vault"))
	o.Password, o.Params, o.KDF = []byte("Schl\u00fcssel zum Haus"), seal.LowKDF(), nil
	made, err := Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	k, err := unlock(t.Context(), takeHome(t, made.Home), byPassword("Schlu\u0308ssel zum Haus"), InProcessKDF)
	if err != nil {
		t.Fatal(err)
	}
	k.wipe()
}

func TestKeyringForeignParts(t *testing.T) {
	made, foreign := createHome(t), createHome(t)
	for _, name := range []string{fileHeader, fileLocalKey, fileDeviceKey} {
		path := copyHome(t, made.Home)
		b, err := os.ReadFile(filepath.Join(foreign.Home, name))
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(path, name), b, 0o600)
		before := homeFiles(t, path)
		_, err = unlock(t.Context(), takeHome(t, path), byPassword(homePassword), quickKDF)
		wantHomeErr(t, "foreign "+name, err, ErrForeignHeader)
		if !sameHomeFiles(before, homeFiles(t, path)) {
			t.Errorf("foreign %s: something changed", name)
		}
	}
}

func TestKeyringDamagedParts(t *testing.T) {
	made := createHome(t)
	for _, name := range []string{fileHeader, fileLocalKey, fileDeviceKey} {
		whole, err := os.ReadFile(filepath.Join(made.Home, name))
		if err != nil {
			t.Fatal(err)
		}
		path := copyHome(t, made.Home)
		home := takeHome(t, path)
		for at := 0; at < len(whole); at += 1 + len(whole)/60 {
			flipped := append([]byte(nil), whole...)
			flipped[at] ^= 0x04
			for _, damaged := range [][]byte{flipped, whole[:at]} {
				os.WriteFile(filepath.Join(path, name), damaged, 0o600)
				if k, err := unlock(t.Context(), home, byPassword(homePassword), quickKDF); err == nil {
					k.wipe()
					t.Errorf("%s damaged at %d: unlocked", name, at)
				}
			}
		}
	}
}

func TestKeyringKnownHeader(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	old, _ := os.ReadFile(home.Path(fileHeader))
	first, err := home.ReadHeader()
	if err != nil {
		t.Fatal(err)
	}
	copied := copyHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	changeHome(t, home, k, homePassword, homePassword)
	second := k.header()
	for range 2 {
		changeHome(t, home, k, homePassword, homePassword)
	}
	latest := k.header()
	c := byPassword(homePassword)
	for _, known := range []*seal.SignedHeader{nil, first, latest} { // also several ahead
		c.Known = known
		unlockHome(t, home, c)
	}
	noKDF := func(context.Context, []byte, seal.KDFParams) (seal.Key, error) {
		return seal.Key{}, errors.New("the password was tried")
	}
	os.WriteFile(home.Path(fileHeader), old, 0o600)
	c.Known = latest
	_, err = unlock(t.Context(), home, c, noKDF)
	wantHomeErr(t, "older header", err, ErrRollback)
	// Without the database's word local.key still knows.
	_, err = unlock(t.Context(), home, byPassword(homePassword), quickKDF)
	wantHomeErr(t, "older header, local.key newer", err, ErrRollback)

	other := takeHome(t, createHome(t).Home)
	c.Known = latest
	_, err = unlock(t.Context(), other, c, noKDF)
	wantHomeErr(t, "header of another vault", err, ErrForeignHeader)

	// The same vault, whose password was changed on a copy of it.
	fork := takeHome(t, copied)
	kf := unlockHome(t, fork, byPassword(homePassword))
	changeHome(t, fork, kf, homePassword, otherPassword)
	os.WriteFile(home.Path(fileHeader), second.Envelope(), 0o600)
	c.Known = kf.header()
	_, err = unlock(t.Context(), home, c, noKDF)
	wantHomeErr(t, "two histories", err, ErrRollback)
	wantHomeErr(t, "two histories", err, seal.ErrFork)
}

func TestKeyringManyAtOnce(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				fk := seal.NewKey()
				wire, epoch, err := k.wrap(&fk)
				if errors.Is(err, ErrClosed) {
					return
				}
				got, err := k.unwrap(epoch, wire)
				if !errors.Is(err, ErrClosed) && (err != nil || !got.Equal(&fk)) {
					t.Error(err)
				}
				_ = k.uses()
				_ = k.writeV4()
			}
		})
	}
	for range 5 {
		changeHome(t, home, k, homePassword, homePassword)
	}
	if k.epoch() != 6 {
		t.Errorf("epoch %d", k.epoch())
	}
	k.wipe()
	close(stop)
	wg.Wait()
}
