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
}

// JoinResult says what a new device has to publish, create-only, before its
// first batch: the header whose roster names it.
type JoinResult struct {
	CreateResult
	Seq    uint64
	Header []byte
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
	c := CreateOptions{Home: o.Home, Label: o.Label, Password: o.Password, KDF: o.KDF, Vault: header.Vault, Params: header.KDF}
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
	r, err := buildJoined(ctx, temp, header, c)
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

func buildJoined(ctx context.Context, dir string, header *seal.SignedHeader, o CreateOptions) (JoinResult, error) {
	kek, err := o.KDF(ctx, o.Password, header.KDF)
	if err != nil {
		return JoinResult{}, fmt.Errorf("join vault: %w", err)
	}
	defer kek.Wipe()
	vk, ids, err := header.OpenPassword(&kek)
	if errors.Is(err, seal.ErrPassword) {
		return JoinResult{}, ErrWrongPassword
	}
	if err != nil {
		return JoinResult{}, fmt.Errorf("join vault: %w: %w", ErrForeignHeader, err)
	}
	defer vk.Wipe()
	defer ids.Wipe()
	dsk, ldk := seal.NewKey(), seal.NewKey()
	defer dsk.Wipe()
	defer ldk.Wipe()
	device := seal.Device{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&dsk))}
	next, err := header.Next(&ids, func(h *seal.Header) { h.Devices = append(h.Devices, device) })
	if err != nil {
		return JoinResult{}, fmt.Errorf("join vault: %w", err)
	}
	epoch := seal.DeriveEpoch(&vk, header.Vault, header.Epoch)
	defer epoch.Wipe()
	local := seal.DeriveLocal(&ldk, header.Vault)
	defer local.Wipe()
	for _, name := range []string{dirAttachments, dirScratch} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return JoinResult{}, homeDiskError("join vault", err)
		}
	}
	files := map[string][]byte{
		fileLabel: []byte(o.Label + "\n"), fileHeader: next.Envelope(), fileLocalKey: epoch.SealLocalKey(&ldk),
		fileDeviceKey: local.SealDeviceKey(device.ID, &dsk), fileLock: nil,
	}
	for name, content := range files {
		if err := writeNew(filepath.Join(dir, name), content); err != nil {
			return JoinResult{}, homeDiskError("join vault", err)
		}
	}
	if err := initDB(dir, header.Vault, device.ID); err != nil {
		return JoinResult{}, homeDiskError("join vault", err)
	}
	r := JoinResult{Seq: next.Seq, Header: next.Envelope()}
	r.CreateResult = CreateResult{Vault: header.Vault, Device: device.ID, DID: header.DID, Home: o.Home}
	return r, homeDiskError("join vault", syncTree(dir))
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

// HeaderEnvelopes gives every header accepted so far above a number, ascending.
func (v *Vault) HeaderEnvelopes(after uint64) (out [][]byte, err error) {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return nil, ErrClosed
	}
	err = v.reader.query("SELECT payload,sig FROM headers WHERE seq>? ORDER BY seq", func(c []dbValue) error {
		s := rowScanner{c: c}
		payload, sig := s.blob(), s.blob()
		h, err := seal.ParseStored(payload, sig)
		if err != nil {
			return fmt.Errorf("%w: recorded header: %w", ErrDamaged, err)
		}
		out = append(out, h.Envelope())
		return nil
	}, int64(after))
	return out, err
}

// AcceptHeader takes the next header of the chain: a device that joined, a new
// kit. One that is known already changes nothing. Errors: ErrNewEpoch for one
// of a new password, which only unlocking with that accepts; seal.ErrGap when
// earlier ones are missing; ErrRollback, ErrForeignHeader and ErrFork.
func (v *Vault) AcceptHeader(ctx context.Context, envelope []byte) error {
	if err := v.writable(); err != nil {
		return err
	}
	next, err := seal.ParseEnvelope(envelope)
	if err != nil {
		return err
	}
	v.keys.change.Lock()
	defer v.keys.change.Unlock()
	now := v.keys.header()
	if next.Seq < now.Seq {
		return v.sameHeader(next)
	}
	switch err := next.VerifyNext(now); {
	case errors.Is(err, seal.ErrIdentityMismatch):
		return fmt.Errorf("%w: %w", ErrForeignHeader, err)
	case err != nil:
		return err
	case next.Seq == now.Seq:
		return nil
	case next.Epoch != now.Epoch:
		return fmt.Errorf("%w: header %d is of epoch %d", ErrNewEpoch, next.Seq, next.Epoch)
	}
	err = v.keys.withEpoch(0, func(k *seal.EpochKeys) error { return next.VerifyDevice(k.VaultKey(), now.DID) })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeignHeader, err)
	}
	if err := v.home.WriteHeader(next); err != nil {
		return err
	}
	v.keys.setHeader(next)
	if err := v.recordNewHeader(); err != nil {
		return err
	}
	for _, d := range next.Devices {
		if _, known := rosterHas(now.Devices, d.ID); !known {
			v.event("device", "a device joined the vault: "+d.ID.UUID())
		}
	}
	return nil
}

func rosterHas(list []seal.Device, id seal.ID) (seal.Device, bool) {
	for _, d := range list {
		if d.ID == id {
			return d, true
		}
	}
	return seal.Device{}, false
}

// sameHeader compares an old header with the one accepted under its number.
func (v *Vault) sameHeader(h *seal.SignedHeader) error {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return ErrClosed
	}
	payload, err := v.reader.one("SELECT payload FROM headers WHERE seq=?", int64(h.Seq))
	if err != nil {
		return err
	}
	if b, _ := payload.([]byte); b != nil && string(b) != string(h.Payload) {
		return fmt.Errorf("%w: vault header %d", ErrFork, h.Seq)
	}
	return nil
}
