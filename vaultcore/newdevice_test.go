package vaultcore

import (
	"errors"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestKillInNewIdentity: wherever a kill comes, the home opens as the one device
// or the other, and what it had said is said once more under the new name.
func TestKillInNewIdentity(t *testing.T) {
	f, ada, bob := twoWithFile(t)
	r := f.headersOf(ada)
	common := ada.head().Seq
	ada.write("A/ada.txt", "sealed and not accepted")
	ada.remove("A/f.txt")
	ada.sealAll(SealOptions{})
	ada.write("A/dirty.txt", "not sealed")
	d := NewIdentity()
	if err := ada.BecomeDevice(t.Context(), d, common); !errors.Is(err, ErrUnknownDevice) {
		t.Fatalf("an identity that nobody knows: %v", err)
	}
	c, err := ada.ProposeDevice(t.Context(), []byte(testPassword), d.Entry)
	ada.publish(r, c, err)
	bob.pullHeaders(r, nil)
	old := ada.DeviceID()
	homes := []string{crashCopy(t, ada.Vault, false)}
	replace := ada.Vault.home.replace
	ada.Vault.home.replace = func(path string, data []byte) error {
		homes = append(homes, crashCopy(t, ada.Vault, false), crashCopy(t, ada.Vault, true))
		return replace(path, data)
	}
	if err := ada.BecomeDevice(t.Context(), d, common); err != nil {
		t.Fatal(err)
	}
	homes = append(homes, crashCopy(t, ada.Vault, true))
	if _, _, err := ada.Seal(t.Context(), SealOptions{}); !errors.Is(err, ErrClosed) {
		t.Fatalf("sealed before it was opened anew: %v", err)
	}
	for i, home := range homes {
		again := &device{f: f, name: "ada", home: home}
		again.open()
		again.want("A/", "A/ada.txt = sealed and not accepted", "A/dirty.txt = not sealed")
		if want := map[bool]seal.ID{true: old, false: d.Entry.ID}[i == 0]; again.DeviceID() != want {
			t.Fatalf("home %d is device %s, want %s", i, again.DeviceID(), want)
		}
		if i < len(homes)-1 {
			again.close()
			continue
		}
		f.devices[0] = again
	}
	f.sync()
	f.want("A/", "A/ada.txt = sealed and not accepted", "A/dirty.txt = not sealed")
	heads, err := bob.Heads(t.Context())
	if err != nil || heads[old].Seq != common || heads[d.Entry.ID].Seq == 0 {
		t.Fatalf("bob has %d of the old chain and %d of the new, %v", heads[old].Seq, heads[d.Entry.ID].Seq, err)
	}
	for _, d := range f.devices {
		d.wantNoAlarm()
	}
}
