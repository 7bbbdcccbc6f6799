package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	// maxPassword bounds what is read as a password.
	maxPassword = 64 << 10
	// Names of systemd credentials.
	credentialPassword  = "vaultdrive.password"
	credentialDeviceKey = "vaultdrive.device-key"
)

// passwordSource holds the options that say where the password is, at most one
// of them given, and where the key of an enrolled device is.
type passwordSource struct {
	file      string
	fd        int
	command   string
	deviceKey string
}

func (s *passwordSource) flags() []cli.Flag {
	s.fd = -1
	return []cli.Flag{
		&cli.StringFlag{Name: "password-file", Destination: &s.file,
			Usage: "read the password from `FILE` (- is standard input; one newline at the end is not part of it; VAULTDRIVE_PASSWORD_FILE)"},
		&cli.IntFlag{Name: "password-fd", Destination: &s.fd, Value: -1, DefaultText: "none",
			Usage: "read the password from the open descriptor `N`"},
		&cli.StringFlag{Name: "password-command", Destination: &s.command,
			Usage: "run `CMD` with sh and read the password from its output"},
		&cli.StringFlag{Name: "device-key", Destination: &s.deviceKey,
			Usage: "open with the key of an enrolled device in `FILE` instead of the password"},
	}
}

func (s *passwordSource) check() error {
	given := 0
	for _, is := range []bool{s.file != "", s.fd >= 0, s.command != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return usage("give only one of --password-file, --password-fd and --password-command")
	}
	return nil
}

