package syncer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// MarkerKey names the object that says whose place this is.
const MarkerKey = "vault"

// Longest small objects, in bytes, by kind of key.
const (
	maxMarker = 4 << 10
	maxHeader = 1 << 20
	maxFrame  = 4 << 20 // batches and checkpoint parts
	maxPair   = 8 << 10
)

// KeyKind says what a key names.
type KeyKind int

// The kinds of small objects.
const (
	KeyMarker KeyKind = iota + 1
	KeyHeader
	KeyBatch
	KeyCheckpoint
	KeyPair
)

// Key is a key taken apart.
type Key struct {
	Kind   KeyKind
	Device string // of a batch or checkpoint
	Seq    uint64 // of a header or batch; author's last batch of a checkpoint
	Name   string // of a checkpoint, or a pairing's id
	Part   string // of a checkpoint: "1", "2", … and "m"; of a pairing: "q", "a"
}

// Limit is the longest content under the key, in bytes.
func (k Key) Limit() int64 {
	switch k.Kind {
	case KeyMarker:
		return maxMarker
	case KeyHeader:
		return maxHeader
	case KeyPair:
		return maxPair
	}
	return maxFrame
}

// HeaderKey names the header of that number.
func HeaderKey(seq uint64) string { return fmt.Sprintf("headers/%020d.json", seq) }

// BatchKey names a batch of a device.
func BatchKey(device string, seq uint64) string { return fmt.Sprintf("log/%s/%020d.vdb", device, seq) }

// CheckpointName is that of the checkpoint a device made with its batch seq as
// the last.
func CheckpointName(device string, seq uint64) string { return fmt.Sprintf("%020d-%s", seq, device) }

// CheckpointKey names a part of a checkpoint, from 1.
func CheckpointKey(name string, part int) string { return fmt.Sprintf("checkpoints/%s/%d", name, part) }

// CheckpointEnd names the last part of a checkpoint, which is written last.
func CheckpointEnd(name string) string { return "checkpoints/" + name + "/m" }

// PairQuestion and PairAnswer name the two messages of a pairing.
func PairQuestion(id string) string { return "pair/" + id + "/q" }

// PairAnswer names the answer to PairQuestion.
func PairAnswer(id string) string { return "pair/" + id + "/a" }

// ParseKey takes a key of a small object apart. ErrKey for anything else: there
// is one way to write each.
func ParseKey(key string) (Key, error) {
	k, ok := parseKey(strings.Split(key, "/"))
	if !ok {
		return Key{}, fmt.Errorf("%w: %.80q", ErrKey, key)
	}
	return k, nil
}

func parseKey(p []string) (Key, bool) {
	switch {
	case len(p) == 1 && p[0] == MarkerKey:
		return Key{Kind: KeyMarker}, true
	case len(p) == 2 && p[0] == "headers":
		digits, ok := strings.CutSuffix(p[1], ".json")
		seq, valid := parseSeq(digits)
		return Key{Kind: KeyHeader, Seq: seq}, ok && valid
	case len(p) == 3 && p[0] == "log":
		digits, ok := strings.CutSuffix(p[2], ".vdb")
		seq, valid := parseSeq(digits)
		return Key{Kind: KeyBatch, Device: p[1], Seq: seq}, ok && valid && ValidID(p[1])
	case len(p) == 3 && p[0] == "checkpoints":
		device, seq, ok := ParseCheckpointName(p[1])
		return Key{Kind: KeyCheckpoint, Device: device, Seq: seq, Name: p[1], Part: p[2]}, ok && validPart(p[2])
	case len(p) == 3 && p[0] == "pair":
		return Key{Kind: KeyPair, Name: p[1], Part: p[2]}, ValidBlob(p[1]) && (p[2] == "q" || p[2] == "a")
	}
	return Key{}, false
}

// ParseCheckpointName is the inverse of CheckpointName.
func ParseCheckpointName(name string) (device string, seq uint64, ok bool) {
	digits, device, _ := strings.Cut(name, "-")
	seq, ok = parseSeq(digits)
	return device, seq, ok && ValidID(device)
}

func parseSeq(digits string) (uint64, bool) {
	if len(digits) != 20 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil && seq > 0
}

func validPart(part string) bool {
	n, err := strconv.ParseUint(part, 10, 31)
	return part == "m" || err == nil && n > 0 && strconv.FormatUint(n, 10) == part
}

// ValidID says whether it is the text of an id of a vault or device: a UUID in
// lower case.
func ValidID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash && id[i] != '-' || !dash && !hexDigit(id[i]) {
			return false
		}
	}
	return true
}

// ValidBlob says whether it is the text of a blob id: 32 hex digits in lower
// case.
func ValidBlob(id string) bool {
	if len(id) != 32 {
		return false
	}
	for i := range len(id) {
		if !hexDigit(id[i]) {
			return false
		}
	}
	return true
}

func hexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

// Marker is the content of MarkerKey.
type Marker struct {
	Version int    `json:"v"`
	Vault   string `json:"vault"`
	Remote  string `json:"remote"` // 32 hex digits, drawn when sync was enabled
}

// Encode gives the bytes of the marker.
func (m Marker) Encode() []byte {
	m.Version = 1
	b, err := json.Marshal(m)
	if err != nil {
		panic("syncer: a marker that is no JSON: " + err.Error()) // three plain fields
	}
	return b
}

// ParseMarker reads a marker; ErrForeign for anything but one of version 1.
func ParseMarker(b []byte) (Marker, error) {
	var m Marker
	if err := json.Unmarshal(b, &m); err != nil || m.Version != 1 || !ValidID(m.Vault) || !ValidBlob(m.Remote) {
		return Marker{}, fmt.Errorf("%w: its marker cannot be read", ErrForeign)
	}
	return m, nil
}
