package client

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// maxRowBytes bounds the JSON of one request of rows, with room to api.MaxJSON.
const maxRowBytes = api.MaxJSON / 2

// ivSize is that of AES-GCM; a file key wrapped or a text sealed begins with it.
const ivSize = 12

// wireText is IV and ciphertext as the API spells them, and wireBytes the
// opposite; what is not well-formed is nothing, which opens to nothing.
func wireText(wire []byte) string {
	raw, err := json.Marshal(wireKey(wire))
	if err != nil {
		return "" // two strings of base64 always are JSON
	}
	return string(raw)
}

func wireKey(wire []byte) *api.WrappedKey {
	n := min(ivSize, len(wire))
	return &api.WrappedKey{IV: base64.StdEncoding.EncodeToString(wire[:n]), Ciphertext: base64.StdEncoding.EncodeToString(wire[n:])}
}

func wireBytes(text string) []byte {
	var k api.WrappedKey
	if api.Unmarshal([]byte(text), &k) != nil {
		return nil
	}
	return keyBytes(&k)
}

func keyBytes(k *api.WrappedKey) []byte {
	if k == nil {
		return nil
	}
	iv, err := api.Decode64(k.IV, ivSize)
	if err != nil {
		return nil
	}
	ct, err := api.Decode64(k.Ciphertext, -1)
	if err != nil {
		return nil
	}
	return append(iv, ct...)
}

// rowOf reads an entry of the feed about a row or a parent; false for one whose
// ids are none. What else it says wrongly makes it another row than the log's.
func rowOf(e api.Change) (syncer.Row, bool) {
	if e.Parent != nil {
		return rowOfParent(e.Parent)
	}
	if e.Row == nil {
		return syncer.Row{}, false
	}
	in := e.Row
	id, err := api.ParseID(in.ID)
	if err != nil {
		return syncer.Row{}, false
	}
	parent, _ := api.ParseID(in.ParentID)
	out := syncer.Row{
		ID: id, Parent: parent, Name: wireBytes(in.FileNameEncrypted), MIME: wireBytes(in.ContentTypeEncrypted), Key: keyBytes(in.WrappedFileKey),
		Size: in.SizeBytes, Len: in.StoredBytes, Number: in.Version, Deleted: in.State != api.StateLive, Client: in.By == api.ByClient,
	}
	if created := time.Time(in.CreatedAt); created.Year() > 1970 {
		out.Created = created.UnixNano()
	}
	out.Type = typeNumber(in.ParentType)
	if in.EncryptionVersion == 3 || in.EncryptionVersion == 4 {
		out.Version = uint8(in.EncryptionVersion)
	}
	if in.Epoch != nil {
		out.Epoch = *in.Epoch
	}
	if api.ValidBlob(in.BlobID) {
		hex.Decode(out.Blob[:], []byte(in.BlobID)) // valid, so it fits
	}
	if api.ValidHash(in.SHA256) {
		hex.Decode(out.SHA256[:], []byte(in.SHA256))
	}
	return out, true
}

func rowOfParent(p *api.Parent) (syncer.Row, bool) {
	id, err := api.ParseID(p.ID)
	out := syncer.Row{ID: id, Asset: true, Name: wireBytes(p.TitleEncrypted), Epoch: p.Epoch, Deleted: p.State != api.StateLive, Client: p.By == api.ByClient}
	out.Type = typeNumber(p.Type)
	return out, err == nil
}

// typeNumber numbers the types of the seed from 1, as records do; 0 for none of
// them.
func typeNumber(typ string) uint8 { return uint8(slices.Index(api.ParentTypes, typ) + 1) }

func typeOf(r *syncer.Row) string {
	if n := int(r.Type) - 1; n >= 0 && n < len(api.ParentTypes) {
		return api.ParentTypes[n]
	}
	return ""
}

func stateOf(r *syncer.Row) string {
	if r.Deleted {
		return api.StateDeleted
	}
	return api.StateLive
}

func (r *Remote) rowFor(in *syncer.Row) api.Row {
	epoch := in.Epoch
	out := api.Row{
		ID: in.ID.UUID(), ParentID: in.Parent.UUID(), ParentType: typeOf(in), VaultID: r.o.Vault, Version: in.Number, State: stateOf(in),
		By: r.o.Device, Epoch: &epoch,
	}
	if in.Deleted {
		return out // the server keeps the rest
	}
	out.FileNameEncrypted, out.ContentTypeEncrypted, out.WrappedFileKey = wireText(in.Name), wireText(in.MIME), wireKey(in.Key)
	out.SizeBytes, out.StoredBytes, out.EncryptionVersion = in.Size, in.Len, int(in.Version)
	out.BlobID, out.SHA256 = in.Blob.Hex(), hex.EncodeToString(in.SHA256[:])
	return out
}

func parentFor(in *syncer.Row) api.Parent {
	p := api.Parent{Type: typeOf(in), ID: in.ID.UUID(), Epoch: in.Epoch, State: stateOf(in)}
	if !in.Deleted {
		p.TitleEncrypted = wireText(in.Name)
	}
	return p
}

// putRows writes rows and parents, in as many requests as they need. Where one
// is refused as behind nothing more is written.
func (r *Remote) putRows(ctx context.Context, s syncer.Settlement, out *syncer.Settled) error {
	if len(s.Rows) == 0 {
		return nil
	}
	at, err := parseCursor(s.Cursor)
	if err != nil {
		return err
	}
	out.Rows = make([]syncer.RowResult, len(s.Rows))
	for i := 0; i < len(s.Rows); {
		in := api.PutRows{At: at.N, Rows: []api.Row{}, Parents: []api.Parent{}}
		var rows, parents []int // of s.Rows, as the answers come
		for size := 0; i < len(s.Rows) && len(rows)+len(parents) < api.MaxRows && size < maxRowBytes; i++ {
			row := &s.Rows[i]
			size += 1000 + 3*(len(row.Name)+len(row.MIME))/2
			if row.Asset {
				in.Parents, parents = append(in.Parents, parentFor(row)), append(parents, i)
			} else {
				in.Rows, rows = append(in.Rows, r.rowFor(row)), append(rows, i)
			}
		}
		if err := r.putSome(ctx, in, slices.Concat(rows, parents), out); err != nil {
			return err
		}
	}
	return nil
}

func (r *Remote) putSome(ctx context.Context, in api.PutRows, order []int, out *syncer.Settled) error {
	var answer api.PutRowsAnswer
	if _, err := r.json(ctx, http.MethodPut, api.PathVault(r.o.Vault)+"/rows", in, &answer); err != nil {
		return fmt.Errorf("put rows: %w", err)
	}
	if len(answer.Results) != len(order) {
		return fmt.Errorf("%w: %d results for %d rows", syncer.ErrUnavailable, len(answer.Results), len(order))
	}
	for i, res := range answer.Results {
		to := &out.Rows[order[i]]
		if to.Number = res.Version; res.Error == nil {
			continue
		}
		if res.Error.Code == api.CodeNotFound {
			continue // deleted, and never there
		}
		to.Refused = refused(res.Error)
	}
	return nil
}

// refused is why a row was not written.
func refused(e *api.Error) error { return answered(e, meanings[e.Code]) }
