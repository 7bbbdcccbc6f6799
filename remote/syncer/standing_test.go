package syncer_test

import (
	"context"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// The loops run while the password changes: who has not been given the new one
// goes on saving, says so, and catches up by itself once it is given.
func TestPasswordUnderRun(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob", "eve")
	ada, bob, eve := f.devices[0], f.devices[1], f.devices[2]
	ada.write("A/f.txt", "f")
	f.sync()
	eve.write("A/eve.txt", "sealed before")
	for _, d := range f.devices[:2] {
		d.run()
	}
	ctx := context.Background()
	f.must(syncer.ChangePassword(ctx, ada.v, ada.remote, []byte(password), []byte(secondPassword), seal.KDFParams{}))
	f.must(ada.v.FinishRewrap(ctx, nil))
	ada.write("A/ada.txt", "in the new epoch")
	bob.Poke()
	bob.until("bob hears of it", func() bool { _, ok := bob.condition(syncer.CondPassword); return ok })
	bob.write("A/bob.txt", "saved meanwhile")
	f.must(bob.v.AcceptPassword(ctx, []byte(secondPassword)))
	bob.until("bob has what ada wrote", func() bool { return bob.read("A/ada.txt") == "in the new epoch" })
	bob.until("the condition goes", func() bool { _, ok := bob.condition(syncer.CondPassword); return !ok })
	ada.until("ada has what bob saved", func() bool { return ada.read("A/bob.txt") == "saved meanwhile" })
	for _, d := range f.devices[:2] {
		d.halt()
	}
	if err := eve.trySync(); err == nil {
		t.Error("eve has synced without the new password")
	}
	f.must(eve.v.AcceptPassword(ctx, []byte(secondPassword)))
	f.sync()
	f.agree()
	if got := ada.read("A/eve.txt"); got != "sealed before" {
		t.Errorf("eve's file: %q", got)
	}
}

// A device that is shut out stops, says so, and nothing of it is taken.
func TestRevokedUnderRun(t *testing.T) {
	f := newFleet(t, folder(t), "ada", "bob", "eve")
	ada, bob, eve := f.devices[0], f.devices[1], f.devices[2]
	ada.write("A/f.txt", "f")
	f.sync()
	eve.run()
	ctx := context.Background()
	f.must(syncer.Revoke(ctx, ada.v, ada.remote, []byte(password), eve.v.DeviceID()))
	eve.Poke()
	eve.until("eve's device stops", func() bool {
		_, ok := eve.condition(syncer.CondRevoked)
		return ok && eve.Status().State == syncer.StateStopped
	})
	eve.write("A/eve.txt", "too late")
	if got := eve.read("A/eve.txt"); got != "too late" {
		t.Errorf("on the device itself: %q", got)
	}
	eve.halt()
	f.devices = []*device{ada, bob}
	f.must(syncer.PullHeaders(ctx, bob.v, bob.remote))
	f.must(bob.v.AcceptPassword(ctx, []byte(password)))
	f.sync()
	f.agree()
	if got := ada.read("A/eve.txt"); got == "too late" {
		t.Error("what a revoked device wrote has arrived")
	}
}
