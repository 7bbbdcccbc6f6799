package vaultcore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// What lies in a vault's home, beside vault.db.
const (
	fileLabel      = "name"
	fileHeader     = "header.json"
	fileLocalKey   = "local.key"
	fileDeviceKey  = "device.key"
	fileDeviceSlot = "device.slot"
	fileLock       = "vault.lock"
	dirAttachments = "attachments"
	dirScratch     = "scratch"

	homeTempPrefix = ".vaultdrive-tmp-"

	maxHomeFile = 1 << 20 // bytes; the largest, a header, has a third of it
	maxLabel    = 100     // bytes
)

// Home is the directory of one vault, held by one process.
type Home struct {
	path     string
	readOnly bool
	lock     *os.File // nil: read-only, and there is no file to lock
	// replace writes a whole file so that after a crash the old or the new
	// content is there.
	replace func(path string, data []byte) error
}

// OpenHome takes the vault at path for this process. readOnly writes nothing
// and allows other read-only openers. Errors: ErrNoVault, ErrInUse,
// ErrReadOnlyDisk.
func OpenHome(path string, readOnly bool) (*Home, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkHome(path); err != nil {
		return nil, err
	}
	lock, err := lockHome(path, readOnly)
	if err != nil {
		return nil, err
	}
	h := &Home{path: path, readOnly: readOnly, lock: lock, replace: replaceFile}
	if !readOnly {
		if err := h.tidy(); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// checkHome names what keeps path from being a vault.
func checkHome(path string) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: there is no such directory", path, ErrNoVault)
	case err != nil:
		return fmt.Errorf("open vault: %w", err)
	case !fi.IsDir():
		return fmt.Errorf("%s: %w: it is no directory", path, ErrNoVault)
	}
	for _, name := range []string{fileHeader, fileLocalKey, fileDeviceKey, dbName, dirAttachments} {
		fi, err := os.Stat(filepath.Join(path, name))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w: %s is missing", path, ErrNoVault, name)
		}
		if err != nil {
			return fmt.Errorf("open vault: %w", err)
		}
		if fi.IsDir() != (name == dirAttachments) {
			return fmt.Errorf("%s: %w: %s is of the wrong kind", path, ErrNoVault, name)
		}
	}
	return nil
}

// lockHome takes the lock: exclusive to write, shared to read.
func lockHome(path string, readOnly bool) (*os.File, error) {
	name := filepath.Join(path, fileLock)
	flags, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if readOnly {
		flags, how = os.O_RDONLY, unix.LOCK_SH
	}
	file, err := os.OpenFile(name, flags, 0o600)
	if readOnly && errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a copy on a read-only disk: nobody writes there
	}
	if err != nil {
		return nil, homeDiskError("lock vault", err)
	}
	err = unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		err = inUse(path, file)
	}
	if err != nil {
		file.Close()
		return nil, homeDiskError("lock vault", err)
	}
	if !readOnly {
		writePID(file)
	}
	return file, nil
}

// inUse names the holder, unless its process is gone: then the number is of
// an earlier one, and the holder is a reader.
func inUse(path string, lock *os.File) error {
	text := make([]byte, 20)
	n, _ := lock.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 0 || unix.Kill(pid, 0) == unix.ESRCH {
		return fmt.Errorf("%s: %w by another process", path, ErrInUse)
	}
	return fmt.Errorf("%s: %w by process %d", path, ErrInUse, pid)
}

// writePID tells others who holds the lock. It only informs: on a full disk a
// vault opens without.
func writePID(lock *os.File) {
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
}

// tidy removes what a killed writer left, and replaces the one directory that
// holds nothing lasting.
func (h *Home) tidy() error {
	entries, err := os.ReadDir(h.path)
	if err != nil {
		return homeDiskError("open vault", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), homeTempPrefix) && e.Type().IsRegular() {
			_ = os.Remove(h.Path(e.Name())) // in nobody's way if it stays
		}
	}
	err = os.Mkdir(h.Path(dirScratch), 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return homeDiskError("open vault", err)
	}
	return nil
}

// Close gives the vault free for others.
func (h *Home) Close() error {
	if h.lock == nil {
		return nil
	}
	if !h.readOnly {
		_ = h.lock.Truncate(0) // so that nobody is told of a process long gone
	}
	return h.lock.Close()
}

// Path is where something of that name lies in the home.
func (h *Home) Path(elem ...string) string {
	return filepath.Join(append([]string{h.path}, elem...)...)
}

