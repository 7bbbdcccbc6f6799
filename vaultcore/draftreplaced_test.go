package vaultcore

import (
	"fmt"
	"testing"
)

// A file that is here was replaced or deleted from elsewhere while it was written:
// what fsync made durable comes back after a kill, whatever the trash was told
// meanwhile.
func TestReplacedWhileWrittenKilled(t *testing.T) {
	for _, size := range []int{10, 100 << 10} {
		for _, early := range []bool{false, true} {
			for _, emptied := range []bool{false, true} {
				for _, how := range []string{"replaced", "deleted"} {
					t.Run(fmt.Sprintf("%d bytes, fsync early %v, trash emptied %v, %s", size, early, emptied, how), func(t *testing.T) {
						playReplaced(t, size, early, emptied, how == "deleted")
					})
				}
			}
		}
	}
}

func playReplaced(t *testing.T, size int, early, emptied, deleted bool) {
	f := newFleet(t, "ada", "bob")
	ada, bob := f.devices[0], f.devices[1]
	ada.mkdir("A")
	data := randomBytes(size, 1)
	writeFile(t, ada.Vault, "A/f", data)
	f.sync()
	n := mustOpen(t, bob.Vault, "A/f", true)
	mustWriteAt(t, bob.Vault, n, "bob", 3)
	fsync := func() {
		if err := bob.Fsync(n); err != nil {
			t.Fatal(err)
		}
	}
	if early {
		fsync()
	}
	if deleted {
		ada.remove("A/f")
	} else {
		ada.write("A/f", "by ada")
	}
	ada.push()
	bob.pull()
	if !early {
		fsync()
	}
	if emptied {
		if _, _, err := bob.EmptyTrash(nil); err != nil {
			t.Fatal(err)
		}
	}
	bob.kill(false)
	bob.wantNoAlarm()
	bob.wantOneOf("A", overlay(data, "bob", 3))
	f.sync()
	ada.wantOneOf("A", overlay(data, "bob", 3))
	if !deleted {
		ada.wantShows("= by ada")
	}
	wantSound(t, bob.Vault)
}
