package seal

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

// A backup (FORMAT.md "Backup") begins with a manifest that names every member
// with its length and hash. It has one spelling only, so that no two readers
// can see two backups in one file.
const (
	backupFormat  = "nt2backup"
	backupVersion = 1

	// MaxManifest bounds a manifest in bytes: 1.8 million contents.
	MaxManifest = 256 << 20
	// MaxHeaders bounds all headers of a backup together, in bytes.
	MaxHeaders = 64 << 20
	// BackupMACSize and BackupSigSize are the lengths of the members behind the
	// manifest.
	BackupMACSize = sha256.Size
	BackupSigSize = ed25519.SignatureSize

	maxSealedV4 = HeaderV4 + MaxV4 + tagSize*maxChunksV4
	maxEnvelope = (maxPayload+2)/3*4 + 256
	// maxCreated is the last second that has eleven octal digits.
	maxCreated = 1<<33 - 1
)

// Manifest is what a backup says of itself.
type Manifest struct {
	Vault   ID
	DID     string
	Device  ID    // that signed it
	Created int64 // s since 1970
	Epoch   uint32
	Heads   map[ID]Head // the last batch of every device
	State   [32]byte    // of the vault those give
	Missing []ID        // live contents that were not to be had, ascending
	Files   []BackupFile
}

// Encode writes the manifest. Errors: ErrFormat for one that ParseManifest
// would refuse, ErrTooLarge.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	w := &jsonWriter{}
	w.open("", '{')
	w.text("format", backupFormat)
	w.number("v", backupVersion)
	w.id("vault", m.Vault)
	w.text("did", m.DID)
	w.id("device", m.Device)
	w.number("created", uint64(m.Created))
	w.number("epoch", uint64(m.Epoch))
	w.heads("heads", m.Heads)
	w.bytes("state", m.State[:])
	w.open("missing", '[')
	for _, id := range m.Missing {
		w.next()
		w.hexItem(id)
	}
	w.close(']')
	w.open("files", '[')
	for i := range m.Files {
		f := &m.Files[i]
		w.open("", '{')
		w.text("p", f.Name())
		w.number("n", uint64(f.Size))
		w.bytes("h", f.Hash[:])
		w.close('}')
		if len(w.b) > MaxManifest {
			break
		}
	}
	w.close(']')
	w.close('}')
	if len(w.b) > MaxManifest {
		return nil, fmt.Errorf("%w: manifest of %d members", ErrTooLarge, len(m.Files))
	}
	return w.b, nil
}

// SignManifest signs the bytes of a manifest.
func SignManifest(s *DeviceSigner, manifest []byte) []byte {
	sum := sha256.Sum256(manifest)
	return s.Sign(ForBackup, sum[:])
}

// VerifyManifest checks what SignManifest made. Error: ErrSignature.
func VerifyManifest(pk ed25519.PublicKey, manifest, sig []byte) error {
	sum := sha256.Sum256(manifest)
	if err := VerifyDeviceSignature(pk, ForBackup, sum[:], sig); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// ManifestMAC authenticates the bytes of a manifest for who has the vault key.
func (e *EpochKeys) ManifestMAC(manifest []byte) []byte {
	h := hmac.New(sha256.New, e.mac.b[:])
	h.Write(manifest)
	return h.Sum(nil)
}

// CheckManifestMAC compares in constant time. Error: ErrAuth.
func (e *EpochKeys) CheckManifestMAC(manifest, mac []byte) error {
	if subtle.ConstantTimeCompare(e.ManifestMAC(manifest), mac) != 1 {
		return fmt.Errorf("manifest: %w", ErrAuth)
	}
	return nil
}
