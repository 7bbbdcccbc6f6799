package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/adrg/xdg"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/fs"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

func dupDescriptor(f *os.File) (int, error) { return unix.Dup(int(f.Fd())) }

func TestSplitOptions(t *testing.T) {
	for in, want := range map[string][]string{
		"ro":                   {"ro"},
		"ro,asset=A b,xattr":   {"ro", "asset=A b", "xattr"},
		`asset=a\,b,ro`:        {"asset=a,b", "ro"},
		`asset=back\\slash,ro`: {`asset=back\slash`, "ro"},
		`asset=a\b`:            {`asset=a\b`},
	} {
		if got := splitOptions(in); !slices.Equal(got, want) {
			t.Errorf("splitOptions(%q) = %q, want %q", in, got, want)
		}
		if title, ok := strings.CutPrefix(want[0], "asset="); ok {
			if got := splitOptions("asset=" + quoteOption(title)); got[0] != want[0] {
				t.Errorf("quoteOption(%q) reads back as %q", title, got)
			}
		}
	}
}

func TestMountOptions(t *testing.T) {
	var plan mountPlan
	var password passwordSource
	o := mountOptions{plan: &plan, password: &password}
	err := o.apply("rw,ro,nofail,noauto,x-systemd.automount,_netdev,allow_other,xattr,asset=Pass port,durability=strict," +
		"scratch=*.tmp,scratch=~*,password-file=/etc/pw,setuid=1000,nosuid,nodev,defaults")
	if err != nil {
		t.Fatal(err)
	}
	want := mountPlan{ReadOnly: true, AllowOther: true, XAttr: true, Strict: true, Asset: "Pass port", Scratch: []string{"*.tmp", "~*"}}
	if !reflect.DeepEqual(plan, want) || password.file != "/etc/pw" || o.owner != "1000" {
		t.Errorf("plan %+v, password file %q, owner %q", plan, password.file, o.owner)
	}
	for _, bad := range []string{"nonempty", "durability=no", "asset", "roo"} {
		if err := o.apply(bad); bad != "asset" && !errors.Is(err, errUsage) {
			t.Errorf("%s: %v, want errUsage", bad, err)
		}
	}
}

func TestMountHelperArguments(t *testing.T) {
	for _, name := range []string{"/sbin/mount.vaultdrive", "mount.fuse.vaultdrive"} {
		if !isMountHelper(name) {
			t.Errorf("%s is a mount helper", name)
		}
	}
	if isMountHelper("/usr/bin/vaultdrive") {
		t.Error("vaultdrive is no mount helper")
	}
	c := &mountCommand{}
	fake, err := c.parseHelper([]string{"/srv/vault", "/mnt", "-sn", "-o", "rw,noauto", "-oasset=A", "-v"})
	if err != nil || fake || c.vault != "/srv/vault" || c.mountPoint != "/mnt" || c.plan.Source != "/srv/vault" ||
		!slices.Equal(c.options, []string{"rw,noauto", "asset=A"}) {
		t.Errorf("%+v, %v, %v", c, fake, err)
	}
	if fake, err := (&mountCommand{}).parseHelper([]string{"a", "b", "-f"}); !fake || err != nil {
		t.Errorf("-f: %v, %v", fake, err)
	}
	for _, bad := range [][]string{{"a"}, {"a", "b", "c"}, {"a", "b", "-o"}, {"a", "b", "-x"}} {
		if _, err := (&mountCommand{}).parseHelper(bad); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want errUsage", bad, err)
		}
	}
	u, _, said := testUI()
	if code := runMountHelper(t.Context(), u, []string{"/nowhere/at all", "/mnt"}); code != exitMountFailed || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("code %d, said %q; want one line", code, said)
	}
}

func TestParseMounts(t *testing.T) {
	const info = `22 27 0:21 / /proc rw,relatime shared:12 - proc proc rw
91 27 0:50 / /home/a/My\040Vault rw,nosuid,nodev shared:5 master:2 - fuse.vaultdrive My\134Vault rw,user_id=0
92 27 0:51 / /mnt rw - ext4 /dev/sda1 rw
garbage
`
	mounts, err := parseMounts(strings.NewReader(info))
	if err != nil || len(mounts) != 3 {
		t.Fatalf("%+v, %v", mounts, err)
	}
	want := mountEntry{device: "0:50", point: "/home/a/My Vault", fsType: "fuse.vaultdrive", source: `My\Vault`, owner: "0"}
	if mounts[1] != want || !mounts[1].isOurs() || mounts[2].isOurs() {
		t.Errorf("%+v, want %+v", mounts[1], want)
	}
}

func TestCheckPoint(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(base, "state"))
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	full, file, empty := filepath.Join(base, "full"), filepath.Join(base, "file"), filepath.Join(base, "empty")
	state := filepath.Join(base, "state")
	if err := errors.Join(os.MkdirAll(filepath.Join(full, "x"), 0o700), os.WriteFile(file, nil, 0o600),
		os.Mkdir(empty, 0o700), os.Mkdir(state, 0o700)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(base, "none"): fs.ErrPointMissing,
		full:                        fs.ErrPointNotEmpty,
		file:                        fs.ErrPointNotDir,
		state:                       fs.ErrVaultInPoint,
		empty:                       nil,
	} {
		if err := checkPoint(path); !errors.Is(err, want) || (err != nil) != (want != nil) {
			t.Errorf("checkPoint(%s) = %v, want %v", path, err, want)
		}
	}
}

