package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// recordSuffix names what a mount's process leaves beside its socket.
const recordSuffix = ".mount"

// mountRecord says which vault is mounted where, for commands that find the
// process dead or without an answer. It outlives a process that is killed.
type mountRecord struct {
	Vault      string `json:"vault"`
	Home       string `json:"home"`
	MountPoint string `json:"mountpoint"`
	Asset      string `json:"asset,omitempty"`
	Device     string `json:"device"` // major:minor, as in mountinfo
	Log        string `json:"log,omitempty"`
	Backup     string `json:"backup,omitempty"` // the file mounted, in place of a vault

	socket string // beside it
}

// slot is that of the vault's home.
func (r mountRecord) slot() string { return slotOf(r.socket) }

func slotOf(socket string) string { return strings.TrimSuffix(filepath.Base(socket), socketSuffix) }

// recordPath is where the record belongs to a socket.
func recordPath(socket string) string {
	return strings.TrimSuffix(socket, socketSuffix) + recordSuffix
}

// writeRecord replaces the record as a whole.
func writeRecord(socket string, r mountRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temp := recordPath(socket) + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, recordPath(socket))
}

// readRecord reads the record beside a socket; the directory has been found
// to be ours alone.
func readRecord(socket string) (r mountRecord, ok bool) {
	b, err := readBounded(recordPath(socket), maxRequest)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return r, false
	}
	r.socket = socket
	return r, true
}

// forget removes what a process that is gone left behind.
func (r mountRecord) forget() {
	_ = os.Remove(recordPath(r.socket))
	_ = os.Remove(r.socket)
}

// recordsHere lists what the mounts of this user left, the living and the dead.
func recordsHere() []mountRecord {
	var found []mountRecord
	for _, dir := range clientDirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), recordSuffix)
			if !ok {
				continue
			}
			if r, ok := readRecord(filepath.Join(dir, id+socketSuffix)); ok {
				found = append(found, r)
			}
		}
	}
	return found
}

// recordOf finds the record of a vault.
func recordOf(home vaultHome) (mountRecord, bool) {
	for _, r := range recordsHere() {
		if r.slot() == home.slot() && home.id != "" {
			return r, true
		}
	}
	return mountRecord{}, false
}

// seen reports whether the mount is still where the record says. It asks the
// kernel's list, never the mount.
func (r mountRecord) seen() bool {
	mount, covered, err := mountAt(r.MountPoint)
	return err == nil && covered && mount.isOurs() && mount.device == r.Device
}

// served reports whether a process still listens, answering or not.
func (r mountRecord) served() bool {
	conn, _, err := dialSocket(r.socket)
	if err != nil {
		return isSilent(err)
	}
	conn.Close()
	return true
}

// mountedHomes lists the vaults with a mount or the process of one.
func mountedHomes() []vaultHome {
	var homes []vaultHome
	for _, r := range recordsHere() {
		if r.Backup != "" || !r.seen() && !r.served() {
			continue // no command means a backup that does not name its mount point
		}
		if _, err := os.Stat(filepath.Join(r.Home, headerFile)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		homes = append(homes, readHome(r.Home))
	}
	return homes
}

// deadMount finds the mount whose process died without unmounting it. No
// process listens, or the caller would have been answered.
func deadMount(ctx context.Context, home vaultHome) (mountRecord, bool) {
	r, ok := recordOf(home)
	if ok && r.seen() && !r.served() {
		return r, true
	}
	mounts, err := readMounts()
	if err != nil {
		return r, false
	}
	for _, m := range mounts {
		// mount(8) gives the vault itself as the source.
		if m.isOurs() && strings.TrimSuffix(m.source, "/") == home.path && pulseOf(ctx, m.point) == pulseDead {
			return mountRecord{Vault: home.id, Home: home.path, MountPoint: m.point, Device: m.device}, true
		}
	}
	return mountRecord{}, false
}
