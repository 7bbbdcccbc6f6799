package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/vaultdrive/vaultdrive/fs"
	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/move"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// What only the command line can find wrong.
var (
	errUsage         = errors.New("wrong usage")
	errNoPassword    = errors.New("no password given")
	errMismatch      = errors.New("the two passwords differ")
	errAmbiguous     = errors.New("which vault is meant is not clear")
	errWhichDevice   = errors.New("which device is meant is not clear")
	errNotMounted    = errors.New("not mounted")
	errMounted       = errors.New("already mounted")
	errProblems      = errors.New("problems found")
	errKeyring       = errors.New("the keyring of the system cannot be used")
	errDaemonLost    = errors.New("the mounted vault's process ended in the middle of the answer")
	errDaemonSilent  = errors.New("the mounted vault's process does not answer")
	errDaemonOld     = errors.New("the mounted vault's process does not know this command")
	errForeignSocket = errors.New("the socket belongs to somebody else")
	errRuntimeDir    = errors.New("runtime directory is not safe")
	errSyncOff       = errors.New("synchronisation is off")
	errRemoteOnly    = errors.New("contents are at the remote only")
	errNoAccount     = errors.New("no such account")
	errSlowAES       = errors.New("this processor has no instructions for AES")
)

// exitUnknown ends a run for a reason the table does not list; two others say
// that an end came from outside.
const (
	exitUnknown     = 1
	exitDaemon      = 45
	exitInterrupted = 130
)

// exitRow joins an error to its stable name (in the socket's answers and in
// --json), its exit code and what to do about it.
type exitRow struct {
	err  error
	code string
	exit int
	hint string
}

