package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// Calls about the remote and what other devices did; see api.go.
const (
	callSyncEnable   = "sync/enable"
	callSyncDisable  = "sync/disable"
	callSyncNow      = "sync/now"
	callSyncStatus   = "sync/status"
	callSyncWait     = "sync/wait"
	callConflicts    = "conflicts"
	callConflictKeep = "conflicts/keep"
	callPin          = "pin"
	callUnpin        = "unpin"
	callPins         = "pins"
	callPrefetch     = "prefetch"
	callEvict        = "evict"
	callUnverified   = "unverified"
	callAdopt        = "adopt"
)

// accessKeys are credentials of a bucket: keys, or where they are.
type accessKeys struct {
	AccessKey    string `json:"access_key,omitempty"`
	SecretKey    string `json:"secret_key,omitempty"`
	SessionToken string `json:"session_token,omitempty"`
	File         string `json:"file,omitempty"`
	Profile      string `json:"profile,omitempty"`
	Invite       string `json:"invite,omitempty"` // to a server; used once
}

// secret says that the keys themselves are in it.
func (a *accessKeys) secret() bool { return a != nil && a.SecretKey != "" }

func (a *accessKeys) options() s3.Options {
	return s3.Options{AccessKey: a.AccessKey, SecretKey: a.SecretKey, SessionToken: a.SessionToken,
		CredentialsFile: a.File, Profile: a.Profile}
}

// syncEnableRequest makes a remote the vault's. What is nil stays as it was.
type syncEnableRequest struct {
	URL       string      `json:"url"`    // empty: the one it had
	Device    string      `json:"device"` // name of this device, where it has none yet
	Named     bool        `json:"named"`  // and somebody has chosen it
	Prefetch  *string     `json:"prefetch,omitempty"`
	UpLimit   *int64      `json:"up_limit,omitempty"`
	DownLimit *int64      `json:"down_limit,omitempty"`
	Metered   *bool       `json:"metered,omitempty"`
	CacheSize *int64      `json:"cache_size,omitempty"`
	Access    *accessKeys `json:"access,omitempty"` // for this process
	Keep      bool        `json:"keep"`             // and sealed in the vault
	// Password enrolls the device of a vault that came back from a backup; asked
	// for only then.
	Password []byte `json:"password,omitempty"`
}

// settings gives what the vault is to keep. Error: errUsage without an address.
func (in *syncEnableRequest) settings(old vaultcore.RemoteSettings, known bool) (vaultcore.RemoteSettings, error) {
	next := old
	switch {
	case in.URL == "" && !known:
		return next, usage("sync enable takes the address of the remote")
	case in.URL != "" && in.URL != old.URL:
		next.URL, next.Access = in.URL, nil
	}
	if !old.Enabled || next.URL != old.URL {
		next.ID = vaultcore.RemoteSettings{}.ID // whatever the place says now
	}
	if next.Boot == "" {
		next.Boot = newBootToken()
	}
	if in.Access != nil && (in.Keep || !in.Access.secret()) {
		b, err := json.Marshal(in.Access)
		if err != nil {
			return next, fmt.Errorf("credentials: %w", err)
		}
		next.Access = b
	}
	set(&next.Prefetch, in.Prefetch)
	set(&next.UpLimit, in.UpLimit)
	set(&next.DownLimit, in.DownLimit)
	set(&next.Metered, in.Metered)
	set(&next.CacheSize, in.CacheSize)
	next.Enabled = true
	return next, nil
}

func set[T any](at *T, value *T) {
	if value != nil {
		*at = *value
	}
}

// syncNowRequest asks for agreement at once.
type syncNowRequest struct {
	Heal   bool        `json:"heal"`
	Access *accessKeys `json:"access,omitempty"` // where the process has none
}

// syncWaitRequest waits until contents are confirmed on the remote: those of
// files and of all files below directories; none is everything.
type syncWaitRequest struct {
	Paths []string `json:"paths,omitempty"`
}

// adoptRequest decides about what is unverified.
type adoptRequest struct {
	Paths     []string `json:"paths,omitempty"` // or ids
	All       bool     `json:"all,omitempty"`
	Deletions bool     `json:"deletions,omitempty"` // of those alone
	Refuse    bool     `json:"refuse,omitempty"`
}

// adoptAnswer is what became of one of them.
type adoptAnswer struct {
	vaultcore.Adopted
	Error *wireError `json:"error,omitempty"`
}

// stateDisabled is the state of a vault whose synchronisation is off.
const stateDisabled syncer.State = "disabled"

// syncView is what sync status shows.
type syncView struct {
	Address   string             `json:"address"` // what join takes; empty before sync was ever enabled, and while it is not known here
	Remote    string             `json:"remote"`
	Enabled   bool               `json:"enabled"`
	Moved     string             `json:"moved_from,omitempty"` // of sync enable: the remote of before, if it was another one
	Kept      bool               `json:"credentials_kept"`
	Prefetch  string             `json:"prefetch"`
	UpLimit   int64              `json:"up_limit"`
	DownLimit int64              `json:"down_limit"`
	Metered   bool               `json:"metered"`
	Cache     vaultcore.CacheUse `json:"cache"` // contents on this device
	// RemoteOnly counts contents that are not on this device as a whole.
	RemoteOnly int `json:"remote_only"`
	// Unverified and Deletions wait for vaultdrive adopt.
	Unverified int `json:"unverified"`
	Deletions  int `json:"deletions_asked"`
	// Healed is what sync now --heal did.
	Healed *syncer.Healed `json:"healed,omitempty"`
	// Queue is how much is left to do: changes to publish, batches, transfers.
	Queue int `json:"queue"`
	syncer.Status
	// Devices takes the place of the engine's, which knows no names.
	Devices []vaultcore.DeviceInfo `json:"devices"`
}

// complete derives what is derived, and leaves no list null.
func (v *syncView) complete() {
	v.Queue = v.Unsealed + v.Unpushed + v.Saves + v.Up.Count + v.Down.Count
	if v.Prefetch == "" {
		v.Prefetch = string(syncer.PrefetchAll)
	}
	notNil(&v.Waiting)
	notNil(&v.Blocked)
	notNil(&v.Conditions)
	notNil(&v.Devices)
}

func notNil[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// syncBrief is the part of it that status shows.
type syncBrief struct {
	Remote  string       `json:"remote"`
	State   syncer.State `json:"state"`
	Queue   int          `json:"queue"`
	Contact time.Time    `json:"last_contact,omitzero"`
}

// waitedAnswer says what sync/wait has waited for.
type waitedAnswer struct {
	Uploaded bool `json:"uploaded"` // false: synchronisation is off
}

type pathsRequest struct {
	Paths []string `json:"paths"`
}

// fetchedAnswer says what prefetch has brought here.
type fetchedAnswer struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// keepRequest settles a conflict.
type keepRequest struct {
	Path string         `json:"path"`
	How  vaultcore.Keep `json:"how"`
}
