package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// parityScript is played on a mounted and on an unmounted vault. %s stands for
// the bed's directory. Answers and exit codes must be the same.
var parityScript = [][]string{
	{"asset add", "Passport"},
	{"asset add", "--type", "note", "Notes"},
	{"asset add", "--type", "password", "Bank"},
	{"asset add", "Passport"},
	{"asset list"},
	{"asset list", "--json"},
	{"put", "%s/small", "Passport/scan.txt"},
	{"put", "%s/large", "Passport/deep/folder/large.bin"},
	{"put", "--parents", "%s/large", "Passport/deep/folder/large.bin"},
	{"put", "%s/small", "Passport/scan.txt"},
	{"put", "--force", "%s/large", "Passport/scan.txt"},
	{"put", "%s/no such", "Passport/x"},
	{"put", "%s/small", "Nowhere/x"},
	{"put", "%s/small", "rootfile"},
	{"ls"},
	{"ls", "Passport"},
	{"ls", "-l", "Passport"},
	{"ls", "-r", "Passport"},
	{"ls", "--json", "-r", "Passport"},
	{"ls", "Passport/nothing"},
	{"get", "Passport/scan.txt", "-"},
	{"get", "Passport/nothing", "-"},
	{"get", "Passport", "-"},
	{"mv", "Passport/scan.txt", "Notes/moved.txt"},
	{"mv", "Passport/deep", "Notes/deep"},
	{"mv", "Passport/nothing", "Notes/x"},
	{"mv", "Notes/deep", "rootdir"},
	{"ls", "-r", "Notes"},
	{"asset rename", "Bank", "Savings"},
	{"asset rename", "Nowhere", "X"},
	{"rm", "Notes/deep"},
	{"rm", "-r", "Notes/deep"},
	{"rm", "Notes/nothing"},
	{"asset rm", "Savings"},
	{"asset rm", "Notes"},
	{"rescue"},
	{"rescue", "Notes/moved.txt", "-"},
	{"rescue", "Notes/nothing", "-"},
	{"trash list"},
	{"trash list", "--json"},
	{"check"},
	{"check", "--deep"},
	{"check", "--json"},
	{"trash empty", "--yes"},
	{"trash restore", "00000000-0000-0000-0000-000000000000"},
	{"passwd", "--new-password-file", "%s/password"},
	{"passwd", "--new-password-file", "%s/short"},
	{"ls", "-r"},
}

// Every command does the same through the daemon and directly.
func TestCommandParity(t *testing.T) {
	t.Parallel()
	play := func(b *bed) []result {
		b.file("small", "a small file\n")
		b.file("short", "short\n")
		b.file("large", string(pattern(1, 1, 100_000)))
		for _, name := range []string{"small", "large"} {
			must(t, os.Chtimes(filepath.Join(b.dir, name), testTime, testTime))
		}
		var out []result
		for _, line := range parityScript {
			args := make([]string, len(line)-1)
			for i, arg := range line[1:] {
				args[i] = strings.ReplaceAll(arg, "%s", b.dir)
			}
			if line[0] == "passwd" { // from here on by the password, which that asks for
				b.unlock = []string{"--password-file", b.password}
			}
			out = append(out, b.run(line[0], args...).normal(b))
		}
		return out
	}
	direct := newVault(t)
	through := newVault(t)
	direct.enroll() // Argon2id for each command takes its time
	through.enroll()
	m := through.mount()
	want, got := play(direct), play(through)
	worked := 0
	for i, line := range parityScript {
		if got[i] != want[i] {
			t.Errorf("%v:\nmounted:   %v\nunmounted: %v", line, got[i], want[i])
		}
		if want[i].code == 2 {
			t.Errorf("%v: wrong usage in the script: %v", line, want[i])
		}
		if want[i].code == 0 {
			worked++
		} else if !strings.HasPrefix(want[i].stderr, "error: ") {
			t.Errorf("%v: %v", line, want[i])
		}
	}
	if worked < len(parityScript)/2 {
		t.Errorf("only %d of %d commands succeeded", worked, len(parityScript))
	}
	want, got = nil, nil
	m.unmount()
	// What the kernel showed of the one is what the commands say of the other.
	m = direct.mount()
	seen := snapshot(t, m.dir)
	m.unmount()
	m = through.mount()
	sameTree(t, stripTimes(snapshot(t, m.dir)), stripTimes(seen))
	m.unmount()
}

var (
	uuidText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}`)
	timeText = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?`)
)

// normal takes out what differs between any two vaults: places, ids and times.
func (r result) normal(b *bed) result {
	clean := func(s string) string {
		s = strings.ReplaceAll(s, b.dir, "DIR")
		return timeText.ReplaceAllString(uuidText.ReplaceAllString(s, "ID"), "TIME")
	}
	return result{r.code, clean(r.stdout), clean(r.stderr)}
}

func stripTimes(s map[string]string) map[string]string {
	for name, line := range s {
		words := strings.Fields(line)
		if len(words) == 4 {
			s[name] = words[0] + " " + words[1] + " " + words[3]
		}
	}
	return s
}
