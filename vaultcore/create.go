package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// newHomePrefix begins the name under which a vault is built, beside its home.
const newHomePrefix = ".vaultdrive-new-"

// CreateOptions say what vault to make.
type CreateOptions struct {
	Home     string // its directory; must not exist, or be empty
	Label    string // local name; empty: the directory's
	Password []byte // the caller's to wipe
	// Vault is the id to take; zero: a random one.
	Vault  seal.ID
	Params seal.KDFParams // zero: seal.DefaultKDF
	Write  string         // seal.WriteAuto, also if empty, or seal.WriteV4
	KDF    KDF            // nil: InProcessKDF
	// initDB makes the database of a vault whose home is dir; nil: the function
	// of that name.
	initDB func(dir string, vault, device seal.ID) error
	// known: the vault exists elsewhere, and its password is right or wrong; a
	// weak one is not refused.
	known bool
}

// CreateResult says what vault was made.
type CreateResult struct {
	Vault, Device seal.ID
	DID           string
	Home          string // absolute
}

// Create makes a vault: all of it or nothing, also when killed. What killed
// ones left beside the home is removed. Errors: seal.ErrWeakPassword,
// seal.ErrKDFParams, ErrInvalid, ErrExist, ErrNoSpace, ErrReadOnlyDisk.
func Create(ctx context.Context, o CreateOptions) (CreateResult, error) {
	o, err := o.complete()
	if err != nil {
		return CreateResult{}, err
	}
	parent := filepath.Dir(o.Home)
	made := missingAbove(parent)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return CreateResult{}, homeDiskError("create vault", err)
	}
	removeUnfinished(parent)
	temp, lock, err := newHome(parent)
	if err != nil {
		return CreateResult{}, homeDiskError("create vault", err)
	}
	defer lock.Close()
	result, err := buildHome(ctx, temp, o)
	if err == nil {
		err = publishHome(temp, o.Home)
	}
	if err != nil {
		return CreateResult{}, errors.Join(err, os.RemoveAll(temp))
	}
	for _, dir := range append([]string{parent}, made...) {
		if err := syncPath(dir); err != nil {
			return CreateResult{}, homeDiskError("create vault", err)
		}
	}
	return result, nil
}

// missingAbove lists the directories whose entries change when dir is made
// with all that is missing above it.
func missingAbove(dir string) (changed []string) {
	for {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return changed
		}
		dir = filepath.Dir(dir)
		changed = append(changed, dir)
	}
}

// complete checks the options and fills in what they leave open.
func (o CreateOptions) complete() (CreateOptions, error) {
	if !o.known {
		if err := seal.CheckPassword(o.Password); err != nil {
			return o, err
		}
	}
	home, err := resolveHome(o.Home)
	if err != nil {
		return o, err
	}
	o.Home = home
	if o.Label == "" {
		o.Label = filepath.Base(home)
	}
	if o.Params == (seal.KDFParams{}) {
		o.Params = seal.DefaultKDF()
	}
	if o.Write == "" {
		o.Write = seal.WriteAuto
	}
	if o.Vault.IsZero() {
		o.Vault = seal.NewID()
	}
	if o.KDF == nil {
		o.KDF = InProcessKDF
	}
	if o.initDB == nil {
		o.initDB = initDB
	}
	return o, errors.Join(checkLabel(o.Label), o.Params.Check())
}

// resolveHome gives the absolute path of a home that may be made: nothing is
// there, or an empty directory.
func resolveHome(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("create vault without a place: %w", ErrInvalid)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case errors.Is(err, unix.ENOTDIR):
		return "", fmt.Errorf("%s: %w, and is no directory", path, ErrExist)
	case err != nil:
		return "", fmt.Errorf("create vault: %w", err)
	case len(entries) > 0:
		return "", fmt.Errorf("%s: %w, and is not empty", path, ErrExist)
	}
	return path, nil
}

