package vaultcore

import "errors"

// The vocabulary of failures that every layer above sees. Causes are wrapped
// with %w; callers use errors.Is, never the text.
var (
	// ErrNotFound: no such asset, folder, file, trash entry or row.
	ErrNotFound = errors.New("not found")
	// ErrExist: the name is taken.
	ErrExist = errors.New("already exists")
	// ErrNotEmpty: the directory still holds something.
	ErrNotEmpty = errors.New("directory not empty")
	// ErrIsDir: a file was asked for and a directory is there.
	ErrIsDir = errors.New("is a directory")
	// ErrNotDir: a directory was asked for and something else is there.
	ErrNotDir = errors.New("not a directory")
	// ErrName: the name is not valid UTF-8 or holds a byte no name may hold.
	ErrName = errors.New("name is not valid UTF-8")
	// ErrNameTooLong: a component above 255 bytes, or a whole name above 4,096 or of
	// more than 128 components.
	ErrNameTooLong = errors.New("name too long")
	// ErrNoSpace: the disk cannot hold what is written, sealed whole.
	ErrNoSpace = errors.New("no space left on the disk of the vault")
	// ErrTooLarge: the file would pass the largest size that can be sealed.
	ErrTooLarge = errors.New("file too large")
	// ErrQuota: the remote is known to be full.
	ErrQuota = errors.New("remote quota exceeded")
	// ErrCrossAsset: an asset cannot become a folder nor a folder an asset.
	ErrCrossAsset = errors.New("assets and folders cannot change into each other")
	// ErrPermission: the vault refuses this kind of thing in this place.
	ErrPermission = errors.New("operation not permitted")
	// ErrReadOnly: the vault, or the file, is open for reading only.
	ErrReadOnly = errors.New("read-only")
	// ErrInvalid: the arguments contradict each other.
	ErrInvalid = errors.New("invalid argument")
	// ErrDamaged: a content or row cannot be authenticated, or is lost.
	ErrDamaged = errors.New("damaged")
	// ErrTimeout: a network wait passed its deadline.
	ErrTimeout = errors.New("timed out")
	// ErrInterrupted: a signal ended a wait for a network.
	ErrInterrupted = errors.New("interrupted")
	// ErrStale: the file was replaced or deleted since it was looked up.
	ErrStale = errors.New("the file is another one now")
	// ErrBusy: the thing is in use.
	ErrBusy = errors.New("in use")
	// ErrNotSupported: not offered by this kind of drive.
	ErrNotSupported = errors.New("not supported")
	// ErrNewerSchema: the database was written by a newer version.
	ErrNewerSchema = errors.New("vault database is of a newer version")
	// ErrClosed: the vault is locked or closing.
	ErrClosed = errors.New("vault is closed")
	// ErrDatabase: SQLite refused; the cause is wrapped beside it.
	ErrDatabase = errors.New("vault database")
)
