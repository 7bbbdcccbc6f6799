package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Credentials unlock a vault. With both the device key is tried first and the
// password only if that does not do.
type Credentials struct {
	Password  []byte    // the caller's to wipe
	DeviceKey *seal.Key // of an enrolled device; the caller's to wipe
	Kit       *TypedKit // in the place of a password that is lost
	// Known is the newest header accepted before, if any: an older one, or one
	// of another vault, is then refused before the password is tried.
	Known *seal.SignedHeader
	// pending are headers that were seen and not accepted, which the password
	// may be of.
	pending *pendingChain
}

// keyring holds the keys of an unlocked vault. Safe for concurrent use, wipe
// included: what comes after it gets ErrClosed.
type keyring struct {
	vault, device seal.ID
	secrets       *arena
	rows          *seal.LocalKeys
	wraps         atomic.Uint64

	// change serialises what writes a new header or slot.
	change sync.Mutex
	// pending is what the unlock left of Credentials.pending.
	pending *pendingChain

	mu      sync.RWMutex // guards what follows; held for single seals only
	head    *seal.SignedHeader
	epochs  map[uint32]*seal.EpochKeys
	current *seal.EpochKeys // nil after wipe
	ldk     *seal.Key
	dsk     *seal.Key
	dk      *seal.Key // nil unless it opened device.slot or made it
	// Epochs of local.key and device.slot as they lie on disk.
	localEpoch, slotEpoch uint32
}

// unlock opens the vault's keys. It writes nothing unless all have been
// opened, and then only what an interrupted change of password left behind.
// Errors: ErrWrongPassword, ErrNotEnrolled, ErrForeignHeader, ErrRollback,
// ErrInvalid without credentials, and those of ReadHeader and kdf.
func unlock(ctx context.Context, home *Home, c Credentials, kdf KDF) (_ *keyring, err error) {
	header, err := home.ReadHeader()
	if err != nil {
		return nil, err
	}
	if err := checkKnown(home, header, c.Known); err != nil {
		return nil, err
	}
	k := &keyring{vault: header.Vault, head: header, epochs: map[uint32]*seal.EpochKeys{}, pending: c.pending}
	if k.secrets, err = newArena(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			k.wipe()
		}
	}()
	if err := k.openEpochs(ctx, home, c, kdf); err != nil {
		return nil, err
	}
	if err := k.openLocal(home); err != nil {
		return nil, err
	}
	k.keepDeviceKey(home, c.DeviceKey)
	k.renew(home)
	return k, nil
}

// checkKnown compares a header with the newest one accepted before. One that
// is several ahead passes: header.json is written first, and its signature is
// still to be checked.
func checkKnown(home *Home, header, known *seal.SignedHeader) error {
	if known == nil {
		return nil
	}
	err := header.VerifyNext(known)
	if errors.Is(err, seal.ErrGap) {
		return nil
	}
	return headerError(home, err)
}

// headerError restates what may be wrong with a header in this package's
// words.
func headerError(home *Home, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, seal.ErrPassword):
		return fmt.Errorf("%s: %w", home.path, ErrWrongPassword)
	case errors.Is(err, seal.ErrRollback), errors.Is(err, seal.ErrFork):
		return fmt.Errorf("%s: %w: %w", home.Path(fileHeader), ErrRollback, err)
	case errors.Is(err, seal.ErrIdentityMismatch), errors.Is(err, seal.ErrKeyCommit),
		errors.Is(err, seal.ErrSignature), errors.Is(err, seal.ErrAuth):
		return fmt.Errorf("%s: %w: %w", home.Path(fileHeader), ErrForeignHeader, err)
	}
	return fmt.Errorf("%s: %w", home.Path(fileHeader), err)
}

