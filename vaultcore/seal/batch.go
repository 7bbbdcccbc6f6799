package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Batch is a frame of the replica log: signed, chained to the one before, its
// body sealed. A checkpoint part has the same frame. What the fields say is
// authentic only after VerifySignature.
type Batch struct {
	Vault, Device ID
	Checkpoint    bool   // a checkpoint part, which is no link of the device's chain
	Seq           uint64 // from 1; of a checkpoint part: its number
	Epoch         uint32
	Prev          [32]byte // hash of the batch or part before, zero at 1
	Hash          [32]byte // of everything but the signature
	Bytes         []byte   // the whole frame: stored and sent as it is, never changed
}

// SealBatch makes the batch seq of the signer's chain, in the vault and epoch of
// the keys. prev is the hash of batch seq-1, zero for the first. What comes out
// passes ParseBatch and OpenBody. Errors: ErrFormat, ErrNewer (a body no reader
// takes), ErrTooLarge.
func SealBatch(keys *EpochKeys, s *DeviceSigner, seq uint64, prev [32]byte, body *Body) (*Batch, error) {
	if _, own := body.Seen[s.device]; own {
		return nil, fmt.Errorf("%w: own device in seen", ErrFormat)
	}
	if err := body.checkEpochs(keys.epoch); err != nil {
		return nil, err
	}
	plain, err := body.Encode()
	if err != nil {
		return nil, err
	}
	return sealFrame(keys, s, 0, seq, prev, plain)
}

func sealFrame(keys *EpochKeys, s *DeviceSigner, flags byte, seq uint64, prev [32]byte, plain []byte) (*Batch, error) {
	var iv [ivSize]byte
	rand.Read(iv[:]) // never fails: crypto/rand ends the program instead
	return sealFrameIV(keys, s, flags, seq, prev, plain, iv)
}

