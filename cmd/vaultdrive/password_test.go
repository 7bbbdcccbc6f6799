package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPasswordFromFile(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		want    string // empty: refused
		warns   bool
	}{
		"plain":          {"secret", 0o600, "secret", false},
		"newline":        {"secret\n", 0o600, "secret", false},
		"windows":        {"secret\r\n", 0o600, "secret", false},
		"two newlines":   {"secret\n\n", 0o600, "secret\n", false},
		"inner newline":  {"two\nlines\n", 0o600, "two\nlines", false},
		"spaces":         {" secret \n", 0o600, " secret ", false},
		"group can read": {"secret", 0o640, "secret", true},
		"all can read":   {"secret", 0o604, "secret", true},
		"empty":          {"", 0o600, "", false},
		"only newline":   {"\n", 0o600, "", false},
		"too long":       {strings.Repeat("x", maxPassword+1), 0o600, "", false},
		"as long as can": {strings.Repeat("x", maxPassword), 0o600, strings.Repeat("x", maxPassword), false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pw")
			if err := errors.Join(os.WriteFile(path, []byte(test.content), 0o600), os.Chmod(path, test.mode)); err != nil {
				t.Fatal(err)
			}
			u, _, said := testUI()
			got, err := passwordFromFile(u, path)
			if string(got) != test.want || (test.want == "") != errors.Is(err, errNoPassword) {
				t.Errorf("got %.20q, %v; want %.20q", got, err, test.want)
			}
			if strings.HasPrefix(said.String(), "warning: ") != test.warns {
				t.Errorf("said %q, warning wanted: %v", said, test.warns)
			}
		})
	}
}

func TestPasswordSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fromEnv := write("env", "from env")
	write(credentialPassword, "from systemd")
	for name, test := range map[string]struct {
		source passwordSource
		env    map[string]string
		want   string
		err    error
	}{
		"file":        {passwordSource{file: write("f", "from file"), fd: -1}, map[string]string{"VAULTDRIVE_PASSWORD_FILE": fromEnv}, "from file", nil},
		"input":       {passwordSource{file: "-", fd: -1}, nil, "from input", nil},
		"command":     {passwordSource{command: "echo from command", fd: -1}, nil, "from command", nil},
		"command bad": {passwordSource{command: "exit 3", fd: -1}, nil, "", errNoPassword},
		"environment": {passwordSource{fd: -1}, map[string]string{"VAULTDRIVE_PASSWORD_FILE": fromEnv, "CREDENTIALS_DIRECTORY": dir}, "from env", nil},
		"systemd":     {passwordSource{fd: -1}, map[string]string{"CREDENTIALS_DIRECTORY": dir}, "from systemd", nil},
		"none":        {passwordSource{fd: -1}, nil, "", nil},
		"missing":     {passwordSource{file: filepath.Join(dir, "none"), fd: -1}, nil, "", errNoPassword},
		"two":         {passwordSource{file: "a", command: "b", fd: -1}, nil, "", errUsage},
		"bad fd":      {passwordSource{fd: 999}, nil, "", errNoPassword},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VAULTDRIVE_PASSWORD_FILE", "")
			t.Setenv("CREDENTIALS_DIRECTORY", "")
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			u, _, _ := testUI()
			u.in = strings.NewReader("from input\n")
			got, err := test.source.given(t.Context(), u)
			if string(got) != test.want || !errors.Is(err, test.err) || (err != nil) != (test.err != nil) {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestPasswordFromDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("from pipe\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	// The source closes its descriptor itself, so it gets one of its own.
	fd, err := dupDescriptor(r)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	got, err := passwordFromFD(fd)
	if string(got) != "from pipe" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestKitSecret(t *testing.T) {
	sheet := "vaultdrive recovery kit\n\nVault     Home\n          id\nIdentity  did:key:z\n\n" +
		"Secret    AAAA-BBBB\n          CCCC-DDDD\n\nWhoever has this\n"
	for in, want := range map[string]string{
		sheet:                   "AAAA-BBBB-CCCC-DDDD",
		"AAAA-BBBB-CCCC-DDDD\n": "AAAA-BBBB-CCCC-DDDD",
		" aaaa bbbb ":           "aaaa bbbb",
	} {
		if got := parseSheet(in).kit.Secret; got != want {
			t.Errorf("parseSheet(%q) = %q, want %q", in, got, want)
		}
	}
}