// openHeader accepts the header by one of the credentials and gives the vault
// key.
func (k *keyring) openHeader(ctx context.Context, home *Home, c Credentials, kdf KDF) (*seal.Key, error) {
	open := c.opener()
	if c.DeviceKey == nil && open == nil {
		return nil, fmt.Errorf("unlock %s: %w: neither password nor device key", home.path, ErrInvalid)
	}
	if c.DeviceKey != nil {
		vk, err := k.openByDevice(home, c.DeviceKey)
		if err == nil || open == nil {
			return vk, err
		}
	}
	vk, ids, err := open(ctx, home, k.head, kdf)
	if err != nil {
		return nil, err
	}
	ids.Wipe() // the identity is for changes of the header only
	return k.secrets.keep(&vk), nil
}

// openEpochs accepts a header by one of the credentials and derives the keys of
// all epochs. Headers of others that wait for a password come first: after a
// revocation elsewhere it is still the same one.
func (k *keyring) openEpochs(ctx context.Context, home *Home, c Credentials, kdf KDF) error {
	if k.pending.foreign() && c.opener() != nil {
		if err := k.openPending(ctx, home, c, kdf); !notOfHeader(err) {
			return err
		}
	}
	vk, err := k.openHeader(ctx, home, c, kdf)
	if errors.Is(err, ErrWrongPassword) && k.pending != nil && k.pending.own {
		if perr := k.openPending(ctx, home, c, kdf); !notOfHeader(perr) {
			return perr
		}
	}
	if err != nil {
		return err
	}
	return headerError(home, k.deriveEpochs(vk))
}

// openPending accepts what was pending by the password of its last header. One
// made here stays pending with its key known: only the remote can say whether it
// counts, and until then the header on disk does.
func (k *keyring) openPending(ctx context.Context, home *Home, c Credentials, kdf KDF) error {
	p := k.pending
	vk, ids, err := c.opener()(ctx, home, p.last(), kdf)
	if err != nil {
		return err
	}
	ids.Wipe()
	defer vk.Wipe()
	older, err := k.verifyChain(p, &vk)
	if err != nil {
		return headerError(home, err)
	}
	defer wipeAll(older)
	if !p.own {
		if !home.readOnly {
			if err := home.WriteHeader(p.last()); err != nil {
				return err
			}
		}
		k.head, k.pending = p.last(), nil
		return headerError(home, k.deriveEpochs(k.secrets.keep(&vk)))
	}
	again := *p
	again.vk, k.pending = k.secrets.keep(&vk), &again
	return headerError(home, k.deriveEpochs(k.secrets.keep(&older[k.head.Epoch-1])))
}

// deriveEpochs makes the keys of all epochs from the newest vault key.
func (k *keyring) deriveEpochs(vk *seal.Key) error {
	older, err := k.head.PreviousKeys(vk)
	if err != nil {
		return err
	}
	if len(older) != int(k.head.Epoch)-1 {
		return fmt.Errorf("%w: %d earlier vault keys in epoch %d", seal.ErrHeader, len(older), k.head.Epoch)
	}
	for i := range older {
		epoch := uint32(i + 1)
		k.epochs[epoch] = seal.DeriveEpoch(k.secrets.keep(&older[i]), k.vault, epoch)
	}
	k.current = seal.DeriveEpoch(vk, k.vault, k.head.Epoch)
	k.epochs[k.head.Epoch] = k.current
	return nil
}

// openLocal opens local.key under whichever epoch sealed it, then device.key.
func (k *keyring) openLocal(home *Home) error {
	ldk, epoch, err := openLocalKey(home, k.epochs, k.head.Epoch)
	if err != nil {
		return err
	}
	k.localEpoch, k.ldk = epoch, k.secrets.keep(&ldk)
	k.rows = seal.DeriveLocal(k.ldk, k.vault)
	file, err := home.read(fileDeviceKey)
	if err != nil {
		return err
	}
	device, dsk, err := k.rows.OpenDeviceKey(file)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", home.Path(fileDeviceKey), ErrForeignHeader, err)
	}
	k.device, k.dsk = device, k.secrets.keep(&dsk)
	for _, listed := range k.head.Devices {
		if listed.ID == device && string(seal.PublicFromSeed(k.dsk)) != string(listed.PK[:]) {
			return fmt.Errorf("%s: %w: the header has another key of this device", home.Path(fileDeviceKey), ErrForeignHeader)
		}
	}
	return nil
}