// ReadOnly says whether the home was opened for reading only.
func (h *Home) ReadOnly() bool { return h.readOnly }

// Label is the vault's local name.
func (h *Home) Label() string { return readLabel(h.path) }

// SetLabel changes the vault's local name. Errors: ErrInvalid, ErrReadOnly.
func (h *Home) SetLabel(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	return h.write(fileLabel, []byte(label+"\n"))
}

// ReadHeader parses header.json; nothing in it has been verified. Errors:
// seal.ErrHeader, seal.ErrKDFParams.
func (h *Home) ReadHeader() (*seal.SignedHeader, error) { return readHeader(h.path) }

func readHeader(home string) (*seal.SignedHeader, error) {
	path := filepath.Join(home, fileHeader)
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	header, err := seal.ParseEnvelope(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return header, nil
}

// WriteHeader makes a header the vault's own. When it returned nil the header
// is durable; after an error the old or the new one is there.
func (h *Home) WriteHeader(header *seal.SignedHeader) error {
	return h.write(fileHeader, header.Envelope())
}

// read gives the content of one of the home's small files.
func (h *Home) read(name string) ([]byte, error) { return readSmall(h.Path(name)) }

func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxHomeFile+1))
	if err == nil && len(b) > maxHomeFile {
		err = fmt.Errorf("%s: %w", path, seal.ErrTooLarge)
	}
	return b, err
}

// write replaces one of the home's small files.
func (h *Home) write(name string, data []byte) error {
	if h.readOnly {
		return fmt.Errorf("write %s: %w", h.Path(name), ErrReadOnly)
	}
	return homeDiskError("write "+name, h.replace(h.Path(name), data))
}

// remove deletes one of the home's files durably; a missing one is no error.
func (h *Home) remove(name string) error {
	if h.readOnly {
		return fmt.Errorf("remove %s: %w", h.Path(name), ErrReadOnly)
	}
	err := os.Remove(h.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncPath(h.path)
	}
	return homeDiskError("remove "+name, err)
}

// replaceFile: temporary name beside it, write, sync, rename, sync directory.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, homeTempPrefix+seal.NewBlobID().Hex())
	err := writeNew(temp, data)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // the first error is the one to tell
		return err
	}
	return syncPath(dir)
}

// writeNew writes and syncs a file that was not there.
func writeNew(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncPath flushes a file or directory.
func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// homeDiskError gives the two failures of a disk that a user can do something
// about their names.
func homeDiskError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s: %w: %w", doing, ErrNoSpace, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: %w: %w", doing, ErrReadOnlyDisk, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// checkLabel keeps labels apart from paths and safe to print.
func checkLabel(label string) error {
	bad := !utf8.ValidString(label) || label == "" || len(label) > maxLabel ||
		strings.ContainsRune(label, '/') || label[0] == '.' || label[0] == '-' ||
		strings.TrimSpace(label) != label ||
		strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) })
	if bad {
		return fmt.Errorf("vault name %.40q: %w", label, ErrInvalid)
	}
	return nil
}

// readLabel falls back to the directory's name: a damaged label must not keep
// anybody from a vault.
func readLabel(home string) string {
	b, err := readSmall(filepath.Join(home, fileLabel))
	label := string(bytes.TrimSpace(b))
	if err != nil || checkLabel(label) != nil {
		return filepath.Base(home)
	}
	return label
}

// VaultDir is a vault found on disk. Nothing about it has been verified.
type VaultDir struct {
	ID    seal.ID
	Label string
	Path  string
}

// FindVaults lists the vaults under root/vaults by label, damaged ones too:
// OpenHome says what they lack. A root that is not there has none.
func FindVaults(root string) ([]VaultDir, error) {
	parent := filepath.Join(root, "vaults")
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for vaults: %w", err)
	}
	var found []VaultDir
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		id, ok := vaultIDOf(path)
		if ok && !strings.HasPrefix(e.Name(), ".") {
			found = append(found, VaultDir{ID: id, Label: readLabel(path), Path: path})
		}
	}
	slices.SortStableFunc(found, func(a, b VaultDir) int { return strings.Compare(a.Label, b.Label) })
	return found, nil
}

// vaultIDOf asks the header, then the directory's name.
func vaultIDOf(path string) (seal.ID, bool) {
	if header, err := readHeader(path); err == nil {
		return header.Vault, true
	}
	id, err := seal.ParseUUID(filepath.Base(path))
	return id, err == nil
}
