package syncer

import (
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Errors of a remote. Those of stores are the stores' own values, so that they
// pass through unchanged; blob.Hint says what a person can do about one, and
// blob.RetryAfter when to come back.
var (
	// ErrNotFound: no object or blob of that name.
	ErrNotFound = blob.ErrNotFound
	// ErrUnavailable: not now. Back off and ask again.
	ErrUnavailable = blob.ErrUnavailable
	// ErrNoStore: no such bucket, directory not mounted, marker gone. With
	// ErrUnavailable.
	ErrNoStore = blob.ErrNoStore
	// ErrDenied: credentials or permissions. Asking again changes nothing.
	ErrDenied = blob.ErrDenied
	// ErrUntrusted: who answers cannot prove to be the remote. With
	// ErrUnavailable.
	ErrUntrusted = blob.ErrUntrusted
	// ErrFull: no space, or the quota is used up. Reading goes on.
	ErrFull = blob.ErrNoSpace
	// ErrTooLarge: this one thing is too large for the remote; others are not.
	ErrTooLarge = blob.ErrTooLarge
	// ErrClock: our clock differs too much from the remote's.
	ErrClock = blob.ErrClock
	// ErrOtherBytes: the name is taken, by other bytes.
	ErrOtherBytes = errors.New("the remote has other bytes under that name")
	// ErrForeign: the place belongs to another vault, or to another remote of
	// this one. Sync stops until the user decides.
	ErrForeign = errors.New("the remote belongs to another vault")
	// ErrStartOver: the cursor is too old; load the newest checkpoint.
	ErrStartOver = errors.New("the remote no longer keeps what the cursor needs")
	// ErrBlocked: contents that are not transferred before a person has put right
	// what is in their way; the status names each. Others go on.
	ErrBlocked = errors.New("some contents do not go on by themselves")
	// ErrBehind: other devices have published what the writer of rows had not
	// applied. Pull, and write what is right then.
	ErrBehind = errors.New("other devices have published more")
	// ErrStale: the row has changed since it was read. As ErrBehind.
	ErrStale = errors.New("the row has changed at the remote")
	// ErrNoParent, ErrNoBlob: what a row names is not at the remote. With
	// ErrNotFound.
	ErrNoParent = fmt.Errorf("asset: %w", ErrNotFound)
	ErrNoBlob   = fmt.Errorf("content: %w", ErrNotFound)
	// ErrKey: not a key, id or cursor of this contract. A bug of the caller.
	ErrKey = blob.ErrKey
)
