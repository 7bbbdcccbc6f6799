package syncer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// TestFalseHeader: what lies in the place of the next header is named, as often as
// one looks, until it is gone; it was never a header, so nothing is lost then, and
// the real one counts.
func TestFalseHeader(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop, desktop := f.devices[0], f.devices[1]
	laptop.write("Letters/a.txt", "dear")
	f.sync()
	known, _ := laptop.v.HeaderSeq()
	newest, err := os.ReadFile(filepath.Join(f.dir(), syncer.HeaderKey(known)))
	f.must(err)
	place := filepath.Join(f.dir(), syncer.HeaderKey(known+1))
	for what, b := range map[string][]byte{"no header": []byte(`{"x":1}`), "nothing": nil, "an older one": newest} {
		f.must(os.WriteFile(place, b, 0o600))
		for range 2 {
			laptop.sync()
			laptop.has(syncer.CondAltered)
			if c, _ := laptop.condition(syncer.CondAltered); !strings.Contains(c.Text, fmt.Sprintf("header %d", known+1)) {
				t.Fatalf("%s: %q does not say which", what, c.Text)
			}
		}
		f.must(os.Remove(place))
		laptop.sync()
		laptop.hasNone()
	}
	phone := f.add("phone")
	phone.write("Phone/b.txt", "from the phone")
	f.sync()
	f.sync()
	f.agree()
	desktop.want("Letters/", "Letters/a.txt = dear", "Phone/", "Phone/b.txt = from the phone")
	laptop.hasNone()
}

// TestAlteredHeader: an old header matters to devices that join only, so a look at
// everything does not fetch it; healing does, and puts the true one back.
func TestAlteredHeader(t *testing.T) {
	t.Parallel()
	f := newFleet(t, folder(t), "laptop", "desktop")
	laptop := f.devices[0]
	f.sync()
	place := filepath.Join(f.dir(), syncer.HeaderKey(1))
	f.must(os.WriteFile(place, []byte(`{"payload":1}`), 0o600))
	if done := laptop.heal(); len(done.Replaced) != 1 {
		t.Errorf("healed: %+v", done)
	}
	laptop.hasNone()
	f.add("phone").sync()
}
