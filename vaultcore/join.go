package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// JoinOptions say which vault a new device becomes part of.
type JoinOptions struct {
	Home     string   // directory to make; must not exist, or be empty
	Label    string   // local name; empty: the directory's
	Password []byte   // the caller's to wipe
	Headers  [][]byte // envelopes, ascending, all there are; the last is the newest
	DID      string   // of the vault's address
	KDF      KDF      // nil: InProcessKDF
	// Kit takes the password's place where that is lost. The password stays what it
	// was; syncer.RestoreByKit, next, sets another.
	Kit *TypedKit
	// Paired and VaultKey take the password's place: the newest header lists this
	// device already, and the answer to its question held the key.
	Paired   *seal.Pairing
	VaultKey *seal.Key
}

// JoinResult says what a new device has to publish, create-only, before its
// first batch: the header whose roster names it.
type JoinResult struct {
	CreateResult
	Seq    uint64
	Header []byte
	// DeviceKey opens the vault of a device that was paired, which has seen no
	// password; nil for others. There is then no header to publish. The caller
	// keeps and wipes it.
	DeviceKey *seal.Key
}

// Join makes the vault's home on another device: keys of its own and an empty
// tree, which Receive fills. Nothing else of the vault changes until the header
// it returns is published. Errors: ErrWrongPassword, ErrForeignHeader for a
// header of another identity or a broken chain, ErrExist, those of the disk.
func Join(ctx context.Context, o JoinOptions) (JoinResult, error) {
	header, err := headerChain(o.Headers, o.DID)
	if err != nil {
		return JoinResult{}, fmt.Errorf("join: %w", err)
	}
	c := CreateOptions{Home: o.Home, Label: o.Label, Password: o.Password, KDF: o.KDF, Vault: header.Vault, Params: header.KDF, known: true}
	creds := Credentials{Password: o.Password, Kit: o.Kit}
	if o.Paired != nil {
		if err := header.AcceptPaired(o.Paired, o.VaultKey, o.DID); err != nil {
			return JoinResult{}, fmt.Errorf("join: %w: %w", ErrForeignHeader, err)
		}
	}
	if c, err = c.complete(); err != nil {
		return JoinResult{}, err
	}
	parent := filepath.Dir(c.Home)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return JoinResult{}, homeDiskError("join vault", err)
	}
	removeUnfinished(parent)
	temp, lock, err := newHome(parent)
	if err != nil {
		return JoinResult{}, homeDiskError("join vault", err)
	}
	defer lock.Close()
	var r JoinResult
	if o.Paired != nil {
		r, err = buildPaired(temp, header, c, o)
	} else {
		r, err = buildJoined(ctx, temp, header, c, creds.opener(), true)
	}
	if err == nil {
		err = recordHeaders(filepath.Join(temp, dbName), o.Headers)
	}
	if err == nil {
		err = publishHome(temp, c.Home)
	}
	if err != nil {
		return JoinResult{}, errors.Join(err, os.RemoveAll(temp))
	}
	return r, homeDiskError("join vault", syncPath(parent))
}

// headerChain parses the headers and checks every link between them.
func headerChain(envelopes [][]byte, did string) (last *seal.SignedHeader, err error) {
	for _, e := range envelopes {
		h, err := seal.ParseEnvelope(e)
		if err != nil {
			return nil, err
		}
		if err := h.CheckDID(did); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrForeignHeader, err)
		}
		if last != nil {
			if err := h.VerifyNext(last); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrForeignHeader, err)
			}
		}
		last = h
	}
	if last == nil {
		return nil, fmt.Errorf("%w: no header", ErrInvalid)
	}
	return last, nil
}

// buildJoined makes the home of a device with keys of its own; enroll makes the
// header that names it.
func buildJoined(ctx context.Context, dir string, header *seal.SignedHeader, o CreateOptions, open opener, enroll bool) (JoinResult, error) {
	vk, ids, err := open(ctx, &Home{path: o.Label}, header, o.KDF)
	if err != nil {
		return JoinResult{}, fmt.Errorf("join vault: %w", err)
	}
	defer vk.Wipe()
	defer ids.Wipe()
	dsk, ldk := seal.NewKey(), seal.NewKey()
	defer dsk.Wipe()
	defer ldk.Wipe()
	device := seal.Device{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&dsk))}
	next := header
	if enroll {
		next, err = header.Next(&ids, func(h *seal.Header) { h.Devices = append(h.Devices, device) })
		if err != nil {
			return JoinResult{}, fmt.Errorf("join vault: %w", err)
		}
	}
	if err := writeJoined(dir, o, next, device.ID, &vk, &ldk, &dsk, nil); err != nil {
		return JoinResult{}, homeDiskError("join vault", err)
	}
	r := JoinResult{Seq: next.Seq, Header: next.Envelope()}
	r.CreateResult = CreateResult{Vault: header.Vault, Device: device.ID, DID: header.DID, Home: o.Home}
	return r, homeDiskError("join vault", syncTree(dir))
}

// buildPaired makes the home of a device that the header lists. It is enrolled at
// once: nobody has typed a password here.
func buildPaired(dir string, header *seal.SignedHeader, c CreateOptions, o JoinOptions) (JoinResult, error) {
	ldk, dk := seal.NewKey(), seal.NewKey()
	defer ldk.Wipe()
	if err := writeJoined(dir, c, header, o.Paired.ID, o.VaultKey, &ldk, &o.Paired.DSK, &dk); err != nil {
		dk.Wipe()
		return JoinResult{}, homeDiskError("join vault", err)
	}
	r := JoinResult{Seq: header.Seq, DeviceKey: &dk}
	r.CreateResult = CreateResult{Vault: header.Vault, Device: o.Paired.ID, DID: header.DID, Home: c.Home}
	return r, homeDiskError("join vault", syncTree(dir))
}

// writeJoined writes the files of a new device's home; dk is nil unless it is
// enrolled.
func writeJoined(dir string, o CreateOptions, header *seal.SignedHeader, device seal.ID, vk, ldk, dsk, dk *seal.Key) error {
	epoch := seal.DeriveEpoch(vk, header.Vault, header.Epoch)
	defer epoch.Wipe()
	local := seal.DeriveLocal(ldk, header.Vault)
	defer local.Wipe()
	for _, name := range []string{dirAttachments, dirScratch} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	files := map[string][]byte{
		fileLabel: []byte(o.Label + "\n"), fileHeader: header.Envelope(), fileLocalKey: epoch.SealLocalKey(ldk),
		fileDeviceKey: local.SealDeviceKey(device, dsk), fileLock: nil,
	}
	if dk != nil {
		files[fileDeviceSlot] = seal.SealDeviceSlot(dk, header.Vault, device, header.Epoch, vk)
	}
	for name, content := range files {
		if err := writeNew(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return initDB(dir, header.Vault, device)
}

// recordHeaders keeps every header of the chain, as each device does.
func recordHeaders(path string, envelopes [][]byte) error {
	c, err := openConn(path, false, false)
	if err != nil {
		return err
	}
	for _, e := range envelopes {
		h, perr := seal.ParseEnvelope(e)
		if perr != nil {
			return errors.Join(perr, c.close())
		}
		if err := c.exec("INSERT INTO headers(seq,payload,sig) VALUES(?,?,?)", int64(h.Seq), h.Payload, h.Sig[:]); err != nil {
			return errors.Join(err, c.close())
		}
	}
	return errors.Join(c.script("PRAGMA wal_checkpoint(TRUNCATE)"), c.close())
}
