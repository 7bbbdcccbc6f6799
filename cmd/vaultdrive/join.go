package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// joinCommand makes this machine one more device of a vault that exists.
type joinCommand struct {
	common
	remote  remoteOptions
	url     string
	label   string
	yes     bool
	pair    bool
	byKit   bool
	kitFile string
	kit     *vaultcore.TypedKit // nil: by password
	next    passwordSource      // of the new password, by kit
	fresh   []byte              // the new password
	address seal.Address
	request syncEnableRequest
	opened  *vaultcore.Vault // once it is open, to log in at a server
	home    string           // where the vault will be
	caps    json.RawMessage  // of the remote
	found   joinView
}

func joinCLI(u *ui) *cli.Command {
	c := &joinCommand{common: common{ui: u}}
	c.next.fd = -1
	flags := append(c.flagsToAsk(),
		&cli.StringFlag{Name: "remote", Destination: &c.url, Usage: "the `URL` of the vault's remote, as sync status shows it, or a directory's path"},
		&cli.StringFlag{Name: "label", Destination: &c.label, Usage: "what --vault calls it on this device; default: the `NAME` or the directory's"},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Destination: &c.yes, Usage: "do not ask whether what was found is right"},
		&cli.BoolFlag{Name: "pair", Destination: &c.pair, Usage: "type no password here: show a code and wait until a device of the vault lets this one in"},
		&cli.BoolFlag{Name: "kit", Destination: &c.byKit, Usage: "join by the recovery kit instead of the password, and set a new password"},
		kitFileFlag(&c.kitFile))
	flags = append(flags, newPasswordFlags(&c.next)...)
	return &cli.Command{
		Name:      "join",
		Usage:     "make a vault that is synchronised somewhere available on this device too",
		ArgsUsage: "ADDRESS",
		Description: "ADDRESS is what sync status shows on a device of the vault: it says which vault it is, so that nobody can put\n" +
			"another in its place. The password is that of the vault. A kit read from a file brings the address along. What the remote shows is listed and has to be confirmed:\n" +
			"a remote could show an old state to a device that knows no newer one.",
		Flags: append(flags, c.remote.flags()...),
		Action: func(cx *cli.Context) error {
			if err := c.read(cx); err != nil {
				return err
			}
			frugal()
			if c.pair {
				return c.runPair(cx.Context)
			}
			if c.kit != nil {
				return c.runKit(cx.Context)
			}
			return c.Run(cx.Context)
		},
	}
}

// read finds out what can be wrong before anybody types a password.
func (c *joinCommand) read(cx *cli.Context) (err error) {
	if c.url == "" {
		return usage("join needs --remote URL")
	}
	address, err := c.whichVault(cx)
	if err != nil {
		return err
	}
	if c.address, err = seal.ParseAddress(address); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	if c.request, err = c.remote.request(cx, c.url); err != nil {
		return err
	}
	c.url = c.request.URL
	return c.findPlace()
}

// findPlace says where the vault will be and what it is called.
func (c *joinCommand) findPlace() error {
	if isVaultPath(c.vault) {
		abs, err := filepath.Abs(c.vault)
		if err != nil {
			return err
		}
		c.home = abs
		if c.label == "" {
			c.label = filepath.Base(abs)
		}
		return errors.Join(checkLabel(c.label), refuseHome(c.home))
	}
	c.home = filepath.Join(dataDir(), "vaults", c.address.Vault.UUID())
	if c.label == "" {
		c.label = c.vault
	}
	if c.label == "" {
		c.label = "vault"
	}
	if err := checkLabel(c.label); err != nil {
		return err
	}
	if refuseHome(c.home) != nil {
		return fail(vaultcore.ErrExist, "vaultdrive mount shows it; --vault with a directory, as ./home/, joins with one more copy", "this vault is on this machine already: %s", c.home)
	}
	return refuseLabel(c.label)
}

// joinAttempts is how often a join begins anew because another device changed
// the vault's header at that moment.
const joinAttempts = 3

// Reading the log of others makes a lot of garbage: with Go's defaults a vault of
// 100,000 files took 500 MiB to join, of which 140 were in use. One that does not
// fit into joinMemory takes what it needs, and up to twice the processor's time.
const (
	joinGC     = 25        // percent of garbage
	joinMemory = 220 << 20 // bytes
)

// frugal bounds garbage for the rest of the process, which only joins.
func frugal() {
	debug.SetGCPercent(joinGC)
	debug.SetMemoryLimit(joinMemory)
}

