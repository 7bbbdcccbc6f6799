package api

import (
	"encoding/json"
	"reflect"
	"time"
)

// Time is RFC 3339 in UTC with milliseconds, as the seed writes it.
type Time time.Time

const timeLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes the one form there is.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(t).UTC().Format(timeLayout))
}

// UnmarshalJSON reads that form only.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.Parse(timeLayout, s)
	if err != nil {
		// As a value of the wrong type it is named by its key.
		return &json.UnmarshalTypeError{Value: "string that is no time", Type: reflect.TypeFor[Time]()}
	}
	*t = Time(v)
	return nil
}

// WrappedKey is a file key wrapped by the vault's encKey (CRYPTO.md section 4).
type WrappedKey struct {
	IV         string `json:"iv"`         // 12 bytes, base64
	Ciphertext string `json:"ciphertext"` // 48 bytes, base64
}

// Row is what the server knows of an attachment: the seed's fields first, then
// ours. Everything encrypted is opaque to it.
type Row struct {
	ID                   string      `json:"id"`
	ParentID             string      `json:"parent_id"`
	ParentType           string      `json:"parent_type"` // password, note or item
	FileNameEncrypted    string      `json:"file_name_encrypted"`
	ContentTypeEncrypted string      `json:"content_type_encrypted"`
	SizeBytes            int64       `json:"size_bytes"`
	WrappedFileKey       *WrappedKey `json:"wrapped_file_key"`
	EncryptionVersion    int         `json:"encryption_version"`
	CreatedAt            Time        `json:"created_at"`

	VaultID     string  `json:"vault_id"`
	BlobID      string  `json:"blob_id"`
	StoredBytes int64   `json:"stored_bytes"`
	SHA256      string  `json:"sha256"`  // 64 hex digits
	Epoch       *uint32 `json:"epoch"`   // of the wrapped key; null when a client did not say
	Version     int64   `json:"version"` // the server's counter for the row
	State       string  `json:"state"`   // StateLive or StateDeleted
	By          string  `json:"by"`      // id of a device, or ByClient
}

// States of a row, a parent and a blob.
const (
	StateLive    = "live"
	StateDeleted = "deleted"

	BlobPresent  = "present"
	BlobReleased = "released"
	BlobMissing  = "missing"
	BlobPurged   = "purged"

	ByClient = "client"
)

// Download is the seed's answer: a row with the content. A version 4 row has no
// content here; its bytes are read by range.
type Download struct {
	Row
	EncryptedContent string `json:"encrypted_content,omitempty"`
}

// List is a page of attachments; Next is the cursor of the next one.
type List struct {
	Attachments []Row   `json:"attachments"`
	Next        *string `json:"next"`
}

// UploadJSON is the seed's upload, without its content, which is streamed past
// this type. Epoch is ours and optional.
type UploadJSON struct {
	ParentID             string      `json:"parent_id"`
	ParentType           string      `json:"parent_type"`
	FileNameEncrypted    SealedText  `json:"file_name_encrypted"`
	ContentTypeEncrypted SealedText  `json:"content_type_encrypted"`
	SizeBytes            int64       `json:"size_bytes"`
	WrappedFileKey       *WrappedKey `json:"wrapped_file_key"`
	EncryptionVersion    int         `json:"encryption_version"`
	Epoch                *uint32     `json:"epoch,omitempty"`
}

// Metadata is the first part of a multipart upload, and the body that begins an
// upload in parts.
type Metadata struct {
	BlobID            string   `json:"blob_id"`
	StoredBytes       int64    `json:"stored_bytes"`
	SHA256            string   `json:"sha256"`
	SizeBytes         int64    `json:"size_bytes"`
	EncryptionVersion int      `json:"encryption_version"`
	Row               *Row     `json:"row"` // nil for bytes alone
	At                int64    `json:"at"`  // feed number that the writer had applied
	Release           []string `json:"release,omitempty"`
}

// Uploaded answers an upload. The bytes are stored even if the row was refused.
type Uploaded struct {
	*Row
	BlobID   string `json:"blob_id"`
	RowError *Error `json:"row_error,omitempty"`
}

// UploadState says how far an upload in parts came.
type UploadState struct {
	Upload   string `json:"upload"`
	PartSize int64  `json:"part_size"`
	Parts    []int  `json:"parts"` // that are here
}

// Parent is a vault item that attachments hang on.
type Parent struct {
	Type           string `json:"type"`
	ID             string `json:"id"`
	TitleEncrypted string `json:"title_encrypted"`
	Epoch          uint32 `json:"epoch"`
	State          string `json:"state"`
	By             string `json:"by"`
}

// PutParent is the body of PUT parent.
type PutParent struct {
	TitleEncrypted string `json:"title_encrypted"`
	Epoch          uint32 `json:"epoch"`
}

// Parents is a page of parents.
type Parents struct {
	Parents []Parent `json:"parents"`
	Next    *string  `json:"next"`
}

