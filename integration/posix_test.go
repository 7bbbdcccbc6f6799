package integration

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notOurs are the cases of go-fuse's suite that ask for what a vault refuses by
// design, or that the suite's own runner leaves out.
var notOurs = map[string]string{
	"Link":                "hard links are refused: an attachment has one name",
	"LinkUnlinkRename":    "hard links are refused: an attachment has one name",
	"FcntlFlockLocksFile": "go-fuse's own runner leaves it out: locks are the kernel's",
	"OpenSymlinkRace":     "go-fuse's own runner leaves it out",
}

// go-fuse's POSIX suite, in a folder of an asset.
//
// Not in parallel: the suite opens files in this process without O_CLOEXEC, and
// what another test starts meanwhile would keep them, and the mount, busy.
func TestPosix(t *testing.T) {
	b := newVault(t)
	m := b.mount()
	asset := m.asset("Posix")
	var names []string
	for name := range posixtest.All {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			if why, ok := notOurs[name]; ok {
				t.Skip(why)
			}
			if strings.HasPrefix(name, "XAttr") {
				t.Skip("extended attributes are off by default; TestPosixOneProcessor has them")
			}
			dir := filepath.Join(asset, name)
			must(t, os.Mkdir(dir, 0o755))
			posixtest.All[name](t, dir)
		})
	}
	m.expect("hard links are not supported")
	m.unmount()
	b.checkClean()
}

// The same at the root of an --asset mount, with extended attributes on and a
// single processor for the daemon: go-fuse's classic deadlocks show there.
// Not in parallel, as TestPosix.
func TestPosixOneProcessor(t *testing.T) {
	b := newVault(t)
	b.ok("asset add", "Posix")
	b.env = append(b.env, "GOMAXPROCS=1")
	m := b.mount("--asset", "Posix", "-o", "xattr")
	for name, run := range posixtest.All {
		if _, skip := notOurs[name]; skip {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := m.path(name)
			must(t, os.Mkdir(dir, 0o755))
			run(t, dir)
		})
	}
	m.expect("hard links are not supported")
	m.unmount()
	b.checkClean()
}
