package seal

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"maps"
	"math"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

const (
	kdfAlg     = "argon2id"
	kdfVersion = 0x13
)

// ParseEnvelope reads a signed header strictly and checks the bounds of its key
// derivation. It verifies no signature: OpenPassword, OpenKit or VerifyDevice
// must follow. Errors: ErrHeader, ErrKDFParams.
func ParseEnvelope(b []byte) (*SignedHeader, error) {
	// Checked before any decoding, so that no length of a peer's sizes a buffer.
	if len(b) > base64.StdEncoding.EncodedLen(maxPayload)+256 {
		return nil, fmt.Errorf("%w: envelope of %d bytes", ErrHeader, len(b))
	}
	s, err := parseEnvelope(b)
	if err != nil {
		return nil, asHeaderError(err)
	}
	return s, nil
}

// ParseStored reads a header whose payload and signature were kept apart, as
// ParseEnvelope does. Errors: ErrHeader, ErrKDFParams.
func ParseStored(payload, sig []byte) (*SignedHeader, error) {
	s := &SignedHeader{Payload: payload}
	if len(payload) > maxPayload || copy(s.Sig[:], sig) != len(s.Sig) || len(sig) != len(s.Sig) {
		return nil, fmt.Errorf("%w: stored header of %d and %d bytes", ErrHeader, len(payload), len(sig))
	}
	if err := parsePayload(payload, &s.Header); err != nil {
		return nil, asHeaderError(err)
	}
	return s, nil
}

func parseEnvelope(b []byte) (*SignedHeader, error) {
	v, err := parseJSON(b)
	if err != nil {
		return nil, err
	}
	f := newFields(v)
	s := &SignedHeader{Payload: f.bytes("payload", -1)}
	copy(s.Sig[:], f.bytes("sig", ed25519.SignatureSize))
	if err := f.end(); err != nil {
		return nil, err
	}
	if len(s.Payload) > maxPayload {
		return nil, fmt.Errorf("%w: payload of %d bytes", ErrHeader, len(s.Payload))
	}
	if err := parsePayload(s.Payload, &s.Header); err != nil {
		return nil, err
	}
	return s, nil
}

func parsePayload(payload []byte, h *Header) error {
	v, err := parseJSON(payload)
	if err != nil {
		return err
	}
	f := newFields(v)
	if f.number("v", 0, maxJSONInt) != headerVersion {
		f.fail(fmt.Errorf("%w: vault header", ErrVersion)) // made by a later program
	}
	h.Vault = f.id("vault")
	h.DID = f.text("did")
	h.Seq = f.number("seq", 1, maxJSONInt)
	copy(h.Prev[:], f.bytes("prev", len(h.Prev)))
	h.Epoch = uint32(f.number("epoch", 1, math.MaxUint32))
	f.check(parseKDF(f.object("kdf"), &h.KDF))
	f.check(parsePW(f.object("pw"), &h.PW))
	f.check(parseRec(f.optional("rec"), h))
	copy(h.VKC[:], f.bytes("vkc", len(h.VKC)))
	f.check(parsePrevVK(f.optional("prevvk"), h))
	f.check(parseDevices(f.list("devices"), h))
	f.check(parseCut(f.object("cut"), h))
	h.Write = f.text("write")
	if err := f.end(); err != nil {
		return err
	}
	if err := checkHeader(h); err != nil {
		return err
	}
	return h.KDF.Check()
}

// checkHeader holds the rules that concern more than one field.
func checkHeader(h *Header) error {
	if _, err := didkey.Parse(h.DID); err != nil {
		return err
	}
	switch {
	case h.Vault.IsZero():
		return fmt.Errorf("%w: no vault id", ErrHeader)
	case (h.Seq == 1) != (h.Prev == [32]byte{}):
		return fmt.Errorf("%w: prev at seq %d", ErrHeader, h.Seq)
	case uint64(h.Epoch) > h.Seq:
		return fmt.Errorf("%w: epoch %d at seq %d", ErrHeader, h.Epoch, h.Seq)
	case h.Write != WriteAuto && h.Write != WriteV4:
		return fmt.Errorf("%w: write mode", ErrHeader)
	}
	return nil
}

func parseKDF(f *fields, p *KDFParams) error {
	if f.text("alg") != kdfAlg {
		f.fail(fmt.Errorf("%w: kdf algorithm", ErrHeader))
	}
	f.number("v", kdfVersion, kdfVersion)
	// Any number is well-formed here; the bounds are a class of error of their own.
	m, t, par := f.number("m", 0, maxJSONInt), f.number("t", 0, maxJSONInt), f.number("p", 0, maxJSONInt)
	copy(p.Salt[:], f.bytes("salt", len(p.Salt)))
	p.Memory = uint32(min(m, math.MaxUint32))
	p.Time = uint32(min(t, math.MaxUint32))
	p.Parallelism = uint8(min(par, math.MaxUint8))
	return f.end()
}

func parsePW(f *fields, s *PasswordSlot) error {
	copy(s.Commit[:], f.bytes("commit", len(s.Commit)))
	copy(s.IV[:], f.bytes("iv", len(s.IV)))
	copy(s.CT[:], f.bytes("ct", len(s.CT)))
	return f.end()
}

func parseRec(f *fields, h *Header) error {
	if f == nil {
		return nil
	}
	h.Rec = &RecoverySlot{PK: f.bytes("pk", recoveryPKSize), CT: f.bytes("ct", recoveryCTSize)}
	return f.end()
}