func openLocalKey(home *Home, epochs map[uint32]*seal.EpochKeys, newest uint32) (ldk seal.Key, epoch uint32, err error) {
	path := home.Path(fileLocalKey)
	file, err := home.read(fileLocalKey)
	if err != nil {
		return seal.Key{}, 0, err
	}
	epoch, err = seal.LocalKeyEpoch(file)
	if err != nil {
		return seal.Key{}, 0, fmt.Errorf("%s: %w: %w", path, ErrForeignHeader, err)
	}
	if epoch > newest {
		return seal.Key{}, 0, fmt.Errorf("%s: %w: epoch %d, and %s has %d", home.Path(fileHeader), ErrRollback, newest, fileLocalKey, epoch)
	}
	keys, ok := epochs[epoch]
	if !ok {
		return seal.Key{}, 0, fmt.Errorf("%s: %w: epoch %d", path, ErrForeignHeader, epoch)
	}
	ldk, err = keys.OpenLocalKey(file)
	if err != nil {
		return seal.Key{}, 0, fmt.Errorf("%s: %w: %w", path, ErrForeignHeader, err)
	}
	return ldk, epoch, nil
}

// renew brings local.key and device.slot into the current epoch. If that does
// not work now, the old ones go on opening and the next unlock tries again.
// Whoever calls it holds change, or is the only one who knows k.
func (k *keyring) renew(home *Home) {
	if home.readOnly || k.settled() {
		return
	}
	// A kill may have come between the header's rename and its sync: what only
	// this header opens must not reach the disk before it.
	if syncPath(home.path) != nil {
		return
	}
	for _, file := range k.outdated() {
		if home.write(file.name, file.content) == nil {
			k.renewed(file.name)
		}
	}
}

type homeFile struct {
	name    string
	content []byte
}

// outdated makes the files that are still of an earlier epoch.
func (k *keyring) outdated() (files []homeFile) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.current == nil {
		return nil
	}
	epoch := k.current.Epoch()
	if k.localEpoch != epoch {
		files = append(files, homeFile{fileLocalKey, k.current.SealLocalKey(k.ldk)})
	}
	if k.dk != nil && k.slotEpoch != epoch {
		slot := seal.SealDeviceSlot(k.dk, k.vault, k.device, epoch, k.current.VaultKey())
		files = append(files, homeFile{fileDeviceSlot, slot})
	}
	return files
}

func (k *keyring) renewed(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if name == fileLocalKey {
		k.localEpoch = k.head.Epoch
	} else {
		k.slotEpoch = k.head.Epoch
	}
}

// settled reports whether local.key, and device.slot if its key is here, are
// of the current epoch.
func (k *keyring) settled() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.current == nil || k.localEpoch == k.current.Epoch() && (k.dk == nil || k.slotEpoch == k.localEpoch)
}

// vaultID is the vault these keys are of.
func (k *keyring) vaultID() seal.ID { return k.vault }

// deviceID is this device's id in the vault.
func (k *keyring) deviceID() seal.ID { return k.device }

// local gives the keys of rows. Whoever seals rows stops before wipe.
func (k *keyring) local() *seal.LocalKeys { return k.rows }

// locked says whether the secrets are kept out of swap.
func (k *keyring) locked() bool { return k.secrets.locked }

// enrolled says whether this device's own key is at hand.
func (k *keyring) enrolled() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.dk != nil
}

// header is the header these keys belong to.
func (k *keyring) header() *seal.SignedHeader {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.head
}

