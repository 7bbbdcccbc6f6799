package api

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// What is clear in a header and in a batch: a blind server checks no more, and a
// client believes none of it before it has checked the rest.

// ErrHeader: not a header as far as that can be seen without a key.
var ErrHeader = errors.New("not a vault header")

// ErrBatch: not a batch or part of a checkpoint, by the same measure.
var ErrBatch = errors.New("not a batch")

// ClearHeader is what a header says in clear (CRYPTO.md section 3).
type ClearHeader struct {
	Vault   string
	DID     string
	Seq     uint64
	Prev    [32]byte
	Epoch   uint32
	Devices []ClearDevice
	Cut     map[string]ClearHead
	Hash    [32]byte // SHA-256 of the payload
}

// ClearDevice is an entry of the roster.
type ClearDevice struct {
	ID      string
	PK      [32]byte
	Revoked bool
}

// ClearHead names a batch.
type ClearHead struct {
	Seq  uint64
	Hash [32]byte
}

const (
	labelHeader = "vaultdrive/v1/header\x00"
	labelBatch  = "vaultdrive/v1/replica-batch\x00"
)

type envelopeJSON struct {
	Payload string `json:"payload"`
	Sig     string `json:"sig"`
}

type headerJSON struct {
	V       int    `json:"v"`
	Vault   string `json:"vault"`
	DID     string `json:"did"`
	Seq     uint64 `json:"seq"`
	Prev    string `json:"prev"`
	Epoch   uint32 `json:"epoch"`
	Devices []struct {
		ID      string `json:"id"`
		PK      string `json:"pk"`
		Revoked bool   `json:"revoked"`
	} `json:"devices"`
	Cut map[string]struct {
		Seq  uint64 `json:"seq"`
		Hash string `json:"hash"`
	} `json:"cut"`
}