// Run looks, asks, and joins.
func (c *joinCommand) Run(ctx context.Context) error {
	// What is wrong with the remote is said before anybody types a password.
	site, err := c.look(ctx)
	if err != nil {
		return err
	}
	password, err := c.password.forAction(ctx, c.ui, "Password of the vault: ", "join a vault")
	if err != nil {
		return err
	}
	defer clear(password)
	derived := &rememberedKDF{derive: vaultcore.ChildKDF}
	defer derived.wipe()
	err = c.repeat(ctx, site, vaultcore.JoinOptions{Password: password, KDF: derived.key})
	if errors.Is(err, vaultcore.ErrWrongPassword) { // no password of before helps here
		return hinted(err, "nothing was changed; check the keyboard layout and try again: it is the password that the vault has now on its other devices")
	}
	return err
}

// repeat joins, and begins anew when somebody else changed the header.
func (c *joinCommand) repeat(ctx context.Context, site *syncer.Site, o vaultcore.JoinOptions) (err error) {
	for i := 0; ; i++ {
		o.Headers, o.DID = site.Headers, site.DID
		err := c.attempt(ctx, site, o)
		if !errors.Is(err, syncer.ErrOtherBytes) || i == joinAttempts {
			return err
		}
		if site, err = c.look(ctx); err != nil {
			return err
		}
	}
}

// open opens the remote, as the device or, "", to look only.
func (c *joinCommand) open(device string) (*remote.Remote, error) {
	o := remote.Options{Vault: c.address.Vault.UUID(), Device: device}
	if len(c.caps) > 0 {
		if err := json.Unmarshal(c.caps, &o.Caps); err != nil {
			return nil, err
		}
	}
	if c.request.Access != nil {
		o.S3 = c.request.Access.options()
	}
	o.Login.Boot = c.address.BootToken
	if c.opened != nil {
		o.Login.Signer, o.Login.DID = c.opened.LoginSigner(), c.opened.DID()
	}
	return remote.Open(c.url, o)
}

func (c *joinCommand) look(ctx context.Context) (*syncer.Site, error) {
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	r, err := c.open("")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	site, err := syncer.Look(ctx, r, c.address)
	switch {
	case errors.Is(err, syncer.ErrNoVault):
		return nil, c.notThere(ctx, err)
	case errors.Is(err, syncer.ErrIdentity):
		return nil, hinted(err, "compare the address with sync status on another device; if it is right, somebody has put another vault in its place")
	}
	return site, err
}

// probe finds out what the remote can do, which decides what may be believed of
// what it shows. Where the vault is not, nothing is tried.
func (c *joinCommand) probe(ctx context.Context) error {
	r, err := c.open("")
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.Get(ctx, syncer.MarkerKey); errors.Is(err, syncer.ErrNotFound) {
		return nil // Look says so
	} else if err != nil {
		return err
	}
	caps, err := r.Probe(ctx)
	if err != nil {
		return err
	}
	c.caps, err = json.Marshal(caps)
	return err
}

// notThere says which vaults there are instead.
func (c *joinCommand) notThere(ctx context.Context, err error) error {
	o := remote.Options{}
	if c.request.Access != nil {
		o.S3 = c.request.Access.options()
	}
	ids, listErr := remote.Vaults(ctx, c.url, o)
	if listErr != nil || len(ids) == 0 {
		return err
	}
	return hinted(err, "there are other vaults ("+strings.Join(ids, ", ")+"): is the address of one of them, or the remote another one?")
}

// attempt builds the vault beside its place, and moves it there when the device
// is part of the vault. Whatever fails before leaves nothing.
func (c *joinCommand) attempt(ctx context.Context, site *syncer.Site, o vaultcore.JoinOptions) (err error) {
	parent := filepath.Dir(c.home)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	removeAbandoned(parent)
	temp := filepath.Join(parent, joiningPrefix+seal.NewBlobID().Hex())
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	o.Home, o.Label = temp, c.label
	made, err := vaultcore.Join(ctx, o)
	if err != nil {
		return err
	}
	if made.DeviceKey != nil {
		defer made.DeviceKey.Wipe()
	}
	vault, err := vaultcore.Open(ctx, temp, vaultcore.Credentials{Password: o.Password, DeviceKey: made.DeviceKey, Kit: o.Kit}, vaultcore.Options{KDF: o.KDF})
	if err != nil {
		return err
	}
	yes, err := c.fillAndAsk(ctx, vault, site, made)
	if err == nil && yes {
		err = c.enter(ctx, made)
	}
	if err == nil && yes && c.askedBlindly() {
		c.fillLater(ctx, vault, site, made)
	}
	var later error
	if err == nil && yes && c.kit != nil {
		later = c.setPassword(ctx, vault, made)
	}
	if err == nil && yes {
		c.introduce(ctx, vault, made)
	}
	c.opened = nil
	if closeErr := vault.Close(context.WithoutCancel(ctx)); err == nil {
		err = closeErr
	}
	if err != nil || !yes {
		return err
	}
	if err := os.Rename(temp, c.home); err != nil {
		return err
	}
	if made.DeviceKey != nil {
		c.keepPaired(made.DeviceKey)
	}
	return errors.Join(c.show(), later)
}

