package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

const (
	labelTitle     = "vaultdrive/v1/title\x00"
	labelLocalWrap = "vaultdrive/v1/local-wrap\x00"

	localKeySize = 4 + WrappedKeySize // u32 epoch ‖ IV ‖ ct ‖ tag
)

// EpochKeys are the keys derived from the vault key of one epoch. The expanded
// ciphers are kept; all methods but Wipe are safe for concurrent use.
type EpochKeys struct {
	redacted
	vault ID
	epoch uint32
	vk    Key
	log   Key
	mac   Key
	enc   cipher.AEAD
	title cipher.AEAD
	wrap  cipher.AEAD
}

// DeriveEpoch derives the keys of an epoch from its vault key (FORMAT.md "Keys").
func DeriveEpoch(vk *Key, vault ID, epoch uint32) *EpochKeys {
	ctx := epochCtx(vault, epoch)
	derive := func(label string) []byte { return hk(vk.b[:], label, ctx, keySize) }
	e := &EpochKeys{vault: vault, epoch: epoch, vk: *vk}
	copy(e.log.b[:], derive("log-key"))
	copy(e.mac.b[:], derive("backup-mac"))
	for _, k := range []struct {
		label string
		aead  *cipher.AEAD
	}{{"enc-key", &e.enc}, {"asset-title", &e.title}, {"local-wrap", &e.wrap}} {
		raw := derive(k.label)
		*k.aead = newGCM(raw)
		clear(raw)
	}
	return e
}

// Epoch is the number these keys belong to, from 1.
func (e *EpochKeys) Epoch() uint32 { return e.epoch }

// VaultKey returns the vault key itself, not a copy.
func (e *EpochKeys) VaultKey() *Key { return &e.vk }

// LogKey seals the batches of the replica log.
func (e *EpochKeys) LogKey() *Key { return &e.log }

// BackupKey authenticates the manifest of a backup.
func (e *EpochKeys) BackupKey() *Key { return &e.mac }

// WrapFileKey seals a file key; the result is the wire form IV ‖ ct, 60 bytes.
// Each call counts against the 2^32 random nonces of the epoch.
func (e *EpochKeys) WrapFileKey(fk *Key) ([]byte, error) {
	return sealRandom(e.enc, make([]byte, 0, WrappedKeySize), fk.b[:], nil), nil
}

// UnwrapFileKey opens the wire form of a wrapped key. Errors: ErrFormat unless
// it is 60 bytes, ErrAuth.
func (e *EpochKeys) UnwrapFileKey(wire []byte) (Key, error) {
	return openKey(e.enc, wire, nil)
}

// openKey opens a sealed 32-byte key without leaving a copy behind.
func openKey(aead cipher.AEAD, sealed, aad []byte) (Key, error) {
	var k Key
	if len(sealed) != WrappedKeySize {
		return k, fmt.Errorf("%w: sealed key of %d bytes", ErrFormat, len(sealed))
	}
	s := getScratch()
	defer s.put()
	if _, err := openRandom(aead, s.key[:0], sealed, aad); err != nil {
		return k, err
	}
	k.b = s.key
	return k, nil
}

// SealTitle seals the title of an asset; the result is the wire form IV ‖ ct.
// Error: ErrFormat when the title is not UTF-8.
func (e *EpochKeys) SealTitle(asset ID, title string) ([]byte, error) {
	if !utf8.ValidString(title) {
		return nil, fmt.Errorf("%w: title is not UTF-8", ErrFormat)
	}
	return sealRandom(e.title, nil, []byte(title), e.titleAAD(asset)), nil
}

// OpenTitle opens the wire form of a title. Errors: ErrFormat, ErrAuth.
func (e *EpochKeys) OpenTitle(asset ID, wire []byte) (string, error) {
	if len(wire) < Overhead {
		return "", fmt.Errorf("%w: title of %d bytes", ErrFormat, len(wire))
	}
	b, err := openRandom(e.title, nil, wire, e.titleAAD(asset))
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: title is not UTF-8", ErrFormat)
	}
	return string(b), nil
}

func (e *EpochKeys) titleAAD(asset ID) []byte { return labelIDs(labelTitle, e.vault, asset) }

// labelIDs is the associated data most fields have: a label and what they belong to.
func labelIDs(label string, ids ...ID) []byte {
	b := append(make([]byte, 0, len(label)+len(ids)*len(ID{})), label...)
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

// SealLocalKey returns the file local.key: the local data key under this epoch.
func (e *EpochKeys) SealLocalKey(ldk *Key) []byte {
	file := binary.BigEndian.AppendUint32(make([]byte, 0, localKeySize), e.epoch)
	return sealRandom(e.wrap, file, ldk.b[:], labelIDs(labelLocalWrap, e.vault))
}

// OpenLocalKey opens the file local.key. Errors: ErrFormat, ErrAuth; the latter
// also for a file of another epoch, which LocalKeyEpoch tells.
func (e *EpochKeys) OpenLocalKey(file []byte) (Key, error) {
	epoch, err := LocalKeyEpoch(file)
	if err != nil {
		return Key{}, err
	}
	if epoch != e.epoch {
		return Key{}, fmt.Errorf("%w: local key of epoch %d", ErrAuth, epoch)
	}
	return openKey(e.wrap, file[4:], labelIDs(labelLocalWrap, e.vault))
}

// LocalKeyEpoch tells, without a key, which epoch opens the file local.key. The
// answer is unauthenticated. Error: ErrFormat.
func LocalKeyEpoch(file []byte) (uint32, error) {
	if len(file) != localKeySize {
		return 0, fmt.Errorf("%w: local key file of %d bytes", ErrFormat, len(file))
	}
	return binary.BigEndian.Uint32(file), nil
}

// VKCheck is the value by which a signed header commits to this vault key.
func (e *EpochKeys) VKCheck() [32]byte { return vkCheck(&e.vk, e.vault, e.epoch) }

func vkCheck(vk *Key, vault ID, epoch uint32) [32]byte {
	return [32]byte(hk(vk.b[:], "vk-check", epochCtx(vault, epoch), 32))
}

// BootToken is the token of the vault's address when this epoch began with a
// revocation.
func (e *EpochKeys) BootToken() ID {
	return ID(hk(e.vk.b[:], "boot-token", epochCtx(e.vault, e.epoch), 16))
}

// Wipe overwrites the raw keys and drops the expanded ones, which the Go heap
// keeps until it is collected. Nothing may use e afterwards.
func (e *EpochKeys) Wipe() {
	e.vk.Wipe()
	e.log.Wipe()
	e.mac.Wipe()
	e.enc, e.title, e.wrap = nil, nil, nil
}