func parsePrevVK(f *fields, h *Header) error {
	if f == nil {
		if h.Epoch > 1 {
			return fmt.Errorf("%w: no prevvk in epoch %d", ErrHeader, h.Epoch)
		}
		return nil
	}
	if h.Epoch < 2 {
		return fmt.Errorf("%w: prevvk in epoch %d", ErrHeader, h.Epoch)
	}
	p := &PrevVK{}
	copy(p.IV[:], f.bytes("iv", len(p.IV)))
	p.CT = f.bytes("ct", -1)
	if err := f.end(); err != nil {
		return err
	}
	if uint64(len(p.CT)) != uint64(h.Epoch-1)*keySize+tagSize {
		return fmt.Errorf("%w: prevvk of %d bytes in epoch %d", ErrHeader, len(p.CT), h.Epoch)
	}
	h.PrevVK = p
	return nil
}

func parseDevices(list []any, h *Header) error {
	if len(list) > maxDevices {
		return fmt.Errorf("%w: %d devices", ErrHeader, len(list))
	}
	seen := map[ID]bool{{}: true} // the zero id stands for no device
	for _, v := range list {
		f := newFields(v)
		d := Device{ID: f.id("id"), Revoked: f.flag("revoked")}
		copy(d.PK[:], f.bytes("pk", len(d.PK)))
		if err := f.end(); err != nil {
			return err
		}
		if seen[d.ID] {
			return fmt.Errorf("%w: device id used twice", ErrHeader)
		}
		if didkey.Weak(d.PK[:]) {
			return fmt.Errorf("%w: signatures under the key of a device prove nothing", ErrHeader)
		}
		seen[d.ID] = true
		h.Devices = append(h.Devices, d)
	}
	return nil
}

func parseCut(f *fields, h *Header) error {
	if f.err != nil || len(f.m) == 0 {
		return f.end()
	}
	h.Cut = make(map[ID]Cut, len(f.m))
	for key := range maps.Clone(f.m) {
		id, err := ParseUUID(key)
		f.check(err)
		e := f.object(key)
		c := Cut{Seq: e.number("seq", 1, maxJSONInt)}
		copy(c.Hash[:], e.bytes("hash", len(c.Hash)))
		f.check(e.end())
		h.Cut[id] = c
	}
	return f.end()
}

// VerifyNext decides whether h may follow prev, the newest header accepted. The
// same header again is fine. Errors: ErrIdentityMismatch (another vault),
// ErrRollback (older, or back to an earlier epoch), ErrFork (another header of
// the same seq, or one that follows another), ErrGap (fetch those between and
// try each in turn), ErrKDFParams (weaker than before), ErrHeader (a change that
// no honest writer makes).
func (h *SignedHeader) VerifyNext(prev *SignedHeader) error {
	switch {
	case h.Vault != prev.Vault || h.DID != prev.DID:
		return ErrIdentityMismatch
	case h.Seq < prev.Seq:
		return fmt.Errorf("%w: vault header %d after %d", ErrRollback, h.Seq, prev.Seq)
	case h.Seq == prev.Seq && h.Hash() == prev.Hash():
		return nil
	case h.Seq == prev.Seq:
		return fmt.Errorf("%w: vault header %d", ErrFork, h.Seq)
	case h.Seq > prev.Seq+1:
		return fmt.Errorf("%w: vault header %d after %d", ErrGap, h.Seq, prev.Seq)
	case h.Prev != prev.Hash():
		return fmt.Errorf("%w: vault header %d", ErrFork, h.Seq)
	case h.Epoch < prev.Epoch:
		return fmt.Errorf("%w: epoch %d after %d", ErrRollback, h.Epoch, prev.Epoch)
	case h.Epoch > prev.Epoch+1:
		return fmt.Errorf("%w: epoch %d after %d", ErrHeader, h.Epoch, prev.Epoch)
	case h.KDF.weakerThan(prev.KDF):
		return fmt.Errorf("%w: weaker than before", ErrKDFParams)
	}
	if h.Epoch == prev.Epoch {
		if err := h.verifySameEpoch(prev); err != nil {
			return err
		}
	}
	return h.verifyRoster(prev)
}

// verifySameEpoch: only an epoch change touches keys, password and cut.
func (h *SignedHeader) verifySameEpoch(prev *SignedHeader) error {
	if h.VKC != prev.VKC || h.KDF != prev.KDF || h.PW != prev.PW || !maps.Equal(h.Cut, prev.Cut) {
		return fmt.Errorf("%w: keys or cut changed within epoch %d", ErrHeader, h.Epoch)
	}
	return nil
}

// verifyRoster: a device keeps its key, and once revoked it stays so, with the
// cut it has.
func (h *SignedHeader) verifyRoster(prev *SignedHeader) error {
	for _, d := range h.Devices {
		old, known := prev.Roster(d.ID)
		switch {
		case !known:
		case old.PK != d.PK || old.Revoked && !d.Revoked:
			return fmt.Errorf("%w: device %s changed", ErrHeader, d.ID)
		case old.Revoked && h.Cut[d.ID] != prev.Cut[d.ID]:
			return fmt.Errorf("%w: the cut of revoked device %s changed", ErrHeader, d.ID)
		}
	}
	return nil
}
