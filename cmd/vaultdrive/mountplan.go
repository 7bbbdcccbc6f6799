package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// mountPlan is all a mount is told, as it travels to the process that runs it.
// It holds no secret.
type mountPlan struct {
	Home       string   `json:"home"`
	MountPoint string   `json:"mountpoint"`
	Source     string   `json:"source"` // what mount(8) and findmnt show
	ReadOnly   bool     `json:"read_only"`
	AllowOther bool     `json:"allow_other"`
	XAttr      bool     `json:"xattr"`
	Strict     bool     `json:"strict"`
	Asset      string   `json:"asset"`
	Scratch    []string `json:"scratch"`
	DebugAddr  string   `json:"debug_addr,omitempty"`
	// Backup is the file of a backup to mount instead of Home, and DID what it
	// has to be of, if that is known.
	Backup string `json:"backup,omitempty"`
	DID    string `json:"did,omitempty"`
}

func (p *mountPlan) vaultOptions() vaultcore.Options {
	return vaultcore.Options{ReadOnly: p.ReadOnly, Strict: p.Strict, Scratch: p.Scratch}
}

// logPath is where the mount of this vault keeps its log.
func (p *mountPlan) logPath(home vaultHome) string {
	return filepath.Join(stateDir(), home.slot()+".log")
}

// setDurability takes the value of --durability.
func (p *mountPlan) setDurability(value string) error {
	switch value {
	case "strict":
		p.Strict = true
	case "normal", "":
		p.Strict = false
	default:
		return usage("durability %q: it is strict or normal", value)
	}
	return nil
}

// mountOptions are the values of -o: those of the plan, where the password is,
// and whom the mount shall belong to (fstab).
type mountOptions struct {
	plan     *mountPlan
	password *passwordSource
	owner    string
	slowAES  *bool
	sloppy   bool // ignore what nobody knows, as mount -s
}

// optionList is what -o takes, beside what fstab has for everybody.
const optionList = "ro, rw, allow_other, xattr, asset=, durability=, scratch=, password-file=, password-command=, device-key=, slow-aes, setuid="

// apply takes one -o value: options between commas, where \, is a comma.
func (o *mountOptions) apply(list string) error {
	for _, option := range splitOptions(list) {
		key, value, _ := strings.Cut(option, "=")
		if err := o.set(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (o *mountOptions) set(key, value string) error {
	switch key {
	case "ro":
		o.plan.ReadOnly = true
	case "rw":
		o.plan.ReadOnly = false
	case "allow_other":
		o.plan.AllowOther = true
	case "xattr":
		o.plan.XAttr = true
	case "asset":
		o.plan.Asset = value
	case "durability":
		return o.plan.setDurability(value)
	case "scratch":
		o.plan.Scratch = append(o.plan.Scratch, value)
	case "password-file":
		o.password.file = value
	case "password-command":
		o.password.command = value
	case "device-key":
		o.password.deviceKey = value
	case "slow-aes":
		*o.slowAES = true
	case "remount":
		return fail(vaultcore.ErrNotSupported, "umount it and mount it again with the new options", "a mounted vault cannot be remounted")
	case "setuid":
		o.owner = value
	default:
		if !isGenericOption(key) && !o.sloppy {
			return fail(errUsage, "the options are "+optionList, "unknown mount option %q", key)
		}
	}
	return nil
}

// isGenericOption knows what fstab lines carry for mount(8) and systemd. What
// they ask of the kernel holds for every FUSE mount of a user anyway (nodev,
// nosuid) or has no meaning here.
func isGenericOption(key string) bool {
	generic := []string{"", "defaults", "auto", "noauto", "nofail", "_netdev", "user", "users", "nouser", "owner",
		"group", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "async", "atime", "noatime", "diratime",
		"nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime"}
	return slices.Contains(generic, key) || strings.HasPrefix(key, "x-") || key == "comment"
}

func splitOptions(list string) []string {
	var options []string
	var current strings.Builder
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list) && (list[i+1] == ',' || list[i+1] == '\\'):
			i++
			current.WriteByte(list[i])
		case list[i] == ',':
			options = append(options, current.String())
			current.Reset()
		default:
			current.WriteByte(list[i])
		}
	}
	return append(options, current.String())
}
