package integration

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// TestPendingIsNoAlarm: a file whose name has come and whose content is still on
// its way up is waited for in vain, which is nobody's fault and no alarm.
func TestPendingIsNoAlarm(t *testing.T) {
	t.Parallel()
	g := s3test.StartGateway(t)
	ada, wire := wired(t, "ada", g, nil)
	bob, _ := wired(t, "bob", g, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	there.expect("errno=110")
	dir := here.asset("Films")
	syncAll(ada, bob)
	wire.suffer(`{"type":"bandwidth","stream":"upstream","attributes":{"rate":30}}`)
	must(t, os.WriteFile(filepath.Join(dir, "film"), noise(rand.New(rand.NewPCG(1, 1)), 12<<20), 0o644))
	waitFor(t, "the name has come", patience, func() bool {
		bob.run("sync now")
		_, err := os.Stat(there.path("Films", "film"))
		return err == nil
	})
	if _, err := os.ReadFile(there.path("Films", "film")); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("a content that is on its way: %v; want ETIMEDOUT", err)
	}
	if s := bob.syncStatus(); len(s.Conditions) != 0 {
		t.Errorf("bob alarms: %+v", s.Conditions)
	}
	if alarms := bob.status()["alarms"].([]any); len(alarms) != 0 {
		t.Errorf("bob's status alarms: %v", alarms)
	}
	wire.suffer()
}
