package main

import (
	"encoding/json"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// The socket speaks HTTP: POST /v1/<call> takes and gives one JSON value, or
// gives frames, one a line, when an answer is long or takes time. Contents
// travel as bodies. A command whose vault is not mounted talks the same
// language to a server inside its own process, so both print the same.
const (
	apiPrefix = "/v1/"

	callPing         = "ping"
	callStatus       = "status"
	callStat         = "stat"
	callList         = "list"
	callRemove       = "remove"
	callMove         = "move"
	callMkdir        = "mkdir"
	callSymlink      = "symlink"
	callReadlink     = "readlink"
	callAttrs        = "attrs"
	callAssetAdd     = "asset/add"
	callAssetRename  = "asset/rename"
	callAssetRemove  = "asset/remove"
	callTrash        = "trash"
	callTrashRestore = "trash/restore"
	callTrashEmpty   = "trash/empty"
	callCheck        = "check"
	callRescueList   = "rescue"
	callEvents       = "events"
	callBarrier      = "barrier"
	callPassword     = "password"
	callAccept       = "password/accept"
	callRefuse       = "password/refuse"
	callKit          = "kit"
	callKitRestore   = "kit-restore"
	callEnroll       = "device/enroll"
	callUnenroll     = "device/unenroll"
	callDevices      = "device/list"
	callNewID        = "device/new-id"
	callEnlist       = "device/enlist"
	callApprove      = "device/approve"
	callRevoke       = "device/revoke"
	callUnmount      = "unmount"

	callBackup   = "backup"   // GET ?name=&missing=
	callLost     = "lost"     // POST; PUT ?blob= takes one of them
	callIdentity = "identity" // vault and DID

	callContent       = "content"        // GET and PUT ?path=
	callTrashContent  = "trash/content"  // GET ?id=
	callRescueContent = "rescue/content" // GET ?ref=&partial=
)

// Headers of a content's answer and of a content sent.
const (
	headerSize  = "Vaultdrive-Size"  // bytes; missing when not known before
	headerMode  = "Vaultdrive-Mode"  // octal
	headerMtime = "Vaultdrive-Mtime" // nanoseconds since the epoch
	// headerMissing lists what a backup goes without: JSON, quoted as in Go.
	headerMissing = "Vaultdrive-Missing"
	// trailerEnd closes a content: "ok", or a wireError as JSON. Without it
	// the answer was cut off.
	trailerEnd = "Vaultdrive-End"
	endOK      = "ok"
)

// frame is one line of a long answer. Items and progress come in any number;
// the last frame has End or Error, and a stream without it was cut off.
type frame struct {
	Item  json.RawMessage `json:"item,omitempty"`
	Done  int64           `json:"done,omitempty"`
	Total int64           `json:"total,omitempty"`
	Stage string          `json:"stage,omitempty"`
	Error *wireError      `json:"error,omitempty"`
	End   bool            `json:"end,omitempty"`
}

type none struct{}

type pathRequest struct {
	Path      string `json:"path"`
	Recursive bool   `json:"recursive,omitempty"`
	Parents   bool   `json:"parents,omitempty"`
	Target    string `json:"target,omitempty"`
	Replace   bool   `json:"replace,omitempty"`
}

type attrsRequest struct {
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"`
	Mtime int64  `json:"mtime"` // ns since the epoch
}

type moveRequest struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type assetRequest struct {
	Title string `json:"title"`
	Type  string `json:"type"`
}

type pathAnswer struct {
	Path string `json:"path"`
}

type targetAnswer struct {
	Target string `json:"target"`
}

type idsRequest struct {
	IDs []string `json:"ids"`
}

type emptiedAnswer struct {
	Removed int   `json:"removed"`
	Bytes   int64 `json:"bytes"`
}

type checkRequest struct {
	Deep   bool `json:"deep"`
	Repair bool `json:"repair"`
}

type eventsRequest struct {
	After int64 `json:"after"`
	Max   int   `json:"max"`
}

// passwordRequest carries passwords as bytes, so that they can be wiped.
type passwordRequest struct {
	Old []byte `json:"old,omitempty"`
	New []byte `json:"new,omitempty"`
	// Raise asks for the default costs where the vault has lower ones.
	Raise bool `json:"raise,omitempty"`
	// Access is for a process that has no credentials of the remote.
	Access *accessKeys `json:"access,omitempty"`
}

// kitRequest sets a new password by the recovery kit.
type kitRequest struct {
	Secret []byte      `json:"secret"`
	DID    string      `json:"did,omitempty"` // on the paper
	New    []byte      `json:"new"`
	Access *accessKeys `json:"access,omitempty"` // as in passwordRequest
}

// deviceRequest is about other devices of the vault.
type deviceRequest struct {
	Password []byte      `json:"password,omitempty"`
	Devices  []string    `json:"devices,omitempty"` // ids
	Code     string      `json:"code,omitempty"`    // of a pairing
	Name     string      `json:"name,omitempty"`    // of a device that gets a new identity
	Host     string      `json:"host,omitempty"`    // what it is called if nobody says, and nobody else is
	Access   *accessKeys `json:"access,omitempty"`
}

// pingAnswer says of which home a process has the vault: a copy has the same socket.
type pingAnswer struct {
	Home string `json:"home,omitempty"`
}

type textAnswer struct {
	Text string `json:"text"`
}

// keyAnswer is a device key as text, in bytes that can be wiped.
type keyAnswer struct {
	Key []byte `json:"key"`
}

// unmountRequest ends a mount. Busy, it fails, unless Lazy (programs keep what
// they have open) or Force (they lose it).
type unmountRequest struct {
	Lazy  bool `json:"lazy"`
	Force bool `json:"force"`
	// Upload is how long to go on uploading, in ns.
	Upload time.Duration `json:"upload"`
}

// leftBehind is what the remote has not got when a vault is closed. It is safe
// here.
type leftBehind struct {
	Changes int   `json:"changes"` // in no batch there
	Files   int   `json:"files"`   // contents
	Bytes   int64 `json:"bytes"`   // of them
	Online  bool  `json:"online"`  // the remote answered at the end
	// Why, if a condition is in the way, says what and what to do.
	Why  string `json:"why,omitempty"`
	Hint string `json:"hint,omitempty"`
}

// statusView is what status shows: the vault's own account of itself and what
// only the process that has it open knows.
type statusView struct {
	vaultcore.Status
	State      string    `json:"state"` // mounted, unmounting (open files are left), or open
	PID        int       `json:"pid"`
	MountPoint string    `json:"mountpoint"`
	MountAsset string    `json:"mount_asset,omitempty"`
	Since      time.Time `json:"since"`
	Log        string    `json:"log,omitempty"`
	Version    string    `json:"version"`
	// Sync is nil while synchronisation is off.
	Sync *syncBrief `json:"sync,omitempty"`
}

// lockedView is status of a vault that nobody has open: what needs a key is
// null, not zero.
type lockedView struct {
	Vault      string   `json:"vault"`
	Label      string   `json:"label"`
	Home       string   `json:"home"`
	State      string   `json:"state"` // locked, or dead: its mount's process died
	PID        int      `json:"pid"`
	MountPoint string   `json:"mountpoint"`
	Log        string   `json:"log,omitempty"`
	Dirty      *int     `json:"dirty"`
	Queued     *int     `json:"queued"`
	Enrolled   bool     `json:"enrolled"`
	Swap       bool     `json:"unencrypted_swap"`
	Alarms     []string `json:"alarms"`
}
