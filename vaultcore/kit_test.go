package vaultcore

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func makeKit(t *testing.T, home *Home, k *keyring, password string) *RecoveryKit {
	t.Helper()
	kit, err := createKit(t.Context(), home, k, []byte(password), quickKDF, "vd1:address")
	if err != nil {
		t.Fatal(err)
	}
	return kit
}

// kitOptions are a restore of a home that nobody has open.
type kitOptions struct {
	TypedKit
	Known       *seal.SignedHeader
	NewPassword []byte
}

func restoreOptions(kit *RecoveryKit) kitOptions {
	return kitOptions{TypedKit: TypedKit{Secret: kit.Secret(), DID: kit.DID}, NewPassword: []byte(otherPassword)}
}

// kitRestore opens a home by the kit and sets a new password.
func kitRestore(ctx context.Context, home *Home, o kitOptions) error {
	k, err := unlock(ctx, home, Credentials{Kit: &o.TypedKit, Known: o.Known}, quickKDF)
	if err != nil {
		return err
	}
	defer k.wipe()
	return changePassword(ctx, home, k, withKit(o.TypedKit), o.NewPassword, quickKDF, seal.KDFParams{})
}

func TestKitSheet(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	kit := makeKit(t, home, k, homePassword)
	sheet := kit.Sheet("Papers")
	for _, want := range append(strings.Split(kit.Secret(), "-"), "Papers", made.Vault.UUID(), made.DID, "vd1:address") {
		if !strings.Contains(sheet, want) {
			t.Errorf("the sheet lacks %s", want)
		}
	}
	for line := range strings.Lines(sheet) {
		if len(line) > 80 {
			t.Errorf("%d characters in a line", len(line))
		}
	}
	if kit.Address = ""; strings.Contains(kit.Sheet("Papers"), "Address") {
		t.Error("an address that is none")
	}
	if text := fmt.Sprintf("%+v %+v", kit, *kit); strings.Count(text, "[redacted]") != 2 {
		t.Errorf("prints as %s", text)
	}
	if h, err := home.ReadHeader(); err != nil || h.Seq != 2 || h.Epoch != 1 || h.Rec == nil || h.Hash() != k.header().Hash() {
		t.Errorf("header: %v", err)
	}
	unlockHome(t, home, byPassword(homePassword))
}

func TestKitRestores(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	fk := seal.NewKey()
	wire, _, _ := k.wrap(&fk)
	row := k.local().SealRow(nil, []byte("row"), nil)
	kit := makeKit(t, home, k, homePassword)
	changeHome(t, home, k, homePassword, "forgotten by tomorrow") // the slot goes along
	known := k.header()

	typed := strings.ToLower(strings.ReplaceAll(kit.Secret(), "-", " "))
	for i, o := range []kitOptions{
		{TypedKit: TypedKit{Secret: kit.Secret(), DID: kit.DID}},
		{TypedKit: TypedKit{Secret: typed}, Known: known},
		{TypedKit: TypedKit{Secret: kit.Secret()}},
	} {
		o.NewPassword = fmt.Appendf(nil, "%s %d", otherPassword, i)
		if err := kitRestore(t.Context(), home, o); err != nil {
			t.Fatal(err)
		}
		again := unlockHome(t, home, byPassword(string(o.NewPassword)))
		if again.epoch() != uint32(3+i) || !again.settled() || again.header().DID != made.DID {
			t.Errorf("epoch %d, settled %v", again.epoch(), again.settled())
		}
		if got, err := again.unwrap(1, wire); err != nil || !got.Equal(&fk) {
			t.Errorf("wrap: %v", err)
		}
		if got, err := again.local().OpenRow(nil, row, nil); err != nil || string(got) != "row" {
			t.Errorf("row: %v", err)
		}
	}
	_, err := unlock(t.Context(), home, byPassword("forgotten by tomorrow"), quickKDF)
	wantHomeErr(t, "old password", err, ErrWrongPassword)
}

