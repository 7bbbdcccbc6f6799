package vaultcore

import (
	"strings"
	"testing"
	"time"
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
