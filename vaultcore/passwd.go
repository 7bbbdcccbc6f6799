package vaultcore

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// changePassword begins a new epoch under a new password: a new vault key, a
// header that holds the old ones, then local.key and device.slot anew. The
// rename of header.json is the commit; what comes after it is made up for at
// the next unlock if it fails. Zero params keep the costs of the header,
// others may only raise them. The rows' keys are wrapped anew by the caller.
//
// Errors before the commit: those of open, seal.ErrWeakPassword,
// seal.ErrKDFParams, ErrForeignHeader, ErrReadOnly and those of the disk. When
// only the sync behind the rename failed, either password may hold after a
// power cut, and the keyring stays in the old epoch, which both open.
func changePassword(ctx context.Context, home *Home, k *keyring, open opener, newPassword []byte, kdf KDF, params seal.KDFParams, changes ...func(*seal.Header)) error {
	k.change.Lock()
	defer k.change.Unlock()
	if err := seal.CheckPassword(newPassword); err != nil {
		return err
	}
	header, err := k.currentHeader(home)
	if err != nil {
		return err
	}
	vk, ids, err := open(ctx, home, header, kdf)
	if err != nil {
		return err
	}
	defer vk.Wipe()
	defer ids.Wipe()
	next, newVK, err := nextEpoch(ctx, header, &vk, &ids, newPassword, kdf, params, changes...)
	if err != nil {
		return err
	}
	defer newVK.Wipe()
	if err := home.WriteHeader(next); err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	k.install(next, &newVK)
	k.renew(home)
	return nil
}

// currentHeader is the header on disk, which has to be the keyring's: whoever
// has unlocked the vault is the only one who writes it.
func (k *keyring) currentHeader(home *Home) (*seal.SignedHeader, error) {
	if home.readOnly {
		return nil, fmt.Errorf("change %s: %w", home.Path(fileHeader), ErrReadOnly)
	}
	header, err := home.ReadHeader()
	if err != nil {
		return nil, err
	}
	if header.Hash() != k.header().Hash() {
		return nil, fmt.Errorf("%s: %w: it changed while the vault was open", home.Path(fileHeader), ErrForeignHeader)
	}
	return header, nil
}

// nextEpoch makes the header of a new epoch and proves that it opens.
func nextEpoch(ctx context.Context, header *seal.SignedHeader, vk, ids *seal.Key, password []byte, kdf KDF, params seal.KDFParams, changes ...func(*seal.Header)) (*seal.SignedHeader, seal.Key, error) {
	params = raised(params, header.KDF)
	kek, err := kdf(ctx, password, params)
	if err != nil {
		return nil, seal.Key{}, fmt.Errorf("change password: %w", err)
	}
	defer kek.Wipe()
	newVK := seal.NewKey()
	next, err := seal.NewEpoch(header, ids, vk, &newVK, &kek, params, changes...)
	if err == nil {
		err = verifyEpoch(header, next, vk, &kek)
	}
	if err != nil {
		newVK.Wipe()
		return nil, seal.Key{}, fmt.Errorf("change password: %w", err)
	}
	return next, newVK, nil
}

// raised gives params with a new salt and no cost below those in use.
func raised(params, inUse seal.KDFParams) seal.KDFParams {
	params.Memory = max(params.Memory, inUse.Memory)
	params.Time = max(params.Time, inUse.Time)
	params.Parallelism = max(params.Parallelism, inUse.Parallelism)
	rand.Read(params.Salt[:]) // never fails since Go 1.24
	return params
}

// verifyEpoch opens a new header as the next unlock will, before anything
// depends on it: every vault key so far has to come out.
func verifyEpoch(header, next *seal.SignedHeader, vk, kek *seal.Key) error {
	newVK, ids, err := next.OpenPassword(kek)
	if err != nil {
		return err
	}
	defer newVK.Wipe()
	ids.Wipe()
	before, err := header.PreviousKeys(vk)
	if err != nil {
		return err
	}
	after, err := next.PreviousKeys(&newVK)
	if err != nil {
		return err
	}
	want := append(before, *vk)
	same := len(after) == len(want)
	for i := range after {
		same = same && after[i].Equal(&want[i])
		after[i].Wipe()
	}
	for i := range want {
		want[i].Wipe()
	}
	if !same {
		return fmt.Errorf("%w: earlier vault keys are not in the new header", seal.ErrKeyCommit)
	}
	return nil
}
