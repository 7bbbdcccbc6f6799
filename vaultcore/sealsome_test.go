package vaultcore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A batch that leaves the newest changes for the next one undoes none of them,
// though it changes how their files are shown.
func TestSealSomeOfClash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		play func(d *device, path string)
		want []string
	}{
		{"delete", func(d *device, path string) { d.remove(path) }, []string{"A/", "A/n = ada's"}},
		{"rename", func(d *device, path string) { d.rename(path, "A/o") }, []string{"A/", "A/n = ada's", "A/o = bob's"}},
		{"chmod, then save", func(d *device, path string) { d.chmod(path, 0o600); d.write(path, "new") }, []string{"A/", "A/f = new", "A/n = ada's"}},
		{"save", func(d *device, path string) { d.write(path, "new") }, []string{"A/", "A/f = new", "A/n = ada's"}},
		{"over another", func(d *device, path string) { d.rename(path, "A/n") }, []string{"A/", "A/n = bob's"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t, "ada", "bob")
			ada, bob := f.devices[0], f.devices[1]
			ada.mkdir("A")
			f.sync()
			ada.write("A/f", "ada's")
			bob.write("A/f", "bob's") // another file of that name
			f.sync()
			var copied string
			err := ada.List("A", true, func(i Info) error {
				if n, err := ada.Find(i.Path); err != nil || ada.content(n) == "bob's" {
					copied = i.Path
					return err
				}
				return nil
			})
			if err != nil || copied == "A/f" {
				t.Fatal(copied, err)
			}
			ada.rename("A/f", "A/n")
			before := time.UnixMilli(f.clock.Load())
			c.play(ada, copied)
			shown := ada.list()
			ada.sealAll(SealOptions{Before: before})
			ada.want(strings.Split(shown, "\n")...)
			ada.kill(false)
			f.sync()
			f.want(c.want...)
			for _, d := range f.devices {
				wantSound(t, d.Vault)
			}
		})
	}
}

// Files that are written again before every batch, more than a batch takes, do not keep
// the others from their turn: each batch goes on where the last one ended.
func TestSealTakesTurns(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "ada", "bob")
	ada := f.devices[0]
	ada.mkdir("A")
	const busy, quiet = seal.MaxOps + 100, 300
	save := func(i int, text string) { ada.write(fmt.Sprintf("A/busy %d", i), text) }
	for i := range busy {
		save(i, "first")
	}
	for i := range quiet {
		ada.write(fmt.Sprintf("A/quiet %d", i), "q")
	}
	left := func() int {
		n, err := ada.reader.one(`SELECT count(*) FROM asset_attachments WHERE dirty<>0`)
		if err != nil {
			t.Fatal(err)
		}
		return int(n.(int64))
	}
	for round := range 5 {
		if _, _, err := ada.Seal(t.Context(), SealOptions{}); err != nil {
			t.Fatal(err)
		}
		for i := range busy {
			save(i, fmt.Sprint("round ", round))
		}
	}
	if n := left(); n > busy {
		t.Errorf("%d rows wait, of which %d are written again and again: others never had a turn", n, busy)
	}
	f.sync()
	if n := left(); n > 0 {
		t.Errorf("%d rows wait when nothing is written any more", n)
	}
	if ada.list() != f.devices[1].list() {
		t.Error("the devices show different files")
	}
}
