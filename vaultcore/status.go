package vaultcore

import (
	"github.com/vaultdrive/vaultdrive/cache"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Status is the state of an open vault.
type Status struct {
	Vault      string         `json:"vault"`
	Label      string         `json:"label"`
	Home       string         `json:"home"`
	Device     string         `json:"device"`
	DID        string         `json:"did"`
	Epoch      uint32         `json:"epoch"`
	Write      string         `json:"write"`
	ReadOnly   bool           `json:"read_only"`
	Enrolled   bool           `json:"enrolled"`
	Assets     int            `json:"assets"`
	Folders    int            `json:"folders"`
	Files      int            `json:"files"`
	Bytes      int64          `json:"bytes"`
	Conflicts  int            `json:"conflicts"`       // shown beside what has their name
	Unverified int            `json:"unverified"`      // what no device has signed, at a server of ours
	Deletions  int            `json:"deletions_asked"` // by clients of it that have no log
	Trash      int            `json:"trash"`
	TrashBytes int64          `json:"trash_bytes"`
	Drafts     int            `json:"drafts"`
	Waiting    int            `json:"drafts_waiting"` // of them: closed, and their file is not here as a whole
	Away       int            `json:"files_elsewhere"`
	Cache      CacheUse       `json:"cache"`
	Dirty      int            `json:"dirty"`
	Queued     int            `json:"queued"`
	Commit     uint64         `json:"commit"`
	Barrier    uint64         `json:"barrier"`
	InRows     int64          `json:"bytes_in_rows"`
	Rewrap     *rewrapCount   `json:"rewrap,omitempty"`
	KeyCache   cache.Counters `json:"key_cache"`
	KeysLocked bool           `json:"keys_locked_in_memory"`
	Swap       bool           `json:"unencrypted_swap"`
	Alarms     []string       `json:"alarms"`
}

// Status tells how the vault is. Dirty counts what a remote would still have
// to be told; without a remote nothing is queued.
func (v *Vault) Status() Status {
	h := v.keys.header()
	s := Status{
		Vault: v.keys.vaultID().UUID(), Label: v.home.Label(), Home: v.home.Path(), Device: v.keys.deviceID().UUID(),
		DID: h.DID, Epoch: h.Epoch, Write: h.Write, ReadOnly: v.opt.ReadOnly, Enrolled: v.keys.enrolled(),
		KeyCache: v.fileKeys.Counters(), KeysLocked: v.keys.locked(), Swap: UnencryptedSwap(), Alarms: v.alarms(),
		Rewrap: v.rewrap.progress.Load(),
	}
	if v.com != nil {
		s.Commit, s.Barrier = v.com.last.Load(), v.com.durable.Load()
	}
	v.fresh.mu.Lock()
	s.InRows = v.fresh.bytes
	v.fresh.mu.Unlock()
	s.Cache = v.CacheUse()
	s.Unverified, s.Deletions = v.CountUnverified()
	states := v.openStates()
	for _, o := range states {
		o.mu.RLock()
		if o.draft != nil {
			s.Drafts++
		}
		if o.waits {
			s.Waiting++
		}
		o.mu.RUnlock()
	}
	v.tree.RLock()
	defer v.tree.RUnlock()
	s.Assets, s.Folders, s.Files, s.Bytes = v.counts.assets, v.counts.folders, v.counts.files, v.counts.bytes
	v.walk(v.root, func(n *Node) {
		if n.dirty != 0 || n.has(flagAttrs) {
			s.Dirty++
		}
		if n.kind == KindFile && n.content != nil && n.content.place.Load() == placeElsewhere {
			s.Away++
		}
		if _, ok := v.suffixed(n); ok {
			s.Conflicts++
		}
	})
	for _, t := range v.trash {
		if !t.node.isDir() {
			s.Trash++
			s.TrashBytes += t.node.size
		}
	}
	if s.Alarms == nil {
		s.Alarms = []string{}
	}
	if s.Swap {
		s.Alarms = append(s.Alarms, "swap is not encrypted: what is open may reach the disk in clear")
	}
	return s
}

// VaultID is the vault's id.
func (v *Vault) VaultID() seal.ID { return v.keys.vaultID() }

// DID is the vault's identity.
func (v *Vault) DID() string { return v.keys.header().DID }

// Home is the vault's directory.
func (v *Vault) Home() string { return v.home.Path() }

// Label is the vault's local name.
func (v *Vault) Label() string { return v.home.Label() }
