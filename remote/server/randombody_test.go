package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// body makes one up: what the route takes, then spoiled in some way.
func (g *stranger) body(route api.Route) (body []byte, typ string) {
	body, typ = g.goodBody(route)
	switch g.r.IntN(8) {
	case 0, 1:
		body = g.spoilJSON(body)
	case 2:
		body = g.spoilBytes(body)
	case 3:
		body = body[:g.r.IntN(len(body)+1)]
	case 4:
		body = []byte(g.one())
	}
	if g.chance(12) {
		typ = []string{"", "text/plain", "application/json; charset=" + canary, "multipart/form-data", "multipart/form-data; boundary=", `multipart/form-data; boundary="a b "`,
			"multipart/form-data; boundary=" + strings.Repeat("x", 71), "application/json;;", "/", "multipart/form-data; boundary=x; boundary=y"}[g.r.IntN(10)]
	}
	return body, typ
}

func (g *stranger) goodBody(route api.Route) ([]byte, string) {
	row := g.rows[g.r.IntN(len(g.rows))]
	name := route.Method + " " + route.Path
	switch {
	case name == "POST /api/vault/attachments" && g.chance(2):
		return g.form(), "multipart/form-data; boundary=b"
	case name == "POST /api/vault/attachments":
		in := uploadBody(row.ParentType, row.ParentID, randomBytes(28+g.r.IntN(300)))
		in[canary] = canary
		return mustJSON(in), api.TypeJSON
	case strings.HasSuffix(name, "PUT /v1/vaults/{vault}/rows"):
		row.Version = int64(g.r.IntN(3))
		return mustJSON(api.PutRows{At: int64(g.r.IntN(20)), Rows: []api.Row{row, row}, Parents: []api.Parent{{Type: row.ParentType, ID: row.ParentID, TitleEncrypted: g.one(), State: "live"}}}), api.TypeJSON
	case strings.HasPrefix(route.Path, "/api/vault/parents"):
		return mustJSON(api.PutParent{TitleEncrypted: g.one(), Epoch: uint32(g.r.IntN(4))}), api.TypeJSON
	case strings.Contains(route.Path, "/blobs/"):
		return mustJSON(api.BlobIDs{Blobs: []string{row.BlobID, g.one()}}), api.TypeJSON
	case strings.HasSuffix(route.Path, "/uploads"):
		m := metadataOf(randomBytes(64))
		m.EncryptionVersion, m.SizeBytes, m.Release = 4, 40<<20, []string{row.BlobID}
		m.StoredBytes, _ = api.SealedSize(4, m.SizeBytes)
		return mustJSON(m), api.TypeJSON
	case strings.Contains(route.Path, "/log/"):
		return g.own.frame(0, uint64(1+g.r.IntN(3)), [32]byte{}), api.TypeBlob
	case strings.Contains(route.Path, "/checkpoints/"):
		return g.own.frame(1, 1, [32]byte{}), api.TypeBlob
	case strings.Contains(route.Path, "/headers/"), route.Path == api.PathVaults:
		p := *g.own
		p.headers = slices.Clone(p.headers)
		h := p.header(nil)
		if route.Path != api.PathVaults {
			return h, api.TypeJSON
		}
		return mustJSON(api.Register{Header: h, Boot: strings.Repeat("a", 64), Invite: canary}), api.TypeJSON
	case route.Path == api.PathChallenge:
		return mustJSON(g.own.challenge()), api.TypeJSON
	case route.Path == api.PathSession:
		return mustJSON(g.own.proof(b64(randomBytes(32)), g.own.device, g.own.key, canary)), api.TypeJSON
	case strings.HasSuffix(route.Path, "/collect"):
		return mustJSON(api.Collect{Heads: map[string]uint64{g.own.device: g.r.Uint64()}}), api.TypeJSON
	case strings.HasSuffix(route.Path, "/boot"):
		return mustJSON(api.PutBoot{Boot: fmt.Sprintf("%064x", g.r.Uint64())}), api.TypeJSON
	}
	return []byte(canary), api.TypeBlob
}

// form is a device's upload, with what does not belong there now and then.
func (g *stranger) form() []byte {
	content := randomBytes(28 + g.r.IntN(400))
	m := metadataOf(content)
	row := g.rows[g.r.IntN(len(g.rows))]
	if g.chance(2) {
		row.Version, row.SizeBytes, row.BlobID = int64(g.r.IntN(3)), m.SizeBytes, m.BlobID
		m.Row = &row
	}
	if g.chance(3) {
		m.Release = []string{row.BlobID}
	}
	meta := mustJSON(m)
	if g.chance(3) {
		meta = g.spoilJSON(meta)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "--b\r\nContent-Disposition: form-data; name=%q\r\n%s\r\n%s\r\n", api.PartMetadata, g.junk(), meta)
	fmt.Fprintf(&b, "--b\r\nContent-Disposition: form-data; name=%q\r\n%s\r\n", api.PartContent, g.junk())
	b.Write(content)
	b.WriteString("\r\n--b--\r\n")
	return b.Bytes()
}

func (g *stranger) junk() string {
	return []string{"", "", "", canary + "\r\n", "X: y\r\n", ": \r\n", " folded\r\n", "Content-Transfer-Encoding: base64\r\n"}[g.r.IntN(8)]
}

func (g *stranger) spoilBytes(b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + g.r.IntN(3) {
		if len(b) > 0 {
			b[g.r.IntN(len(b))] ^= 1 << g.r.IntN(8)
		}
	}
	return b
}

// spoilJSON puts something else in the place of a field, or one more in.
func (g *stranger) spoilJSON(b []byte) []byte {
	var v map[string]any
	if json.Unmarshal(b, &v) != nil || len(v) == 0 {
		return g.spoilBytes(b)
	}
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[g.r.IntN(len(names))]
	v[name] = []any{nil, true, -1, 1.5, 1e300, g.one(), []any{}, []any{nil, 1, g.one()}, map[string]any{}, map[string]any{"iv": g.one(), "ciphertext": g.one()},
		strings.Repeat("[", 40), json.RawMessage(strings.Repeat("[", 40) + strings.Repeat("]", 40)), json.RawMessage(`"\u0000\ud800"`), json.RawMessage("9223372036854775808")}[g.r.IntN(14)]
	out, err := json.Marshal(v)
	if err != nil {
		return b
	}
	if g.chance(4) {
		out = bytes.Replace(out, []byte(`{"`), []byte(`{"`+name+`":1,"`), 1) // repeated
	}
	return out
}