// ParseHeader reads an envelope and verifies its signature under the DID that
// it names. Error: ErrHeader.
func ParseHeader(envelope []byte) (*ClearHeader, error) {
	if len(envelope) > MaxHeader {
		return nil, fmt.Errorf("%w: %d bytes", ErrHeader, len(envelope))
	}
	var e envelopeJSON
	if err := Unmarshal(envelope, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	payload, err := Decode64(e.Payload, -1)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	sig, err := Decode64(e.Sig, ed25519.SignatureSize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	var in headerJSON
	if err := Unmarshal(payload, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	h, err := in.clear()
	if err != nil {
		return nil, err
	}
	pk, err := didkey.Parse(h.DID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if !ed25519.Verify(pk, append([]byte(labelHeader), payload...), sig) {
		return nil, fmt.Errorf("%w: signature", ErrHeader)
	}
	h.Hash = sha256.Sum256(payload)
	return h, nil
}

func (in *headerJSON) clear() (*ClearHeader, error) {
	h := &ClearHeader{Vault: in.Vault, DID: in.DID, Seq: in.Seq, Epoch: in.Epoch, Cut: make(map[string]ClearHead, len(in.Cut))}
	prev, err := Decode64(in.Prev, len(h.Prev))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: prev: %w", ErrHeader, err)
	case in.V != 1:
		return nil, fmt.Errorf("%w: version %d", ErrHeader, in.V)
	case !ValidID(in.Vault) || in.Vault == ZeroID:
		return nil, fmt.Errorf("%w: vault id", ErrHeader)
	case in.Seq < 1 || in.Seq > maxExact || in.Epoch < 1 || uint64(in.Epoch) > in.Seq:
		return nil, fmt.Errorf("%w: seq %d, epoch %d", ErrHeader, in.Seq, in.Epoch)
	case len(in.Devices) > MaxDevices:
		return nil, fmt.Errorf("%w: %d devices", ErrHeader, len(in.Devices))
	}
	copy(h.Prev[:], prev)
	if (h.Seq == 1) != (h.Prev == [32]byte{}) {
		return nil, fmt.Errorf("%w: prev at seq %d", ErrHeader, h.Seq)
	}
	if err := in.roster(h); err != nil {
		return nil, err
	}
	return h, nil
}

func (in *headerJSON) roster(h *ClearHeader) error {
	seen := map[string]bool{ZeroID: true}
	for _, d := range in.Devices {
		pk, err := Decode64(d.PK, ed25519.PublicKeySize)
		if err != nil || !ValidID(d.ID) || seen[d.ID] || didkey.Weak(pk) {
			return fmt.Errorf("%w: device %.40q", ErrHeader, d.ID)
		}
		seen[d.ID] = true
		h.Devices = append(h.Devices, ClearDevice{ID: d.ID, PK: [32]byte(pk), Revoked: d.Revoked})
	}
	for id, c := range in.Cut {
		hash, err := Decode64(c.Hash, sha256.Size)
		if err != nil || !ValidID(id) || c.Seq < 1 || c.Seq > maxExact {
			return fmt.Errorf("%w: cut of %.40q", ErrHeader, id)
		}
		h.Cut[id] = ClearHead{Seq: c.Seq, Hash: [32]byte(hash)}
	}
	return nil
}

// maxExact is the largest integer that every JSON reader takes exactly.
const maxExact = 1<<53 - 1

// Device finds an entry of the roster.
func (h *ClearHeader) Device(id string) (ClearDevice, bool) {
	for _, d := range h.Devices {
		if d.ID == id {
			return d, true
		}
	}
	return ClearDevice{}, false
}

// Follows says whether h may come right after prev: same vault and identity,
// next number, and the hash of prev. Error: ErrHeader.
func (h *ClearHeader) Follows(prev *ClearHeader) error {
	if h.Vault != prev.Vault || h.DID != prev.DID || h.Seq != prev.Seq+1 || h.Prev != prev.Hash || h.Epoch < prev.Epoch {
		return fmt.Errorf("%w: %d does not follow %d", ErrHeader, h.Seq, prev.Seq)
	}
	return nil
}

// ClearBatch is what a frame says in clear (CRYPTO.md section 7).
type ClearBatch struct {
	Vault, Device string
	Checkpoint    bool
	Seq           uint64
	Epoch         uint32
	Prev, Hash    [32]byte
	sig           []byte
}

// Offsets of the frame.
const (
	frameMagic   = "VDRB\x01"
	offFlags     = 5
	offVault     = 8
	offDevice    = 24
	offSeq       = 40
	offEpoch     = 48
	offSealed    = 52
	offPrev      = 56
	offIV        = 88
	offBody      = 100
	minFrame     = offBody + tag4 + ed25519.SignatureSize
	flagCheckpnt = 1
)

// ParseBatch takes a frame apart as far as that needs no key. Error: ErrBatch.
func ParseBatch(b []byte) (*ClearBatch, error) {
	switch {
	case len(b) < minFrame || len(b) > MaxFrame:
		return nil, fmt.Errorf("%w: %d bytes", ErrBatch, len(b))
	case string(b[:offFlags]) != frameMagic || b[offFlags] > flagCheckpnt || b[6] != 0 || b[7] != 0:
		return nil, fmt.Errorf("%w: version or flags", ErrBatch)
	case uint64(binary.BigEndian.Uint32(b[offSealed:])) != uint64(len(b)-offBody-ed25519.SignatureSize):
		return nil, fmt.Errorf("%w: length", ErrBatch)
	}
	end := len(b) - ed25519.SignatureSize
	p := &ClearBatch{
		Vault: formatID([16]byte(b[offVault:])), Device: formatID([16]byte(b[offDevice:])), Checkpoint: b[offFlags] == flagCheckpnt,
		Seq: binary.BigEndian.Uint64(b[offSeq:]), Epoch: binary.BigEndian.Uint32(b[offEpoch:]),
		Prev: [32]byte(b[offPrev:offIV]), Hash: sha256.Sum256(b[:end]), sig: b[end:],
	}
	if p.Seq < 1 || p.Seq > maxExact || p.Epoch < 1 || (p.Seq == 1) != (p.Prev == [32]byte{}) {
		return nil, fmt.Errorf("%w: number %d", ErrBatch, p.Seq)
	}
	return p, nil
}

// Verify checks the signature under the roster's key of the device.
func (b *ClearBatch) Verify(pk [32]byte) error {
	if !ed25519.Verify(pk[:], append([]byte(labelBatch), b.Hash[:]...), b.sig) {
		return fmt.Errorf("%w: signature", ErrBatch)
	}
	return nil
}

// Sealed3 reads the wire form of a name or MIME type, an IV and a ciphertext in
// a JSON string, as far as that needs no key.
func Sealed3(text string) error {
	var k WrappedKey
	if err := Unmarshal([]byte(text), &k); err != nil {
		return err
	}
	if _, err := Decode64(k.IV, 12); err != nil {
		return err
	}
	ct, err := Decode64(k.Ciphertext, -1)
	if err == nil && len(ct) < tag4 {
		err = fmt.Errorf("%w: ciphertext of %d bytes", ErrJSON, len(ct))
	}
	return err
}

// Check says whether it can be a wrapped file key.
func (k *WrappedKey) Check() error {
	if k == nil {
		return fmt.Errorf("%w: no key", ErrJSON)
	}
	if _, err := Decode64(k.IV, 12); err != nil {
		return err
	}
	_, err := Decode64(k.Ciphertext, 48)
	return err
}

// SealedText is a name or MIME type of an upload: JSON in a string. A client may
// send the object itself; it is kept as the string.
type SealedText string

// UnmarshalJSON takes both forms.
func (t *SealedText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var out bytes.Buffer
		if err := json.Compact(&out, b); err != nil {
			return err
		}
		*t = SealedText(out.String())
		return nil
	}
	return json.Unmarshal(b, (*string)(t))
}