func TestKitRefuses(t *testing.T) {
	made := createHome(t)
	home := takeHome(t, made.Home)
	k := unlockHome(t, home, byPassword(homePassword))
	_, err := createKit(t.Context(), home, k, []byte(otherPassword), quickKDF, "")
	wantHomeErr(t, "create with a wrong password", err, ErrWrongPassword)
	stranger := takeHome(t, createHome(t).Home)
	foreign := makeKit(t, stranger, unlockHome(t, stranger, byPassword(homePassword)), homePassword)
	wantHomeErr(t, "no kit yet", kitRestore(t.Context(), home, restoreOptions(foreign)), seal.ErrKit)

	first := makeKit(t, home, k, homePassword)
	second := makeKit(t, home, k, homePassword)
	before := homeFiles(t, made.Home)
	for name, c := range map[string]struct {
		want error
		set  func(*kitOptions)
	}{
		"kit of another vault": {seal.ErrKit, func(o *kitOptions) { o.Secret = foreign.Secret() }},
		"kit replaced":         {seal.ErrKit, func(o *kitOptions) { o.Secret = first.Secret() }},
		"mistyped":             {seal.ErrKit, func(o *kitOptions) { o.Secret = o.Secret[1:] + o.Secret[:1] }},
		"nothing typed":        {seal.ErrKit, func(o *kitOptions) { o.Secret = "" }},
		"identity on paper":    {ErrForeignHeader, func(o *kitOptions) { o.DID = foreign.DID }},
		"another known vault":  {ErrForeignHeader, func(o *kitOptions) { o.Known, _ = stranger.ReadHeader() }},
		"weak password":        {seal.ErrWeakPassword, func(o *kitOptions) { o.NewPassword = []byte("weak") }},
	} {
		o := restoreOptions(second)
		c.set(&o)
		wantHomeErr(t, name, kitRestore(t.Context(), home, o), c.want)
	}
	if !sameHomeFiles(before, homeFiles(t, made.Home)) {
		t.Error("a refused restore changed something")
	}
	home.readOnly = true
	wantHomeErr(t, "read-only", kitRestore(t.Context(), home, restoreOptions(second)), ErrReadOnly)
}

// TestKitKilledAnywhere: before the header is in place the old password and
// the kit open, after it the new password and the kit.
func TestKitKilledAnywhere(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	kit := makeKit(t, home, unlockHome(t, home, byPassword(homePassword)), homePassword)
	states := recordStates(t, home)
	if err := kitRestore(t.Context(), home, restoreOptions(kit)); err != nil {
		t.Fatal(err)
	}
	unlockHome(t, home, byPassword(otherPassword)) // writes local.key anew
	if len(*states) != 10 {
		t.Fatalf("%d states of two writes", len(*states))
	}
	for i, state := range *states {
		password := homePassword
		if i >= 4 {
			password = otherPassword
		}
		found := takeHome(t, state.path)
		if k := unlockHome(t, found, byPassword(password)); !k.settled() {
			t.Errorf("%s: not settled", state.what)
		}
		o := restoreOptions(kit)
		o.NewPassword = []byte("yet another password")
		if err := kitRestore(t.Context(), found, o); err != nil {
			t.Errorf("%s: %v", state.what, err)
		}
		unlockHome(t, found, byPassword("yet another password"))
	}
}

func TestKitCreateFails(t *testing.T) {
	home := takeHome(t, createHome(t).Home)
	k := unlockHome(t, home, byPassword(homePassword))
	home.replace = func(string, []byte) error { return os.ErrPermission }
	_, err := createKit(t.Context(), home, k, []byte(homePassword), quickKDF, "")
	wantHomeErr(t, "create", err, os.ErrPermission)
	if k.header().Rec != nil {
		t.Error("the keyring has a header that was not written")
	}
}
