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
	vk, ids, err := withPassword(password)(ctx, home, header, kdf)
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

// RestoreByKit sets a new password by the recovery kit, without the old one. The
// kit stays good. p as of ChangePassword. A vault that is synced needs
// ProposeRestore instead. Errors: seal.ErrKit, ErrForeignHeader, those of
// ChangePassword.
func (v *Vault) RestoreByKit(ctx context.Context, kit TypedKit, newPassword []byte, p seal.KDFParams, progress func(done, total int)) error {
	return v.changePassword(ctx, withKit(kit), newPassword, p, progress)
}

// ProposeRestore makes the header of a new epoch under a new password by the
// recovery kit. Errors: seal.ErrKit, ErrForeignHeader, those of ProposePassword.
func (v *Vault) ProposeRestore(ctx context.Context, kit TypedKit, newPassword []byte, p seal.KDFParams) (*HeaderChange, error) {
	return v.proposePassword(ctx, withKit(kit), newPassword, p)
}

// AcceptByKit is AcceptPassword by the recovery kit.
func (v *Vault) AcceptByKit(ctx context.Context, kit TypedKit) error {
	return v.acceptEpoch(ctx, withKit(kit))
}