// newHome makes the directory to build in, locked as long as we live.
func newHome(parent string) (path string, lock *os.File, err error) {
	path = filepath.Join(parent, newHomePrefix+seal.NewBlobID().Hex())
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", nil, err
	}
	lock, err = lockDir(path)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(path))
	}
	return path, lock, nil
}

func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// removeUnfinished clears away what killed creations left. One that is under
// way holds its lock, or is too young to have taken it.
func removeUnfinished(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return // it is in nobody's way
	}
	for _, e := range entries {
		id, ours := strings.CutPrefix(e.Name(), newHomePrefix)
		if _, err := seal.ParseHex(id); err != nil || !ours || !e.IsDir() {
			continue
		}
		path := filepath.Join(parent, e.Name())
		if emptyDir(path) && youngerThan(path, time.Minute) {
			continue
		}
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path) // what is left is tried again next time
			lock.Close()
		}
	}
}

func emptyDir(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func youngerThan(path string, age time.Duration) bool {
	fi, err := os.Stat(path)
	return err == nil && time.Since(fi.ModTime()) < age
}

// buildHome makes everything that belongs into a home.
func buildHome(ctx context.Context, dir string, o CreateOptions) (CreateResult, error) {
	kek, err := o.KDF(ctx, o.Password, o.Params)
	if err != nil {
		return CreateResult{}, fmt.Errorf("create vault: %w", err)
	}
	defer kek.Wipe()
	result, files, err := makeKeys(&kek, o)
	if err != nil {
		return CreateResult{}, fmt.Errorf("create vault: %w", err)
	}
	for _, name := range []string{dirAttachments, dirScratch} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return CreateResult{}, homeDiskError("create vault", err)
		}
	}
	for name, content := range files {
		if err := writeNew(filepath.Join(dir, name), content); err != nil {
			return CreateResult{}, homeDiskError("create vault", err)
		}
	}
	if err := o.initDB(dir, result.Vault, result.Device); err != nil {
		return CreateResult{}, homeDiskError("create vault", err)
	}
	return result, homeDiskError("create vault", syncTree(dir))
}

// makeKeys draws the secrets of a vault and its first device and seals them.
func makeKeys(kek *seal.Key, o CreateOptions) (CreateResult, map[string][]byte, error) {
	secrets, err := newArena()
	if err != nil {
		return CreateResult{}, nil, err
	}
	defer secrets.wipe()
	random := func() *seal.Key {
		k := seal.NewKey()
		return secrets.keep(&k)
	}
	vk, ids, dsk, ldk := random(), random(), random(), random()
	device := seal.Device{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(dsk))}
	header, err := seal.NewHeader(o.Vault, ids, vk, kek, o.Params, []seal.Device{device}, o.Write)
	if err != nil {
		return CreateResult{}, nil, err
	}
	epoch := seal.DeriveEpoch(vk, o.Vault, header.Epoch)
	defer epoch.Wipe()
	local := seal.DeriveLocal(ldk, o.Vault)
	defer local.Wipe()
	files := map[string][]byte{
		fileLabel:     []byte(o.Label + "\n"),
		fileHeader:    header.Envelope(),
		fileLocalKey:  epoch.SealLocalKey(ldk),
		fileDeviceKey: local.SealDeviceKey(device.ID, dsk),
		fileLock:      nil,
	}
	return CreateResult{Vault: o.Vault, Device: device.ID, DID: header.DID, Home: o.Home}, files, nil
}

// syncTree makes a small directory durable, deepest first.
func syncTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		sync := syncPath
		if e.IsDir() {
			sync = syncTree
		}
		if err := sync(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return syncPath(dir)
}

// publishHome gives the finished vault its name. rename(2) replaces an empty
// directory and nothing else.
func publishHome(temp, home string) error {
	err := unix.Rename(temp, home)
	switch err {
	case unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR:
		return fmt.Errorf("%s: %w", home, ErrExist)
	case unix.EBUSY:
		return fmt.Errorf("%s: %w: it is a mount point; a directory in it will do", home, ErrInvalid)
	}
	return homeDiskError("create vault", err)
}
