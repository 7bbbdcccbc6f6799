package integration

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// webVault is a vault with an account on a server and one device, as the server
// sees it: without a drive, so that a test decides each row.
type webVault struct {
	t       *testing.T
	url     string
	id      seal.ID
	boot    seal.ID
	ids     seal.Key
	device  seal.ID
	dsk     seal.Key
	header  *seal.SignedHeader
	keys    []*seal.EpochKeys // of epoch 1 and on
	address string
	token   string // of the device
}

// newWebVault registers a vault whose password was changed once: it has two
// epochs.
func newWebVault(t *testing.T, url string) *webVault {
	t.Helper()
	v := &webVault{t: t, url: url, id: seal.NewID(), boot: seal.NewID(), ids: seal.NewKey(), device: seal.NewID(), dsk: seal.NewKey()}
	v.address = seal.FormatAddress(v.id, v.boot, seal.DIDFromSeed(&v.ids))
	vk, newVK := seal.NewKey(), seal.NewKey()
	roster := []seal.Device{{ID: v.device, PK: [32]byte(seal.PublicFromSeed(&v.dsk))}}
	kdf := seal.LowKDF()
	var err error
	v.header, err = seal.NewHeader(v.id, &v.ids, &vk, v.kek("the password before", kdf), kdf, roster, seal.WriteAuto)
	must(t, err)
	sum := sha256.Sum256(v.boot[:])
	v.want(201, "POST", api.PathVaults, api.Register{Header: v.header.Envelope(), Boot: hex.EncodeToString(sum[:])}, nil)
	kdf = seal.LowKDF()
	v.header, err = seal.NewEpoch(v.header, &v.ids, &vk, &newVK, v.kek(testPassword, kdf), kdf)
	must(t, err)
	v.want(201, "PUT", api.PathHeader(v.id.UUID(), 2), json.RawMessage(v.header.Envelope()), nil)
	v.keys = []*seal.EpochKeys{seal.DeriveEpoch(&vk, v.id, 1), seal.DeriveEpoch(&newVK, v.id, 2)}
	v.login()
	return v
}

func (v *webVault) kek(password string, kdf seal.KDFParams) *seal.Key {
	k, err := seal.DeriveKEK([]byte(password), kdf)
	must(v.t, err)
	return &k
}

// login gives the device a session.
func (v *webVault) login() {
	v.t.Helper()
	var c api.Challenge
	v.want(200, "POST", api.PathChallenge, api.AskChallenge{DID: v.header.DID, Device: v.device.UUID()}, &c)
	nonce, err := api.Decode64(c.Nonce, api.NonceSize)
	must(v.t, err)
	now := time.Now().UnixMilli()
	p := api.LoginProof{Audience: v.url, DID: v.header.DID, Device: v.device, Nonce: [api.NonceSize]byte(nonce), IssuedAt: now, Expires: now + 60000}
	sig := ed25519.Sign(ed25519.NewKeyFromSeed(v.dsk.Bytes()), p.Message())
	var s api.Session
	v.want(201, "POST", api.PathSession, api.Login{DID: p.DID, Device: v.device.UUID(), Nonce: c.Nonce, IAT: now, Exp: now + 60000, Sig: seal.EncodeBase64(sig)}, &s)
	v.token = s.Token
}

// want makes a call with a JSON body and demands a status.
func (v *webVault) want(status int, method, path string, body, answer any) {
	v.t.Helper()
	var r io.Reader
	if body != nil {
		js, err := json.Marshal(body)
		must(v.t, err)
		r = bytes.NewReader(js)
	}
	v.send(status, method, path, api.TypeJSON, r, answer)
}

