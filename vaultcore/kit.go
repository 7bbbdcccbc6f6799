package vaultcore

import (
	"context"
	"fmt"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// RecoveryKit is what goes on paper. Only Secret and Sheet show the secret.
type RecoveryKit struct {
	Vault   seal.ID
	DID     string
	Address string // empty without a remote
	Kit     seal.Kit
}

// Secret is the text to be typed at a restore.
func (r *RecoveryKit) Secret() string { return r.Kit.Text() }

// Sheet is the whole kit as text to print.
func (r *RecoveryKit) Sheet(label string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "vaultdrive recovery kit\n\n")
	fmt.Fprintf(&b, "Vault     %s\n          %s\n", label, r.Vault.UUID())
	fmt.Fprintf(&b, "Identity  %s\n", r.DID)
	if r.Address != "" {
		fmt.Fprintf(&b, "Address   %s\n", r.Address)
	}
	groups := strings.Split(r.Secret(), "-")
	half := (len(groups) + 1) / 2
	fmt.Fprintf(&b, "\nSecret    %s\n          %s\n", strings.Join(groups[:half], "-"), strings.Join(groups[half:], "-"))
	b.WriteString("\nWhoever has this sheet and the vault can set a new password and read\n" +
		"everything. Keep it on paper, away from the computer. A kit made later\n" +
		"takes its place.\n")
	return b.String()
}

// Wipe overwrites the secret.
func (r *RecoveryKit) Wipe() { r.Kit.Wipe() }

// createKit makes a recovery kit and puts its slot into the header, in place
// of an earlier one. address is printed if there is one. Errors as of
// changePassword.
func createKit(ctx context.Context, home *Home, k *keyring, password []byte, kdf KDF, address string) (*RecoveryKit, error) {
	k.change.Lock()
	defer k.change.Unlock()
	header, err := k.currentHeader(home)
	if err != nil {
		return nil, err
	}
	vk, ids, err := openPassword(ctx, home, header, password, kdf)
	if err != nil {
		return nil, err
	}
	defer vk.Wipe()
	defer ids.Wipe()
	kit := seal.NewRecovery()
	next, err := headerWithKit(header, &kit, &vk, &ids)
	if err == nil {
		err = home.WriteHeader(next)
	}
	if err != nil {
		kit.Wipe()
		return nil, fmt.Errorf("create recovery kit: %w", err)
	}
	k.setHeader(next)
	return &RecoveryKit{Vault: header.Vault, DID: header.DID, Address: address, Kit: kit}, nil
}

// headerWithKit makes the next header with the kit's slot and proves that the
// kit opens it.
func headerWithKit(header *seal.SignedHeader, kit *seal.Kit, vk, ids *seal.Key) (*seal.SignedHeader, error) {
	pk, err := kit.PublicKey()
	if err != nil {
		return nil, err
	}
	slot, err := seal.SealRecovery(pk, header.Vault, header.Epoch, vk, ids)
	if err != nil {
		return nil, err
	}
	next, err := header.Next(ids, func(h *seal.Header) { h.Rec = slot })
	if err != nil {
		return nil, err
	}
	gotVK, gotIDS, err := next.OpenKit(kit, header.DID)
	if err != nil {
		return nil, err
	}
	gotVK.Wipe()
	gotIDS.Wipe()
	return next, nil
}

// KitOptions say how a vault is recovered.
type KitOptions struct {
	Secret string // as printed; case, blanks and hyphens do not matter
	// DID is the identity on the paper. Empty trusts that of Known or, without
	// one, the header's own, which the user should then have compared.
	DID         string
	Known       *seal.SignedHeader // see Credentials
	NewPassword []byte             // the caller's to wipe
	Params      seal.KDFParams     // as of a change of password
	KDF         KDF                // nil: InProcessKDF
}

// KitRestore sets a new password by the recovery kit, without the old one. The
// kit stays good. As with a change of password the rename of header.json is
// the commit. Errors: seal.ErrKit, ErrForeignHeader, ErrRollback,
// seal.ErrWeakPassword, ErrReadOnly and those of the disk.
func KitRestore(ctx context.Context, home *Home, o KitOptions) error {
	if home.readOnly {
		return fmt.Errorf("restore %s: %w", home.path, ErrReadOnly)
	}
	if err := seal.CheckPassword(o.NewPassword); err != nil {
		return err
	}
	if o.KDF == nil {
		o.KDF = InProcessKDF
	}
	header, err := home.ReadHeader()
	if err != nil {
		return err
	}
	if err := checkKnown(home, header, o.Known); err != nil {
		return err
	}
	vk, ids, err := openKit(home, header, o)
	if err != nil {
		return err
	}
	defer vk.Wipe()
	defer ids.Wipe()
	next, newVK, err := nextEpoch(ctx, header, &vk, &ids, o.NewPassword, o.KDF, o.Params)
	if err != nil {
		return err
	}
	newVK.Wipe()
	// local.key follows at the next unlock, which opens it through the header.
	return home.WriteHeader(next)
}

func openKit(home *Home, header *seal.SignedHeader, o KitOptions) (vk, ids seal.Key, err error) {
	kit, err := seal.ParseKit(o.Secret)
	if err != nil {
		return vk, ids, err
	}
	defer kit.Wipe()
	did := o.DID
	if did == "" {
		did = header.DID
	}
	vk, ids, err = header.OpenKit(&kit, did)
	return vk, ids, headerError(home, err)
}