// fillAndAsk brings the log here and asks whether what it says is right.
func (c *joinCommand) fillAndAsk(ctx context.Context, vault *vaultcore.Vault, site *syncer.Site, made vaultcore.JoinResult) (bool, error) {
	if err := vault.EnableLedger(ctx, c.request.Device); err != nil {
		return false, err
	}
	// First, so that what the log says to be there counts for this remote.
	if err := c.setRemote(ctx, vault, site); err != nil {
		return false, err
	}
	r, err := c.open(made.Device.UUID())
	if err != nil {
		return false, err
	}
	defer r.Close()
	bar := c.ui.progress("reading what the devices said", false)
	defer bar.finish()
	if err := site.Fill(ctx, r, vault, bar.set); err != nil {
		return false, err
	}
	bar.finish()
	if c.found, err = foundIn(ctx, vault, made); err != nil {
		return false, err
	}
	c.found.Home = c.home
	if !c.json {
		c.describe(c.found, c.askedBlindly())
	}
	return c.agreed(ctx)
}

// askedBlindly says whether the remote shows the log only to devices, so that
// only the identity could be confirmed before.
func (c *joinCommand) askedBlindly() bool {
	var caps syncer.Caps
	return json.Unmarshal(c.caps, &caps) == nil && caps.Login
}

// fillLater brings the log from a remote that asks for a login, now that this is
// a device. What does not come now comes with the first mount.
func (c *joinCommand) fillLater(ctx context.Context, vault *vaultcore.Vault, site *syncer.Site, made vaultcore.JoinResult) {
	c.opened = vault
	r, err := c.open(made.Device.UUID())
	if err == nil {
		defer r.Close()
		err = site.Read(ctx, r)
	}
	if err == nil {
		bar := c.ui.progress("reading what the devices said", false)
		err = site.Fill(ctx, r, vault, bar.set)
		bar.finish()
	}
	if err != nil {
		c.ui.warn("what the vault holds was not read yet (%v); the first mount does it", err)
		return
	}
	if found, err := foundIn(ctx, vault, made); err == nil {
		found.Home, c.found = c.home, found
		if !c.json {
			c.describe(found, false)
		}
	}
}

// introduce has the other devices know this one by its name. What fails here is
// done by the first mount.
func (c *joinCommand) introduce(ctx context.Context, vault *vaultcore.Vault, made vaultcore.JoinResult) {
	c.opened = vault
	r, err := c.open(made.Device.UUID())
	if err != nil {
		return
	}
	defer r.Close()
	_ = syncer.Introduce(ctx, vault, r)
}

func (c *joinCommand) agreed(ctx context.Context) (bool, error) {
	if c.yes {
		return true, nil
	}
	if c.json {
		return false, usage("with --json join needs --yes")
	}
	yes, err := askYes(ctx, "Is this the newest state you know of, and is this device to join?")
	if err != nil {
		return false, usage("nothing was changed; --yes joins without asking")
	}
	switch {
	case !yes && c.pair:
		c.ui.note("Nothing was changed here. The vault lists this device since it was let in: vaultdrive device revoke on another one ends that.")
	case !yes:
		c.ui.note("Nothing was changed.")
	}
	return yes, nil
}

// setRemote keeps where the vault's remote is.
func (c *joinCommand) setRemote(ctx context.Context, vault *vaultcore.Vault, site *syncer.Site) error {
	settings, err := c.request.settings(vaultcore.RemoteSettings{}, false)
	if err != nil {
		return err
	}
	if !c.address.BootToken.IsZero() { // a kit printed before sync was enabled has none
		settings.Boot = c.address.BootToken.Hex()
	}
	id, err := hex.DecodeString(site.RemoteID)
	if err != nil || len(id) != len(settings.ID) {
		return fmt.Errorf("%w: its id", syncer.ErrForeign)
	}
	settings.ID, settings.Shared, settings.Caps = seal.ID(id), true, c.caps
	return vault.SetRemote(ctx, settings)
}

// enter makes the device part of the vault: from here on others know of it.
func (c *joinCommand) enter(ctx context.Context, made vaultcore.JoinResult) error {
	r, err := c.open(made.Device.UUID())
	if err != nil {
		return err
	}
	defer r.Close()
	if caps, err := r.Caps(ctx); err == nil && !caps.CreateOnly {
		c.ui.note("The remote cannot keep two devices from joining at one moment: this takes %s.", syncer.HeaderPause)
	}
	return syncer.Publish(ctx, r, made)
}