// absolute makes the files independent of the working directory.
func (s *passwordSource) absolute() (err error) {
	for _, path := range []*string{&s.file, &s.deviceKey} {
		if *path == "" || *path == "-" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// explicit reports whether an option or the environment names a source, so
// that nobody will be asked.
func (s *passwordSource) explicit() bool {
	return s.file != "" || s.fd >= 0 || s.command != "" || s.deviceKey != "" ||
		os.Getenv("VAULTDRIVE_PASSWORD_FILE") != ""
}

// byOption reports whether an option names a source. The environment and systemd
// name the current password only, never a new one.
func (s *passwordSource) byOption() bool { return s.file != "" || s.fd >= 0 || s.command != "" }

// credentials is a password or a device key.
type credentials struct {
	password  []byte
	deviceKey *seal.Key
	kit       *vaultcore.TypedKit // in the place of a password that is lost
	keyring   bool                // the key came from the keyring, so nobody was asked yet
}

func (c *credentials) forVault() vaultcore.Credentials {
	return vaultcore.Credentials{Password: c.password, DeviceKey: c.deviceKey, Kit: c.kit}
}

// askAfter asks for the password when the key of the keyring does not open the
// vault any more, because the password was changed elsewhere. It reports
// whether to try again.
func (c *credentials) askAfter(ctx context.Context, u *ui, home vaultHome, err error) bool {
	if !c.keyring || c.password != nil || !errors.Is(err, vaultcore.ErrNotEnrolled) {
		return false
	}
	u.warn("the key in the keyring does not open the vault; its password is needed once")
	password, err := prompt(ctx, "Password for "+escapeName(home.label)+": ")
	c.password = password
	return err == nil
}

func (c *credentials) wipe() {
	clear(c.password)
	if c.deviceKey != nil {
		c.deviceKey.Wipe()
	}
}

// credentials finds what opens the vault, in this order: an option, the
// environment, a systemd credential, the keyring of an enrolled device, and
// last the person at the terminal. With a device key a password that is given
// as well is for the case that the key does not open the vault any more.
func (s *passwordSource) credentials(ctx context.Context, u *ui, home vaultHome) (*credentials, error) {
	password, err := s.given(ctx, u)
	if err != nil {
		return nil, err
	}
	creds := &credentials{password: password}
	switch {
	case s.deviceKey != "":
		creds.deviceKey, err = deviceKeyFrom(home, s.deviceKey)
	case password != nil:
	case credentialPath(credentialDeviceKey) != "":
		creds.deviceKey, err = deviceKeyFrom(home, credentialPath(credentialDeviceKey))
	default:
		err = creds.fromKeyringOrAsk(ctx, u, home)
	}
	if err != nil {
		creds.wipe()
		return nil, err
	}
	return creds, nil
}

func (c *credentials) fromKeyringOrAsk(ctx context.Context, u *ui, home vaultHome) (err error) {
	if home.isEnrolled() {
		if c.deviceKey, err = keyringGet(home); err == nil {
			c.keyring = true
			return nil
		}
		u.warn("this device is enrolled, but %s", oneLine(err))
	}
	c.password, err = prompt(ctx, "Password for "+escapeName(home.label)+": ")
	return err
}

// storedKey gives the key of this device where there is one, to go along with
// a password.
func (s *passwordSource) storedKey(home vaultHome) (key *seal.Key) {
	if !home.isEnrolled() {
		return nil
	}
	path := s.deviceKey
	if path == "" {
		path = credentialPath(credentialDeviceKey)
	}
	var err error
	if path != "" {
		key, err = deviceKeyFrom(home, path)
	} else {
		key, err = keyringGet(home)
	}
	if err != nil {
		return nil // the password does without
	}
	return key
}

// given reads the password from the source that options, environment or
// systemd name; nil when there is none.
func (s *passwordSource) given(ctx context.Context, u *ui) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	switch {
	case s.file != "":
		return passwordFromFile(u, s.file)
	case s.fd >= 0:
		return passwordFromFD(s.fd)
	case s.command != "":
		return passwordFromCommand(ctx, u, s.command)
	}
	if path := os.Getenv("VAULTDRIVE_PASSWORD_FILE"); path != "" {
		return passwordFromFile(u, path)
	}
	if path := credentialPath(credentialPassword); path != "" {
		return passwordFromFile(u, path)
	}
	return nil, nil
}

// forAction gets the password itself, where a device key is not enough.
func (s *passwordSource) forAction(ctx context.Context, u *ui, question, what string) ([]byte, error) {
	if password, err := s.given(ctx, u); password != nil || err != nil {
		return password, err
	}
	password, err := prompt(ctx, question)
	if s.deviceKey != "" && errors.Is(err, errNoPassword) {
		return nil, fail(errNoPassword, "", "a device key cannot %s: that needs the password itself", what)
	}
	return password, err
}

// credentialPath finds a systemd credential, "" when there is none.
func credentialPath(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func passwordFromFile(u *ui, path string) ([]byte, error) {
	if path == "-" {
		return readPassword(u.in, "standard input")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, passwordFileFailure(path, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		u.warn("password file %s can be read by others (mode %04o): chmod 600 it", escapeName(path), st.Mode().Perm())
	}
	return readPassword(f, path)
}

func passwordFileFailure(path string, err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	return fail(errNoPassword, "", "password file %s: %v", path, err)
}

func passwordFromFD(fd int) ([]byte, error) {
	what := fmt.Sprintf("descriptor %d", fd)
	f := os.NewFile(uintptr(fd), what)
	if f == nil {
		return nil, fail(errNoPassword, "", "%s is not open", what)
	}
	defer f.Close()
	return readPassword(f, what)
}

func passwordFromCommand(ctx context.Context, u *ui, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stderr = u.err
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		clear(out.Bytes())
		return nil, fail(errNoPassword, "run the command by itself to see what it does", "password command failed: %v", err)
	}
	defer clear(out.Bytes())
	return readPassword(&out, "password command")
}

// readPassword reads a password whose end is the end of the source. One
// newline there is an editor's, not the password's.
func readPassword(r io.Reader, what string) ([]byte, error) {
	buf := make([]byte, maxPassword+1)
	n, err := io.ReadFull(r, buf)
	defer clear(buf)
	switch {
	case err == nil:
		return nil, fail(errNoPassword, "", "%s holds more than %d bytes, which is no password", what, maxPassword)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, passwordFileFailure(what, err)
	}
	password := bytes.Clone(trimNewline(buf[:n]))
	if len(password) == 0 {
		return nil, fail(errNoPassword, "", "%s is empty", what)
	}
	return password, nil
}

func trimNewline(b []byte) []byte {
	if cut, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		return bytes.TrimSuffix(cut, []byte("\r"))
	}
	return b
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, nil
}
