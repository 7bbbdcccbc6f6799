package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
)

// A draft log is a file of records, appended only (FORMAT.md "Draft log").
const (
	labelDraft = "vaultdrive/v1/draft\x00"

	draftDataOff  = 4 + ivSize + 8       // u32 n ‖ IV ‖ u64 offset
	minDraftBytes = ivSize + 8 + tagSize // least n

	// DraftRecordOverhead is what a record adds to its data.
	DraftRecordOverhead = draftDataOff + tagSize
	// MaxDraftData is the most data a record holds.
	MaxDraftData = 1 << 20
	// MaxDraftRecords is how often one key may seal; then a new log is due.
	MaxDraftRecords = 1 << 31
)

// DraftLog seals and opens the records of one draft log. It is safe for
// concurrent use; the caller numbers the records.
type DraftLog struct {
	redacted
	aead  cipher.AEAD
	vault ID
	draft ID
}

// NewDraftLog prepares the log of a draft under its own key sk. A log that was
// found after a crash is read, never continued.
func NewDraftLog(sk *Key, vault, draft ID) *DraftLog {
	return &DraftLog{aead: newGCM(sk.b[:]), vault: vault, draft: draft}
}

// SealRecord appends record r, data at offset off of the file, to dst. A record
// without data says that the file is off bytes long. No allocation when dst has
// len(data)+DraftRecordOverhead spare bytes, which data must not overlap. data
// is at most MaxDraftData bytes, r below MaxDraftRecords.
func (d *DraftLog) SealRecord(dst []byte, r, off uint64, data []byte) []byte {
	if len(data) > MaxDraftData || r >= MaxDraftRecords {
		panic("seal: draft record out of bounds")
	}
	dst = slices.Grow(dst, len(data)+DraftRecordOverhead)
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(minDraftBytes+len(data)))
	dst = dst[:start+4+ivSize]
	iv := dst[start+4:]
	rand.Read(iv)
	// Offset and data are laid out where their ciphertext goes, and sealed in place.
	body := append(binary.BigEndian.AppendUint64(dst, off), data...)[len(dst):]
	s := getScratch()
	defer s.put()
	return d.aead.Seal(dst, iv, body, d.aad(s, r))
}

// OpenRecord opens record r, which rec starts with, in place: data lies in rec.
// used is the length of the record. On error rec's record is undefined.
// Errors: ErrTruncated when rec ends within the record, ErrAuth.
func (d *DraftLog) OpenRecord(r uint64, rec []byte) (off uint64, data []byte, used int, err error) {
	if len(rec) < 4 {
		return 0, nil, 0, fmt.Errorf("draft record %d: %w", r, ErrTruncated)
	}
	n := int64(binary.BigEndian.Uint32(rec))
	if n < int64(minDraftBytes) || n > int64(minDraftBytes+MaxDraftData) {
		return 0, nil, 0, fmt.Errorf("draft record %d: length: %w", r, ErrAuth)
	}
	used = 4 + int(n)
	if len(rec) < used {
		return 0, nil, 0, fmt.Errorf("draft record %d: %w", r, ErrTruncated)
	}
	s := getScratch()
	defer s.put()
	iv, body := rec[4:4+ivSize], rec[4+ivSize:used]
	plain, err := d.aead.Open(body[:0], iv, body, d.aad(s, r))
	if err != nil {
		return 0, nil, 0, fmt.Errorf("draft record %d: %w", r, ErrAuth)
	}
	return binary.BigEndian.Uint64(plain), plain[8:len(plain):len(plain)], used, nil
}

// aad builds the associated data of record r in s.
func (d *DraftLog) aad(s *scratch, r uint64) []byte {
	b := append(s.aad[:0], labelDraft...)
	b = append(b, d.vault[:]...)
	b = append(b, d.draft[:]...)
	return binary.BigEndian.AppendUint64(b, r)
}
