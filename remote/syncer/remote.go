// Package syncer makes a vault and its remote agree. Here is what it asks of a
// remote: the contract, its vocabulary and the keys.
//
// It refuses to know HTTP, FUSE and SQL, and what a remote is made of.
package syncer

import (
	"context"
	"io"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Remote is the other place of one vault: a directory, a bucket, or a server.
// It is blind: ids, parent ids and types, sizes, counts and times are all it
// sees.
//
// All methods may be called at any time from any goroutine, and end soon after
// their context does; they do not try again by themselves. Errors are those of
// errors.go, in the chain. What a remote answers is untrusted: a caller checks
// headers and batches by signature and blobs by hash, and nothing that is
// missing, empty or refused ever means that something was deleted. Every call
// may be repeated after any error; what was done already is done once.
//
// With another vault's marker in the place of this one's, all methods but Caps
// answer ErrForeign and change nothing.
type Remote interface {
	// Caps says what this remote can do. It may ask the remote the first time.
	Caps(ctx context.Context) (Caps, error)

	// Changes says what came after cursor, nil for everything. It waits for
	// something new up to wait if Caps.Wait allows, else it answers at once.
	// wait = Reconcile looks at everything itself and believes no doorbell: at
	// start, every 15 minutes, and for `sync now`.
	//
	// What is reported may be reported again, and in any order but that of one
	// chain. Numbers may be missing between those of a chain: batches that were
	// collected under a checkpoint, or that are lost. After an error, and until
	// the changes are stored, go on with the old cursor. ErrStartOver: the cursor
	// is older than what the remote keeps.
	Changes(ctx context.Context, cursor []byte, wait time.Duration) (Changes, error)

	// Get reads a small object: the keys of keys.go. ErrNotFound if it is not
	// there, or not yet to be believed; ErrTooLarge if it is longer than its
	// kind allows.
	Get(ctx context.Context, key string) ([]byte, error)

	// Put stores a small object once and for all. The same bytes again are
	// success, others are ErrOtherBytes and leave alone what is there: for a
	// header somebody was faster, for a batch of ours our history has forked. On
	// nil the bytes are durable there. After another error they may or may not
	// have arrived, whole.
	//
	// On a remote without Caps.CreateOnly a header takes HeaderPause.
	Put(ctx context.Context, key string, content []byte) error

	// PutBlob stores a blob, all or nothing, as Put does: the same bytes again
	// are success, others ErrOtherBytes. content must not change meanwhile. On
	// an error, parts that arrived stay for the next attempt, which is given
	// what Save was given last.
	PutBlob(ctx context.Context, up Upload, content io.ReaderAt) error

	// GetBlob reads n bytes of a blob from offset off, n < 0 meaning all that
	// follow. Beyond the end there is nothing. ErrNotFound here, not at the
	// first Read. The caller closes. The body ends with an error if it is cut.
	GetBlob(ctx context.Context, blob string, off, n int64) (io.ReadCloser, error)

	// StatBlobs gives the length of each blob in bytes, Missing for one that is
	// not there. One error fails all.
	StatBlobs(ctx context.Context, blobs []string) ([]int64, error)

	// Settle makes known what was put since the last time, and then does the
	// housekeeping it is given. Put and PutBlob make known by themselves too,
	// but at most once a second, so a round of pushes ends with Settle. After an
	// error part of it may be done.
	Settle(ctx context.Context, s Settlement) (Settled, error)
}

const (
	// Reconcile is the wait that asks Changes to look at everything.
	Reconcile time.Duration = -1
	// Missing is the length of a blob that is not there.
	Missing int64 = -1
	// HeaderPause is how long a header is not believed on a remote that cannot
	// refuse a second writer.
	HeaderPause = 30 * time.Second
)

// Caps are the abilities of a remote, found out when sync is enabled and kept as
// JSON. The zero value is the least a remote can be.
type Caps struct {
	Version    int           `json:"v"`
	CreateOnly bool          `json:"create_only"`          // it refuses to write over something
	Swap       bool          `json:"swap"`                 // it replaces only the content one has seen
	Range      bool          `json:"range"`                // it reads from the middle
	Delete     bool          `json:"delete"`               // what is deleted is gone
	Wait       time.Duration `json:"wait,omitempty"`       // longest wait of Changes, ns
	MaxBlob    int64         `json:"max_blob,omitempty"`   // bytes; 0: no limit known
	PartMin    int64         `json:"part_min,omitempty"`   // bytes of every part but the last
	PartMax    int64         `json:"part_max,omitempty"`   // bytes; 0: no parts, every blob in one piece
	MaxParts   int           `json:"max_parts,omitempty"`  // of one blob
	Parallel   int           `json:"parallel,omitempty"`   // parts at a time
	Encryption []int         `json:"encryption,omitempty"` // versions it takes; none: all
	Login      bool          `json:"login,omitempty"`      // it shows the log only to devices of the vault
	Rows       bool          `json:"rows,omitempty"`       // it keeps rows for clients that read no log
	Folder     bool          `json:"folder,omitempty"`     // a directory that other programs may fill too, in any order
}

// Kind says what a change is about.
type Kind int

const (
	// KindHeader: header Seq is there.
	KindHeader Kind = iota + 1
	// KindBatch: batch Seq of Device is there.
	KindBatch
	// KindBlob: the blob is there now. Without Blob: some came, ask for those
	// you wait for.
	KindBlob
	// KindCheckpoint: the checkpoint Name by Device is complete.
	KindCheckpoint
	// KindRow: the remote says something new of an attachment or an asset. That is
	// its own word, and nobody's else.
	KindRow
)

// Row is what a remote with Caps.Rows says of an attachment or an asset.
type Row = vaultcore.ServerRow

// Change is one thing that is new on the remote.
type Change struct {
	Kind   Kind
	Device string // author; of a batch and a checkpoint
	Seq    uint64 // number of a header or batch; author's last batch of a checkpoint
	Blob   string
	Name   string // of a checkpoint
	Row    *Row
}

// Changes is what Changes answers.
type Changes struct {
	List []Change
	// Gone is what the cursor says was there and is not any more: the remote was
	// put back from a copy, or lost something. Only Reconcile finds out, and does
	// so again until it is back. It is never a deletion.
	Gone []Change
	Next []byte // opaque; the cursor for the next call
	More bool   // there is more already: ask again at once
	// Clock is the time by the remote's clock when it answered, and At the time
	// by ours; both zero if it does not say.
	Clock, At time.Time
}

// Upload says which blob is sent and how far it came.
type Upload struct {
	Blob   string   // 32 lower-case hex digits
	Size   int64    // bytes
	SHA256 [32]byte // of all bytes
	// Again: an earlier attempt ended in doubt, so look before sending.
	Again bool
	// State is what Save was given last, nil at first.
	State []byte
	// Save keeps a small state durably, so that an upload in parts can go on
	// after the process ended; nil forgets it. Its error ends the attempt. May be
	// nil. It is called from one goroutine at a time.
	Save func(state []byte) error
	// Sent is told of every part that arrived, in bytes. May be nil; called from
	// any goroutine.
	Sent func(bytes int64)
	// Row is written in one step with the blob, if the remote lets it; nil for bytes
	// alone. Cursor is that of a Settlement. Only for a remote with Caps.Rows.
	Row    *Row
	Cursor []byte
	// Wrote is told what became of Row, before PutBlob returns without an error.
	// Without a word of it the changes will tell.
	Wrote func(RowResult)
}

// Settlement is the housekeeping for Settle. The zero value asks for none.
type Settlement struct {
	// Done are pair keys that served or are too old.
	Done []string
	// False are keys of headers, batches, parts of checkpoints and blobs, these as
	// "blobs/<id>.bin", that are not what was put there. Whoever asks holds the true
	// bytes and puts them next. Only for a remote with Caps.Delete.
	False []string
	// Collect asks a remote without a mind of its own to remove what nobody
	// needs. Never with a chain held, forked or incomplete, and only right after
	// everything was applied.
	Collect *Collection
	// Release are blobs that the server may put into its trash. Stores without
	// one ignore it: there Collect finds them.
	Release []string
	// Claim are blobs to be had back from that trash.
	Claim []string
	// Rows are written as far as the remote lets each be, at most RowsAtOnce;
	// Cursor says how far the writer had applied the changes. Only for a remote
	// with Caps.Rows. ErrBehind: others have said more since, and none is written.
	Rows   []Row
	Cursor []byte
}

// RowsAtOnce bounds the rows of one settlement.
const RowsAtOnce = 500

// RowResult says what became of a row.
type RowResult struct {
	Number int64 // the remote's counter for it, if it was written
	// Refused: ErrStale if it is not the row that was read, ErrNoParent or
	// ErrNoBlob if what it names is not there, else why.
	Refused error
}

// Collection says what is still needed. It runs at most once a day, whoever
// asks; in between it does nothing.
type Collection struct {
	// Named says that a live tip or an entry of the trash names the blob, or
	// that an upload of it waits here. What is not named becomes a candidate, and
	// goes if it is still not named a week later.
	Named func(blob string) bool
	// Heads are those of the base checkpoint: batches below them go, each head
	// itself stays.
	Heads map[string]uint64
	// Checkpoints are names of checkpoints older than the base.
	Checkpoints []string
}

// Settled says what Settle did.
type Settled struct {
	Collected  bool        // a collection ran now
	Candidates int         // blobs that may go in a week
	Removed    int         // objects
	Freed      int64       // bytes
	Rows       []RowResult // one for each of the settlement, in its order
	Unclaimed  []string    // blobs that are not to be had back
}