// exitTable is the documented list: the first row that matches speaks. A code
// that was given out once is never given another meaning; new rows get new
// numbers. Rows may share a number when a script would act alike.
var exitTable = []exitRow{
	{errUsage, "usage", 2, "vaultdrive help COMMAND shows the usage"},
	{vaultcore.ErrWrongPassword, "wrong_password", 3, "nothing was changed; check the keyboard layout and try again; if it was changed on another device, use the old one once more: this device hears of the change then, and asks for the new one"},
	{seal.ErrPassword, "wrong_password", 3, "nothing was changed; check the keyboard layout and try again; if it was changed on another device, use the old one once more: this device hears of the change then, and asks for the new one"},
	{errNoPassword, "no_password", 4, "give --password-file FILE, --password-fd N or --password-command CMD, or run it in a terminal"},
	{errMismatch, "passwords_differ", 4, "type the same password twice"},
	{vaultcore.ErrNoVault, "no_vault", 5, "vaultdrive init makes one; --vault DIR (with a slash) names a directory"},
	{errAmbiguous, "ambiguous_vault", 5, "choose one with --vault NAME or --vault DIR"},
	{errWhichDevice, "ambiguous_device", 5, "give its id: vaultdrive device list shows it"},
	{vaultcore.ErrInUse, "in_use", 6, "wait for the other vaultdrive process, or end it"},
	{errMounted, "already_mounted", 6, "unmount it first with vaultdrive umount"},
	{backup.ErrLayout, "bad_backup", 70, "it was cut short, or is no backup: take another copy of it"},
	{backup.ErrHash, "bad_backup", 70, "take another copy of it; backup restore --fill still takes what is whole"},
	{backup.ErrContent, "bad_backup", 70, "it was altered, or is not what it says: take another copy of it"},
	{vaultcore.ErrForeignHeader, "foreign_header", 7, "header.json belongs to another vault: put the right one back, from a copy of this directory"},
	{seal.ErrIdentityMismatch, "foreign_header", 7, "header.json belongs to another vault: put the right one back, from a copy of this directory"},
	{vaultcore.ErrRollback, "rollback", 7, "an older header.json was put back; restore the newest one"},
	{seal.ErrRollback, "rollback", 7, "an older header.json was put back; restore the newest one"},
	{seal.ErrHeader, "bad_header", 7, "header.json is damaged; restore it from a copy"},
	{seal.ErrSignature, "bad_header", 7, "header.json was altered; restore it from a copy"},
	{seal.ErrKeyCommit, "bad_header", 7, "header.json was altered; restore it from a copy"},
	{seal.ErrKDFParams, "bad_header", 7, "header.json was altered; restore it from a copy"},
	{seal.ErrKit, "bad_kit", 8, "type the kit as printed, all groups and the four check characters"},
	{seal.ErrWeakPassword, "weak_password", 9, "use at least 12 characters, or several unrelated words"},
	{errProblems, "problems_found", 10, "check --repair mends what can be mended; rescue writes what is left of a file"},
	{vaultcore.ErrNewerSchema, "newer_version", 11, "this vault was used by a newer vaultdrive: install that version"},
	{vaultcore.ErrDeviceKey, "device_key", 12, "give the file that vaultdrive device enroll --device-key wrote"},
	{vaultcore.ErrNotEnrolled, "not_enrolled", 12, "vaultdrive device enroll stores a key for this device; the password works meanwhile"},
	{errKeyring, "keyring", 12, "use --device-key FILE where no keyring runs"},
	{errSyncOff, "sync_off", 50, "vaultdrive sync enable URL turns it on"},
	{vaultcore.ErrLedgerOff, "sync_off", 50, "vaultdrive sync enable URL turns it on"},
	{errRemoteOnly, "remote_only", 51, ""},
	{remote.ErrAddress, "bad_remote", 52, "file:///DIRECTORY or the path of one that is there, s3://BUCKET/PREFIX?endpoint=https://HOST&region=NAME, or https://HOST for a server"},
	{seal.ErrAddress, "bad_address", 52, "vaultdrive sync status on a device of the vault shows the address: vd1: and 80 characters"},
	{syncer.ErrNoVault, "no_vault_there", 53, "is it the right place? sync status on a device of the vault shows both remote and address"},
	{syncer.ErrIdentity, "other_identity", 54, ""},
	{syncer.ErrForeign, "foreign_remote", 54, "sync is stopped and nothing was changed: is it the right directory or bucket?"},
	{syncer.ErrOtherBytes, "remote_differs", 54, "another history of this vault lies there: was a copy of the vault used on two machines, or an old one put back?"},
	{vaultcore.ErrFork, "fork", 55, "a device was copied, or an old copy of it put back: nothing is written until that is settled"},
	{vaultcore.ErrLocalRollback, "local_rollback", 55, "this directory is an older copy, or one of two: unmount it, then vaultdrive device enroll --new-id makes it a device of its own, and nothing is lost"},
	{syncer.ErrInDoubt, "in_doubt", 64, "vaultdrive sync now, when the remote answers again, finds out; until then the vault is as it was"},
	{vaultcore.ErrNeedsRemote, "needs_remote", 64, "try again when the remote can be reached, or give it up with vaultdrive sync disable"},
	{vaultcore.ErrHeaderMoved, "header_moved", 64, "try again"},
	{seal.ErrPair, "bad_pairing", 66, "compare the code with what the new device shows; if it is right, somebody interferes at the remote"},
	{syncer.ErrNoPairing, "no_pairing", 66, "the code is good for 15 minutes after join --pair has shown it"},
	{vaultcore.ErrRevoked, "revoked", 65, "what this device holds stays readable; to use the vault here again, join it as a new device"},
	{vaultcore.ErrNewEpoch, "password_changed", 56, "give the new password once: vaultdrive passwd --accept, or the next mount"},
	{vaultcore.ErrUnknownDevice, "device_unknown", 57, ""},
	{vaultcore.ErrStaleEpoch, "stale_epoch", 57, ""},
	{vaultcore.ErrWithheld, "withheld", 57, "the remote does not show everything that devices put there: sync now --heal on each of them"},
	{vaultcore.ErrGap, "withheld", 57, "the remote does not show everything that devices put there: sync now --heal on each of them"},
	{seal.ErrNewer, "newer_version", 11, "another device uses a newer vaultdrive: install that version"},
	{vaultcore.ErrClock, "clock", 58, "set the clock of this machine, or of the other device"},
	{vaultcore.ErrNoItem, "item_deleted", 20, "copy it out of .vaultdrive/unverified, or delete it at the server with vaultdrive adopt --refuse"},
	{vaultcore.ErrNotFound, "not_found", 20, "vaultdrive ls shows what is there"},
	{vaultcore.ErrExist, "exists", 21, "choose another name"},
	{vaultcore.ErrNotEmpty, "not_empty", 22, "rm -r removes what is in it too"},
	{vaultcore.ErrIsDir, "is_directory", 23, ""},
	{vaultcore.ErrNotDir, "not_directory", 23, ""},
	{vaultcore.ErrName, "bad_name", 24, "names are valid UTF-8 without NUL"},
	{vaultcore.ErrNameTooLong, "name_too_long", 24, "a name has at most 255 bytes, a whole path in an asset 4,096 and 128 parts"},
	{vaultcore.ErrCrossAsset, "cross_asset", 25, "an asset stays an asset and a folder a folder: put a copy there, then remove the first"},
	{vaultcore.ErrPermission, "not_permitted", 26, "files live inside assets: make one with vaultdrive asset add TITLE"},
	{vaultcore.ErrReadOnlyDisk, "read_only_disk", 28, "the vault lies on a read-only disk: mount it with --read-only"},
	{vaultcore.ErrReadOnly, "read_only", 28, "it was opened with --read-only"},
	{vaultcore.ErrNoSpace, "no_space", 29, "free space on the disk; vaultdrive trash empty gives up what was deleted"},
	{vaultcore.ErrTooLarge, "too_large", 30, ""},
	{vaultcore.ErrQuota, "quota", 30, ""},
	{vaultcore.ErrDamaged, "damaged", 31, "vaultdrive check --deep names what is damaged; rescue --partial writes what can still be read"},
	{vaultcore.ErrTimeout, "timeout", 32, ""},
	{vaultcore.ErrBusy, "busy", 33, ""},
	{vaultcore.ErrInvalid, "invalid", 34, ""},
	{vaultcore.ErrNotSupported, "not_supported", 34, ""},
	{vaultcore.ErrDatabase, "database", 35, "look at the space and the health of the disk; if vault.db itself is damaged, put back a copy of the vault"},
	{syncer.ErrClock, "clock", 58, "set the clock of this machine"},
	{syncer.ErrDenied, "remote_denied", 59, "look at credentials and permissions"},
	{syncer.ErrUntrusted, "remote_untrusted", 59, "look at the address, at the date of this machine, and at who made the certificate: an authority of your own has to be known to this system"},
	{syncer.ErrNoStore, "remote_missing", 60, "is the directory mounted, does the bucket exist?"},
	{syncer.ErrFull, "remote_full", 61, "make room there; what is here stays here"},
	{syncer.ErrTooLarge, "remote_too_large", 61, "it stays on this device; everything else goes on"},
	{syncer.ErrBlocked, "transfers_blocked", 67, "vaultdrive sync status names each, and what to do about it; everything else goes on"},
	{syncer.ErrUnavailable, "remote_unavailable", 62, "nothing is lost: it goes on by itself when the remote answers"},
	{syncer.ErrNotFound, "remote_lacks", 63, "sync now --heal on the device that has it puts it back"},
	{syncer.ErrStartOver, "start_over", 63, ""},
	{iofs.ErrNotExist, "no_such_file", 20, ""},
	{iofs.ErrExist, "exists", 21, "choose another name"},
	{iofs.ErrPermission, "permission", 27, "only the owner of the vault's files can use it, and has to be able to write them: look at who owns it, at its permissions, and at those of the directories above it"},
	{syscall.EROFS, "read_only_file_system", 28, ""},
	{syscall.ENOSPC, "no_space", 29, "free space on the disk"},
	{fs.ErrPointMissing, "mount_point_missing", 40, "make the directory first"},
	{fs.ErrPointNotDir, "mount_point_not_directory", 40, "choose an empty directory"},
	{fs.ErrPointNotEmpty, "mount_point_not_empty", 40, "choose an empty directory, or move away what is in it"},
	{fs.ErrPointBusy, "mount_point_busy", 40, "something is mounted there: unmount it, or choose another directory"},
	{fs.ErrPointInVault, "mount_point_in_vault", 40, "choose a directory outside of the vault's own"},
	{fs.ErrVaultInPoint, "vault_in_mount_point", 40, "choose a directory that does not hold the vault"},
	{fs.ErrNoFUSE, "no_fuse", 41, "modprobe fuse; in a container pass --device /dev/fuse"},
	{fs.ErrNoHelper, "no_fusermount", 41, "install the package fuse3"},
	{fs.ErrFUSEDenied, "fuse_denied", 42, "chmod 666 /dev/fuse, as root, lets everybody mount, as the package fuse3 sets it up; in a container allow the device"},
	{fs.ErrAllowOther, "allow_other_denied", 42, "add the line user_allow_other to /etc/fuse.conf, or leave out --allow-other"},
	{fs.ErrPointDenied, "mount_denied", 42, "mount on a directory of your own; in a container allow CAP_SYS_ADMIN"},
	{fs.ErrMount, "mount_failed", 42, "the log of the mount and dmesg may say more"},
	{fs.ErrBusy, "mount_busy", 43, "close what uses it, or vaultdrive umount --lazy"},
	{errNotMounted, "not_mounted", 44, "vaultdrive status shows what is mounted"},
	{errDaemonLost, "daemon_lost", 45, "the log of the mount says why; every closed file is safe"},
	{errDaemonSilent, "daemon_silent", 45, "vaultdrive umount --lazy MOUNTPOINT takes the mount away; vaultdrive lock --force ends the process too"},
	{errDaemonOld, "daemon_old", 45, "it is another version: unmount and mount again"},
	{errForeignSocket, "foreign_socket", 46, ""},
	{errRuntimeDir, "runtime_dir", 46, "it must be a directory of yours with mode 0700"},
	{backup.ErrForeign, "foreign_backup", 71, "it is a backup of another vault, or the DID was mistyped"},
	{backup.ErrIncomplete, "incomplete_backup", 72, "backup create --missing goes on without them; prefetch them first where a remote has them"},
	{vaultcore.ErrUnlisted, "not_in_roster", 73, "the vault came back from a backup: sync enable enrolls its device, or device enroll --no-remote if no remote is left"},
	{metadb.ErrMoved, "server_moved", 80, "start the server there; serve migrate --undo makes this the server's place again"},
	{metadb.ErrHalfMoved, "server_half_moved", 80, "run vaultdrive serve migrate again: it goes on"},
	{move.ErrOccupied, "server_occupied", 81, "name a new database, and a bucket or prefix without objects under vaults/"},
	{metadb.ErrOccupied, "server_occupied", 81, "name a new database"},
	{move.ErrDamaged, "server_blobs_damaged", 82, "put them back from a backup of the server and run it again, or leave them out with --skip-damaged: devices that hold them bring them again"},
	{move.ErrDiffers, "server_differs", 83, "run it again; if it stays, the disk or the bucket loses what it is given"},
	{metadb.ErrInUse, "in_use", 6, "end the servers on it first"},
	{metadb.ErrDenied, "remote_denied", 59, "look at user and password in the database's address, and at who owns database and schema"},
	{metadb.ErrNoDatabase, "remote_missing", 60, "make it first: createdb --owner USER NAME"},
	{metadb.ErrUnavailable, "remote_unavailable", 62, "does PostgreSQL run, and is the address right?"},
	{metadb.ErrFull, "no_space", 29, "make room on the database's disk"},
	{metadb.ErrNewerSchema, "newer_version", 11, "the database was used by a newer vaultdrive: install that version"},
	{errNoAccount, "no_account", 49, "vaultdrive serve account list shows them"},
	{errSlowAES, "slow_aes", 48, "--slow-aes mounts all the same: slow, and its timing may tell something about keys"},
	{vaultcore.ErrClosed, "closed", 47, "the vault is being unmounted: try again"},
	{context.DeadlineExceeded, "timeout", 32, ""},
	{context.Canceled, "interrupted", 130, ""},
}