func TestUnitQuoting(t *testing.T) {
	for in, want := range map[string]string{
		"plain":     "plain",
		"two words": `"two words"`,
		`quo"te`:    `"quo\"te"`,
		"100%":      `"100%%"`,
		"$HOME":     `"$$HOME"`,
		`back\`:     `"back\\"`,
	} {
		if got := quoteUnit(in); got != want {
			t.Errorf("quoteUnit(%q) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"/a b": `/a\040b`, `a\b`: `a\134b`, "plain": "plain"} {
		if got := quoteFstab(in); got != want || unescapeMount(got) != in {
			t.Errorf("quoteFstab(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestUnitAndFstab(t *testing.T) {
	u, out, _ := testUI()
	c := &mountCommand{common: common{ui: u}, plan: mountPlan{Home: "/v", MountPoint: "/home/a/My Vault", Asset: "A,b", Strict: true}}
	home := vaultHome{path: "/srv/my vault", id: "id", label: "Home 100%"}
	if err := c.printUnit(home); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Type=notify\n", `mount --foreground --vault "/srv/my vault" --durability strict --asset A,b "/home/a/My Vault"`,
		"Description=vaultdrive Home 100%%\n", "MemorySwapMax=0\n", "LoadCredentialEncrypted=vaultdrive.password:%h/"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("unit lacks %q:\n%s", want, out)
		}
	}
	out.Reset()
	if err := c.printFstab(home); err != nil {
		t.Fatal(err)
	}
	line := strings.Split(strings.TrimSpace(out.String()), "\n")[1]
	fields := strings.Fields(line)
	if len(fields) != 6 || unescapeMount(fields[0]) != home.path || unescapeMount(fields[1]) != "/home/a/My Vault" || fields[2] != "vaultdrive" {
		t.Fatalf("fstab line %q", line)
	}
	var plan mountPlan
	if err := (&mountOptions{plan: &plan, password: &passwordSource{}}).apply(unescapeMount(fields[3])); err != nil || plan.Asset != "A,b" || !plan.Strict {
		t.Errorf("options read back as %+v, %v", plan, err)
	}
}

func TestSelectVault(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_DATA_HOME", base)
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	if _, err := selectVault(""); !errors.Is(err, vaultcore.ErrNoVault) {
		t.Errorf("no vault at all: %v", err)
	}
	if _, err := selectVault(base + "/x"); !errors.Is(err, vaultcore.ErrNoVault) {
		t.Errorf("no vault there: %v", err)
	}
	two := []vaultHome{{path: "/a", id: "1", label: "home"}, {path: "/b", id: "2", label: "work"}}
	for arg, want := range map[string]string{"home": "/a", "2": "/b"} {
		if got, err := pickVault(arg, two); err != nil || got.path != want {
			t.Errorf("pickVault(%q) = %v, %v", arg, got, err)
		}
	}
	if got, err := pickVault("", two[:1]); err != nil || got.path != "/a" {
		t.Errorf("the only one: %v, %v", got, err)
	}
	if _, err := pickVault("", two); !errors.Is(err, errAmbiguous) {
		t.Errorf("two: %v, want errAmbiguous", err)
	}
	alike := []vaultHome{{path: "/data/a", id: "1", label: "home"}, {path: "/data/b", id: "2", label: "home"}}
	if _, err := pickVault("home", alike); !errors.Is(err, errAmbiguous) || !strings.Contains(err.Error(), "home in /data/a, home in /data/b") {
		t.Errorf("two of one name: %v, want their directories", err)
	}
	if _, err := pickVault("other", two); !errors.Is(err, vaultcore.ErrNoVault) {
		t.Errorf("unknown: %v, want ErrNoVault", err)
	}
	for arg, want := range map[string]bool{"name": false, "./name": true, "/abs": true, ".": true, "..": true, "a.b": false} {
		if got := isVaultPath(arg); got != want {
			t.Errorf("isVaultPath(%q) = %v", arg, got)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "v.log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 3*maxLog/len(line) + 1 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v; want two files", entries, err)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || st.Size() > maxLog || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, mode %v, %v", e.Name(), st.Size(), st.Mode(), err)
		}
	}
}

func TestUsersOf(t *testing.T) {
	dir := t.TempDir()
	child, err := os.StartProcess("/bin/sleep", []string{"sleep", "3600"}, &os.ProcAttr{Dir: dir})
	if err != nil {
		t.Skipf("no sleep: %v", err)
	}
	defer func() { child.Kill(); child.Wait() }()
	if got := usersOf(dir); len(got) != 1 || !strings.HasPrefix(got[0], "sleep (") && !strings.HasPrefix(got[0], "vaultdrive.test (") {
		t.Errorf("usersOf = %q, want the child", got)
	}
	if got := usersOf(dir + "/none"); len(got) != 0 {
		t.Errorf("nobody there: %q", got)
	}
}