func (v *webVault) send(status int, method, path, typ string, body io.Reader, answer any) {
	v.t.Helper()
	req, err := http.NewRequest(method, v.url+path, body)
	must(v.t, err)
	req.Header.Set("Content-Type", typ)
	if v.token != "" {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	res, err := http.DefaultClient.Do(req)
	must(v.t, err)
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	must(v.t, err)
	if res.StatusCode != status {
		v.t.Fatalf("%s %s: %d, want %d\n%s", method, path, res.StatusCode, status, got)
	}
	if answer != nil {
		must(v.t, json.Unmarshal(got, answer))
	}
}

// parent makes an item whose title is sealed in an epoch.
func (v *webVault) parent(epoch uint32, title string) api.Parent {
	v.t.Helper()
	p := api.Parent{Type: "note", ID: seal.NewID().UUID(), Epoch: epoch}
	id, err := seal.ParseUUID(p.ID)
	must(v.t, err)
	wire, err := v.keys[epoch-1].SealTitle(id, title)
	must(v.t, err)
	p.TitleEncrypted = seal.WireJSON(wire)
	v.want(201, "PUT", api.PathParent(p.Type, p.ID), api.PutParent{TitleEncrypted: p.TitleEncrypted, Epoch: epoch}, nil)
	return p
}

// attach stores a file as a device does.
func (v *webVault) attach(p api.Parent, version int, epoch uint32, name, typ string, content []byte) api.Row {
	v.t.Helper()
	fk, id, blob := seal.NewKey(), seal.NewID(), seal.NewBlobID()
	row := &api.Row{ID: id.UUID(), ParentID: p.ID, ParentType: p.Type, SizeBytes: int64(len(content)), EncryptionVersion: version, Epoch: &epoch,
		VaultID: v.id.UUID(), BlobID: blob.Hex(), State: api.StateLive, By: v.device.UUID(), CreatedAt: api.Time(time.Now())}
	row.FileNameEncrypted = v.field(version, &fk, id, seal.FieldName, name)
	row.ContentTypeEncrypted = v.field(version, &fk, id, seal.FieldMIME, typ)
	wrapped, err := v.keys[epoch-1].WrapFileKey(&fk)
	must(v.t, err)
	row.WrappedFileKey = &api.WrappedKey{}
	must(v.t, json.Unmarshal([]byte(seal.WireJSON(wrapped)), row.WrappedFileKey))
	sealed := v.sealed(version, &fk, blob, content)
	sum := sha256.Sum256(sealed)
	row.StoredBytes, row.SHA256 = int64(len(sealed)), hex.EncodeToString(sum[:])
	meta := api.Metadata{BlobID: row.BlobID, StoredBytes: row.StoredBytes, SHA256: row.SHA256, SizeBytes: row.SizeBytes, EncryptionVersion: version, Row: row}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	js, err := json.Marshal(meta)
	must(v.t, err)
	must(v.t, form.WriteField(api.PartMetadata, string(js)))
	part, err := form.CreateFormFile(api.PartContent, "blob")
	must(v.t, err)
	_, err = part.Write(sealed)
	must(v.t, err)
	must(v.t, form.Close())
	var stored struct {
		api.Row
		RowError *api.Error `json:"row_error"`
	}
	v.send(201, "POST", api.PathAttachments, form.FormDataContentType(), &body, &stored)
	if stored.RowError != nil {
		v.t.Fatalf("the row was refused: %+v", stored.RowError)
	}
	return stored.Row
}

func (v *webVault) field(version int, fk *seal.Key, id seal.ID, f seal.Field, text string) string {
	wire, err := seal.SealField(version, fk, v.id, id, f, text)
	must(v.t, err)
	return seal.WireJSON(wire)
}

func (v *webVault) sealed(version int, fk *seal.Key, blob seal.ID, content []byte) []byte {
	if version == seal.V4 {
		c := seal.NewV4(fk, v.id, blob)
		return c.SealChunks(c.Header(), content, 0, true)
	}
	buf := make([]byte, len(content)+seal.OverheadV3)
	copy(buf[seal.OverheadV3-16:], content)
	sealed, err := seal.SealV3(fk, buf, len(content))
	must(v.t, err)
	return sealed
}

// files are the attachments of an item, opened as a drive does: content by name.
func (v *webVault) files(p api.Parent) map[string]string {
	v.t.Helper()
	var list api.List
	v.want(200, "GET", fmt.Sprintf("%s?parent_id=%s&parent_type=%s", api.PathAttachments, p.ID, p.Type), nil, &list)
	out := map[string]string{}
	for _, row := range list.Attachments {
		name, content := v.opened(row)
		out[name] = content
	}
	return out
}

func (v *webVault) opened(row api.Row) (name, content string) {
	v.t.Helper()
	js, err := json.Marshal(row.WrappedFileKey)
	must(v.t, err)
	wire, err := seal.ParseWireJSON(js)
	must(v.t, err)
	fk, err := v.keys[*row.Epoch-1].UnwrapFileKey(wire)
	must(v.t, err)
	id, err := seal.ParseUUID(row.ID)
	must(v.t, err)
	wire, err = seal.ParseWireJSON([]byte(row.FileNameEncrypted))
	must(v.t, err)
	name, err = seal.OpenField(row.EncryptionVersion, &fk, v.id, id, seal.FieldName, wire)
	must(v.t, err)
	if row.EncryptionVersion != seal.V3 {
		return name, ""
	}
	var d api.Download
	v.want(200, "GET", api.PathAttachment(row.ID), nil, &d)
	blob, err := seal.DecodeBase64(d.EncryptedContent)
	must(v.t, err)
	hdr := seal.HdrOfV3(blob)
	plain, err := seal.OpenV3(&fk, blob, row.SizeBytes, hdr[:])
	must(v.t, err)
	return name, string(plain)
}