// PutRows writes the projection of main tips.
type PutRows struct {
	At      int64    `json:"at"`
	Rows    []Row    `json:"rows"`
	Parents []Parent `json:"parents"`
}

// RowResult says what became of one row or parent.
type RowResult struct {
	ID      string `json:"id"`
	Version int64  `json:"version,omitempty"`
	Error   *Error `json:"row_error,omitempty"`
}

// PutRowsAnswer has one result for each, in order: rows, then parents.
type PutRowsAnswer struct {
	Results []RowResult `json:"results"`
}

// BlobList is a page of what is stored, and the body of release and claim.
type BlobList struct {
	Blobs []Blob  `json:"blobs"`
	Next  *string `json:"next"`
}

// Blob is one stored blob.
type Blob struct {
	BlobID      string `json:"blob_id"`
	StoredBytes int64  `json:"stored_bytes"`
	State       string `json:"state"`
}

// BlobIDs names blobs.
type BlobIDs struct {
	Blobs []string `json:"blobs"`
}

// BlobResults says what became of each blob of a release or claim.
type BlobResults struct {
	Results []Blob `json:"results"`
}

// Register makes an account of a vault: its first header, and SHA-256 of its
// boot token in hex.
type Register struct {
	Header json.RawMessage `json:"header"`
	Boot   string          `json:"boot"`
	Invite string          `json:"invite,omitempty"`
}

// Registered answers it.
type Registered struct {
	Vault  string `json:"vault"`
	Remote string `json:"remote"` // 32 hex digits
	Plan   string `json:"plan"`
}

// PutBoot replaces the boot token's hash.
type PutBoot struct {
	Boot string `json:"boot"`
}

// AskChallenge begins a login; Device is the zero UUID for a page.
type AskChallenge struct {
	DID    string `json:"did"`
	Device string `json:"device"`
}

// Challenge is a nonce to sign, base64, and until when.
type Challenge struct {
	Nonce string `json:"nonce"`
	Exp   int64  `json:"exp"` // ms since 1970
}

// Login is the signed nonce.
type Login struct {
	DID    string `json:"did"`
	Device string `json:"device"`
	Nonce  string `json:"nonce"`
	IAT    int64  `json:"iat"` // ms since 1970
	Exp    int64  `json:"exp"`
	Sig    string `json:"sig"` // base64, 64 bytes
}

// Session is a bearer token, base64url without padding.
type Session struct {
	Token string `json:"token"`
	Exp   int64  `json:"exp"` // ms since 1970
	Vault string `json:"vault"`
}

// Kinds of changes.
const (
	KindHeader     = "header"
	KindBatch      = "batch"
	KindRow        = "row"
	KindParent     = "parent"
	KindBlob       = "blob"
	KindCheckpoint = "checkpoint"
)

// Change is an entry of the feed; which fields it has goes by Kind.
type Change struct {
	N      int64   `json:"n"`
	Kind   string  `json:"kind"`
	Seq    uint64  `json:"seq,omitempty"`
	Device string  `json:"device,omitempty"`
	Len    int64   `json:"len,omitempty"`
	SHA256 string  `json:"sha256,omitempty"`
	Row    *Row    `json:"row,omitempty"`
	Parent *Parent `json:"parent,omitempty"`
	BlobID string  `json:"blob_id,omitempty"`
	State  string  `json:"state,omitempty"`
	Name   string  `json:"name,omitempty"`
}

// Changes is a page of the feed, ascending, one entry for each subject.
type Changes struct {
	Head    int64    `json:"head"`
	More    bool     `json:"more"`
	Changes []Change `json:"changes"`
}

// Pushed answers a batch, checkpoint part or header: its number in the feed.
type Pushed struct {
	N int64 `json:"n"`
}

// Collect asks to drop batches below the heads of the base checkpoint.
type Collect struct {
	Heads map[string]uint64 `json:"heads"`
}

// Collected says how many batches and parts of checkpoints went.
type Collected struct {
	Removed int `json:"removed"`
}

// Plans.
const (
	PlanFree    = "free"
	PlanPremium = "premium"
)

// Usage says what an account has and may have.
type Usage struct {
	Remote string `json:"remote"`
	Plan   string `json:"plan"`
	Quota
	Trash     int64  `json:"trash"`      // bytes
	Log       int64  `json:"log"`        // bytes of batches, headers, checkpoints, names and titles
	FileLimit int64  `json:"file_limit"` // bytes of plaintext
	Versions  []int  `json:"versions"`   // of encryption that are taken
	Gates     []Gate `json:"gates"`
}

// Gate says how much of a class of calls is left.
type Gate struct {
	Class  string `json:"class"`
	Limit  int64  `json:"limit"`  // in Window, of calls or bytes
	Used   int64  `json:"used"`   // of it
	Window int64  `json:"window"` // seconds
	Reset  int64  `json:"reset"`  // ms since 1970, when the next one is free
}