// sealFrameIV is sealFrame with the IV chosen: vectors need it, nobody else may.
func sealFrameIV(keys *EpochKeys, s *DeviceSigner, flags byte, seq uint64, prev [32]byte, plain []byte, iv [ivSize]byte) (*Batch, error) {
	if len(plain) > MaxBatch-minBatch {
		return nil, fmt.Errorf("%w: batch body of %d bytes", ErrTooLarge, len(plain))
	}
	b := make([]byte, 0, minBatch+len(plain))
	b = append(b, magicBatch...)
	b = append(b, batchVersion, flags, 0, 0)
	b = append(b, keys.vault[:]...)
	b = append(b, s.device[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, keys.epoch)
	b = binary.BigEndian.AppendUint32(b, uint32(len(plain)+tagSize))
	b = append(b, prev[:]...)
	aad := b
	b = append(b, iv[:]...)
	b = newGCM(keys.log.b[:]).Seal(b, iv[:], plain, aad)
	hash := sha256.Sum256(b)
	return parseFrame(keys.vault, append(b, s.Sign(ForBatch, hash[:])...), flags)
}

// ParseBatch takes a batch apart as far as that needs no key: the first step of
// receiving. The result keeps b, which must not change. Error: ErrFormat for
// anything but a batch of this vault, with ErrNewer for another version.
func ParseBatch(vault ID, b []byte) (*Batch, error) { return parseFrame(vault, b, 0) }

// ParsePart is ParseBatch for a checkpoint part.
func ParsePart(vault ID, b []byte) (*Batch, error) { return parseFrame(vault, b, flagCheckpoint) }

func parseFrame(vault ID, b []byte, flags byte) (*Batch, error) {
	if err := checkFrame(b, flags); err != nil {
		return nil, err
	}
	p := &Batch{
		Vault: ID(b[vaultOff:deviceOff]), Device: ID(b[deviceOff:seqOff]), Checkpoint: flags == flagCheckpoint,
		Seq: binary.BigEndian.Uint64(b[seqOff:]), Epoch: binary.BigEndian.Uint32(b[epochOff:]),
		Prev: [32]byte(b[prevOff:batchIVOff]), Hash: sha256.Sum256(b[:len(b)-sigSize]), Bytes: b,
	}
	switch {
	case p.Vault != vault:
		return nil, fmt.Errorf("%w: batch of another vault", ErrFormat)
	case p.Device.IsZero():
		return nil, fmt.Errorf("%w: batch of no device", ErrFormat)
	case p.Seq < 1 || p.Seq > maxJSONInt: // it is named in JSON later
		return nil, fmt.Errorf("%w: batch %d", ErrFormat, p.Seq)
	case p.Epoch < 1:
		return nil, fmt.Errorf("%w: batch of epoch 0", ErrFormat)
	case (p.Seq == 1) != (p.Prev == [32]byte{}):
		return nil, fmt.Errorf("%w: previous hash of batch %d", ErrFormat, p.Seq)
	}
	return p, nil
}

// checkFrame checks what surrounds the fields.
func checkFrame(b []byte, flags byte) error {
	switch {
	case len(b) < minBatch || len(b) > MaxBatch:
		return fmt.Errorf("%w: batch of %d bytes", ErrFormat, len(b))
	case !bytes.HasPrefix(b, []byte(magicBatch)):
		return fmt.Errorf("%w: no batch", ErrFormat)
	case b[versionOff] != batchVersion:
		return fmt.Errorf("%w: batch version %d: %w", ErrFormat, b[versionOff], ErrNewer)
	case b[flagsOff] != flags:
		return fmt.Errorf("%w: batch flags %d", ErrFormat, b[flagsOff])
	case b[flagsOff+1] != 0 || b[flagsOff+2] != 0:
		return fmt.Errorf("%w: batch header", ErrFormat)
	case uint64(binary.BigEndian.Uint32(b[sealedLenOff:])) != uint64(len(b)-batchHead-sigSize):
		return fmt.Errorf("%w: length of a batch body", ErrFormat)
	}
	return nil
}

// Head names this batch.
func (b *Batch) Head() Head { return Head{Seq: b.Seq, Hash: b.Hash} }

// Follows decides whether b may come next in the chain that ends in head (zero
// for an empty one). Errors: ErrGap (fetch those between), ErrFork (a link of
// another history, or another batch of the head's number; proof of anything only
// once the signature is verified), ErrRollback for a number at or below the head,
// which the caller compares with what it holds.
func (b *Batch) Follows(head Head) error {
	switch {
	case b.Seq == head.Seq && b.Hash != head.Hash:
		return fmt.Errorf("%w: batch %d of device %s", ErrFork, b.Seq, b.Device)
	case b.Seq <= head.Seq:
		return fmt.Errorf("%w: batch %d of device %s", ErrRollback, b.Seq, b.Device)
	case b.Seq > head.Seq+1:
		return fmt.Errorf("%w: batch %d of device %s after %d", ErrGap, b.Seq, b.Device, head.Seq)
	case b.Prev != head.Hash:
		return fmt.Errorf("%w: before batch %d of device %s", ErrFork, b.Seq, b.Device)
	}
	return nil
}

// VerifySignature checks the batch under the key the roster has for its device.
// Error: ErrSignature.
func (b *Batch) VerifySignature(pk ed25519.PublicKey) error {
	sig := b.Bytes[len(b.Bytes)-sigSize:]
	if err := VerifyDeviceSignature(pk, ForBatch, b.Hash[:], sig); err != nil {
		return fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, err)
	}
	return nil
}

// Open returns the body. Error: ErrAuth, also under the keys of another vault or
// epoch than the frame names.
func (b *Batch) Open(keys *EpochKeys) ([]byte, error) {
	if b.Vault != keys.vault || b.Epoch != keys.epoch {
		return nil, fmt.Errorf("%w: batch %d of device %s under the keys of epoch %d", ErrAuth, b.Seq, b.Device, keys.epoch)
	}
	sealed := b.Bytes[batchHead : len(b.Bytes)-sigSize]
	plain, err := newGCM(keys.log.b[:]).Open(nil, b.Bytes[batchIVOff:batchHead], sealed, b.Bytes[:batchIVOff])
	if err != nil {
		return nil, fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, ErrAuth)
	}
	return plain, nil
}

// OpenBody opens a batch and parses its body. Errors: ErrAuth, ErrFormat,
// ErrNewer; a checkpoint part is ErrFormat.
func (b *Batch) OpenBody(keys *EpochKeys) (*Body, error) {
	if b.Checkpoint {
		return nil, fmt.Errorf("%w: checkpoint part in a chain", ErrFormat)
	}
	plain, err := b.Open(keys)
	if err != nil {
		return nil, err
	}
	body, err := ParseBody(plain)
	if err != nil {
		return nil, fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, err)
	}
	if err := body.checkEpochs(b.Epoch); err != nil {
		return nil, fmt.Errorf("batch %d of device %s: %w", b.Seq, b.Device, err)
	}
	if _, own := body.Seen[b.Device]; own {
		return nil, fmt.Errorf("%w: own device in seen", ErrFormat)
	}
	return body, nil
}