// writeV4 says whether the vault seals every content as version 4.
func (k *keyring) writeV4() bool { return k.header().Write == seal.WriteV4 }

// epoch is the current epoch; what is sealed now is of it or a later one.
func (k *keyring) epoch() uint32 { return k.header().Epoch }

// withEpoch runs f on the keys of an epoch, 0 meaning the current one.
func (k *keyring) withEpoch(epoch uint32, f func(*seal.EpochKeys) error) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.current == nil {
		return ErrClosed
	}
	keys := k.current
	if epoch != 0 {
		var ok bool
		if keys, ok = k.epochs[epoch]; !ok {
			return fmt.Errorf("keys of epoch %d: %w", epoch, ErrDamaged)
		}
	}
	return f(keys)
}

// wrap seals a file key under the current epoch and says which that is.
func (k *keyring) wrap(fk *seal.Key) (wire []byte, epoch uint32, err error) {
	k.wraps.Add(1)
	err = k.withEpoch(0, func(keys *seal.EpochKeys) (err error) {
		wire, err = keys.WrapFileKey(fk)
		epoch = keys.Epoch()
		return err
	})
	return wire, epoch, err
}

// unwrap opens a file key wrapped in the given epoch. Errors: ErrDamaged,
// seal.ErrFormat, seal.ErrAuth.
func (k *keyring) unwrap(epoch uint32, wire []byte) (fk seal.Key, err error) {
	if epoch == 0 {
		return fk, fmt.Errorf("file key without an epoch: %w", ErrDamaged)
	}
	err = k.withEpoch(epoch, func(keys *seal.EpochKeys) (err error) {
		fk, err = keys.UnwrapFileKey(wire)
		return err
	})
	return fk, err
}

// sealTitle seals an asset's title under the current epoch.
func (k *keyring) sealTitle(asset seal.ID, title string) (wire []byte, epoch uint32, err error) {
	err = k.withEpoch(0, func(keys *seal.EpochKeys) (err error) {
		wire, err = keys.SealTitle(asset, title)
		epoch = keys.Epoch()
		return err
	})
	return wire, epoch, err
}

// openTitle opens a title sealed in the given epoch. Errors as of unwrap.
func (k *keyring) openTitle(epoch uint32, asset seal.ID, wire []byte) (title string, err error) {
	if epoch == 0 {
		return "", fmt.Errorf("title without an epoch: %w", ErrDamaged)
	}
	err = k.withEpoch(epoch, func(keys *seal.EpochKeys) (err error) {
		title, err = keys.OpenTitle(asset, wire)
		return err
	})
	return title, err
}

// keyUses counts what has random nonces, since unlock or, for wraps, since the
// epoch was installed. The sums over time are the database's to keep.
type keyUses struct {
	epoch uint32
	wraps uint64 // file keys wrapped under that epoch
	rows  uint64 // rows sealed under the local data key
}

func (k *keyring) uses() keyUses {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return keyUses{epoch: k.head.Epoch, wraps: k.wraps.Load(), rows: k.rows.Uses()}
}

// install makes a header and its vault key the current ones. The keys of
// earlier epochs stay. vk is taken over and wiped.
func (k *keyring) install(header *seal.SignedHeader, vk *seal.Key) {
	kept := k.secrets.keep(vk)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil {
		return
	}
	k.current = seal.DeriveEpoch(kept, k.vault, header.Epoch)
	k.epochs[header.Epoch] = k.current
	k.head = header
	k.wraps.Store(0)
}

// setHeader takes over a header of the same epoch.
func (k *keyring) setHeader(header *seal.SignedHeader) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.head = header
}

// wipe overwrites the secrets; it may be called twice.
func (k *keyring) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, keys := range k.epochs {
		keys.Wipe()
	}
	if k.rows != nil {
		k.rows.Wipe()
	}
	k.secrets.wipe()
	k.current, k.epochs = nil, nil
	k.ldk, k.dsk, k.dk = nil, nil, nil
}