// failure puts an error into words for a person. The cause stays underneath
// for errors.Is.
type failure struct {
	cause error
	text  string
	hint  string
	// final says that it counts although the command was interrupted: an
	// interrupt is how a mount in the foreground ends.
	final bool
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// fail makes a failure of the kind of cause; the text must stand for itself,
// an empty hint means the one of the table.
func fail(cause error, hint, format string, args ...any) error {
	return &failure{cause: cause, text: fmt.Sprintf(format, args...), hint: hint}
}

func usage(format string, args ...any) error {
	return fail(errUsage, "", format, args...)
}

// rowOf finds the row that speaks for err.
func rowOf(err error) exitRow {
	for _, row := range exitTable {
		if errors.Is(err, row.err) {
			return row
		}
	}
	return exitRow{err: err, code: "internal", exit: exitUnknown}
}

// hintOf prefers the hint said where the failure was met: by a command, then
// by a remote.
func hintOf(err error) string {
	var f *failure
	if errors.As(err, &f) && f.hint != "" {
		return f.hint
	}
	if hint := blob.Hint(err); hint != "" {
		return hint
	}
	return rowOf(err).hint
}

// named puts the thing that is meant into an error that does not name it.
// What says that the process or the person went away is about no thing.
func named(err error, name string) error {
	if err == nil || strings.Contains(oneLine(err), name) {
		return err
	}
	if exit := rowOf(err).exit; exit == exitDaemon || exit == exitInterrupted {
		return err
	}
	return &failure{cause: err, text: name + ": " + oneLine(err), hint: hintOf(err)}
}

// hinted gives err a better hint than the table's.
func hinted(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &failure{cause: err, text: oneLine(err), hint: hint}
}

// exitCodeHelp lists the codes with the names of what they stand for.
func exitCodeHelp() string {
	names := map[int][]string{}
	for _, row := range exitTable {
		if !slices.Contains(names[row.exit], row.code) {
			names[row.exit] = append(names[row.exit], row.code)
		}
	}
	var b strings.Builder
	b.WriteString("Exit codes:\n  0  done\n  1  any other failure\n")
	for _, code := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(&b, "%3d  %s\n", code, strings.Join(names[code], ", "))
	}
	return b.String()
}

// report says what went wrong and returns the exit code.
func (u *ui) report(err error) int {
	if err == nil {
		return 0
	}
	row := rowOf(err)
	u.note("error: %s", escapeName(oneLine(err)))
	if hint := hintOf(err); hint != "" {
		u.note("hint: %s", escapeName(hint))
	}
	return row.exit
}

// wireError is how a failure travels from the daemon to a command.
type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func toWire(err error) *wireError {
	return &wireError{Code: rowOf(err).code, Message: oneLine(err), Hint: hintOf(err)}
}

// fromWire gives back an error of the same kind, so that a command ends alike
// whether the vault is mounted or not.
func (w *wireError) fromWire() error {
	for _, row := range exitTable {
		if row.code == w.Code {
			return &failure{cause: row.err, text: w.Message, hint: w.Hint}
		}
	}
	return &failure{cause: errors.New(w.Code), text: w.Message, hint: w.Hint}
}
