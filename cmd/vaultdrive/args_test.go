package main

import (
	"slices"
	"strings"
	"testing"
)

func TestPermuteMovesOptionsToTheFront(t *testing.T) {
	app := newApp(&ui{in: strings.NewReader(""), out: &strings.Builder{}, err: &strings.Builder{}})
	for _, test := range []struct{ in, want string }{
		{"ls", "ls"},
		{"ls -l A", "ls -l -- A"},
		{"ls A -l", "ls -l -- A"},
		{"ls A --vault ./v B", "ls --vault ./v -- A B"},
		{"ls A --vault=./v B", "ls --vault=./v -- A B"},
		{"get A - --force", "get --force -- A -"},
		{"get -- -x --force", "get -- -x --force"},
		{"mount DIR -o ro --foreground", "mount -o ro --foreground -- DIR"},
		{"asset add Title --type note", "asset add --type note -- Title"},
		{"trash empty --yes ID", "trash empty --yes -- ID"},
		{"ls A --unknown x", "ls --unknown -- A x"},
		{"nothing A --json", "nothing A --json"},
		{"ls help", "ls -- help"},
	} {
		got := permute(app.Commands, nil, strings.Fields(test.in))
		if want := strings.Fields(test.want); !slices.Equal(got, want) {
			t.Errorf("permute(%q) = %q, want %q", test.in, got, want)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range []string{
		"nothing", "asset", "asset nothing", "mount", "mount A B", "ls --nothing", "get", "put x", "mv x",
		"completion tcsh", "check x", "passwd --kdf low", "init --kdf high", "init --write v5", "init x",
		"mount --durability none X", "mount -o nothing X", "trash restore", "rescue x", "umount a b", "demo a b",
		"ls --password-file a --password-fd 3",
	} {
		t.Run(args, func(t *testing.T) {
			u, _, said := testUI()
			t.Setenv("XDG_DATA_HOME", t.TempDir())
			code := runCommand(t.Context(), u, append([]string{"vaultdrive"}, strings.Fields(args)...))
			if args == "ls --password-file a --password-fd 3" {
				return // found out only once there is a vault
			}
			if code != 2 || !strings.HasPrefix(said.String(), "error: ") || !strings.Contains(said.String(), "hint: ") {
				t.Errorf("exit code %d, said %q; want 2 and error, hint", code, said)
			}
		})
	}
}

func testUI() (u *ui, out, said *strings.Builder) {
	out, said = &strings.Builder{}, &strings.Builder{}
	return &ui{in: strings.NewReader(""), out: out, err: said}, out, said
}
