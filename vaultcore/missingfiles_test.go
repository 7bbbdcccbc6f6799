package vaultcore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unlink takes the file of a content away behind the vault's back, which is
// opened anew after that.
func (d *device) unlink(paths ...string) {
	d.f.t.Helper()
	var names []string
	for _, p := range paths {
		names = append(names, binName(d.mustFind(p).content.ref.blob))
	}
	if err := d.Close(context.Background()); err != nil {
		d.f.t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(d.home, dirAttachments, name)); err != nil {
			d.f.t.Fatal(err)
		}
	}
	d.open()
}

// A content whose file has vanished is fetched again if the remote has it; else
// there is an alarm with its name, and nothing else changes.
func TestFetchMissing(t *testing.T) {
	_, ada, _ := oneWithRemote(t, Limits{}, "A/sent", "A/also sent")
	writeFile(t, ada.Vault, "A/unsent", contentOf(2))
	ada.sealAll(SealOptions{})
	ada.pushBatches()
	ada.unlink("A/sent", "A/unsent")
	if err := ada.fetchMissing(context.Background()); err != nil { // as the start does, beside this
		t.Fatal(err)
	}
	if got := ada.residence("A/sent"); got != ResidentRemote {
		t.Fatal(got)
	}
	if got := ada.residence("A/also sent"); got != ResidentHere {
		t.Fatal(got)
	}
	eventually(t, "the alarm", func() bool { return len(ada.alarms()) > 0 })
	if all := strings.Join(ada.alarms(), "\n"); !strings.Contains(all, "A/unsent") || strings.Contains(all, "A/sent") {
		t.Fatalf("alarms: %s", all)
	}
	ada.pullBlobs()
	wantRange(t, ada.Vault, "A/sent", contentOf(0), 0, 1000)
	if err := ada.fetchMissing(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := ada.residence("A/sent"); got != ResidentHere {
		t.Fatal(got)
	}
	if n := ada.mustFind("A/unsent"); n.content.place.Load() != placeBin {
		t.Fatal("the row of a lost content was changed")
	}
}

// The start of a session looks by itself.
func TestStartFetchesMissing(t *testing.T) {
	_, ada, _ := oneWithRemote(t, Limits{}, "A/sent")
	ada.unlink("A/sent")
	eventually(t, "it counts as elsewhere", func() bool { return ada.residence("A/sent") == ResidentRemote })
}
