package fs

import (
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// leftOut are the tests of posixtest that a vault fails by design, or that
// go-fuse's own runner leaves out.
var leftOut = map[string]string{
	"Link":                "an attachment has one name",
	"LinkUnlinkRename":    "an attachment has one name",
	"FcntlFlockLocksFile": "left out by go-fuse's runner",
	"OpenSymlinkRace":     "left out by go-fuse's runner",
}

// TestPosix runs go-fuse's suite in a folder of an asset.
func TestPosix(t *testing.T) {
	m := mountVault(t, func(_ *mounted, o *Options) { o.XAttr = true })
	inClient(t, "^TestClientPosix$", m.a)
}

// TestPosixAsset runs it in the root of a mount that shows one asset, served
// by one processor, where a serving process that waits for itself stands. Other
// users are let in where that is allowed, so that the kernel checks modes.
func TestPosixAsset(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	m := mountVault(t, func(m *mounted, o *Options) {
		o.Asset, o.XAttr, o.AllowOther = m.node("A"), true, os.Geteuid() == 0
	})
	inClient(t, "^TestClientPosix$", m.a)
}

func TestClientPosix(t *testing.T) {
	dir := clientDir(t)
	var names []string
	for name := range posixtest.All {
		if leftOut[name] == "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, sub)
			if err := os.RemoveAll(sub); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScenarios runs our own scenarios, all of them on one mount.
func TestScenarios(t *testing.T) {
	m := mountVault(t, nil)
	inClient(t, "^TestClientScenarios$", m.a)
	if strings.Contains(m.log.all(), "level=ERROR") {
		t.Error(m.log.all())
	}
}
