package integration

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// apiClient is a client of the server's public API that has the password and
// reads no log, as a browser does.
type apiClient struct {
	t     *testing.T
	url   string
	token string
	vault seal.ID
	keys  *seal.EpochKeys
}

// openHeader opens the header of a vault with its password, as any client would.
func openHeader(t *testing.T, b *bed) (h *seal.SignedHeader, vk, ids seal.Key) {
	t.Helper()
	envelope, err := os.ReadFile(filepath.Join(b.vault, "header.json"))
	must(t, err)
	h, err = seal.ParseEnvelope(envelope)
	must(t, err)
	kek, err := seal.DeriveKEK([]byte(testPassword), h.KDF)
	must(t, err)
	vk, ids, err = h.OpenPassword(&kek)
	must(t, err)
	return h, vk, ids
}

// newAPIClient unlocks a vault with its password and logs in as a page.
func newAPIClient(t *testing.T, b *bed, url string) *apiClient {
	t.Helper()
	h, vk, ids := openHeader(t, b)
	c := &apiClient{t: t, url: url, vault: h.Vault, keys: seal.DeriveEpoch(&vk, h.Vault, h.Epoch)}
	c.login(h.DID, ed25519.NewKeyFromSeed(ids.Bytes()))
	return c
}

func (c *apiClient) login(did string, identity ed25519.PrivateKey) {
	c.t.Helper()
	var ch api.Challenge
	c.do(http.MethodPost, api.PathChallenge, api.AskChallenge{DID: did, Device: api.ZeroID}, &ch)
	nonce, err := base64.StdEncoding.DecodeString(ch.Nonce)
	must(c.t, err)
	audience, err := api.Audience(c.url)
	must(c.t, err)
	now := time.Now().UnixMilli()
	p := api.LoginProof{Audience: audience, DID: did, Nonce: [api.NonceSize]byte(nonce), IssuedAt: now, Expires: now + api.ChallengeLife.Milliseconds()}
	var s api.Session
	c.do(http.MethodPost, api.PathSession, api.Login{DID: did, Device: api.ZeroID, Nonce: ch.Nonce, IAT: p.IssuedAt, Exp: p.Expires,
		Sig: base64.StdEncoding.EncodeToString(ed25519.Sign(identity, p.Message()))}, &s)
	c.token = s.Token
}

// try does one call and gives its status; a body of success goes to out.
func (c *apiClient) try(method, path string, in, out any) (int, []byte) {
	c.t.Helper()
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		must(c.t, err)
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	must(c.t, err)
	if in != nil {
		req.Header.Set("Content-Type", api.TypeJSON)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := http.DefaultClient.Do(req)
	must(c.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	must(c.t, err)
	if res.StatusCode < 300 && out != nil {
		must(c.t, json.Unmarshal(raw, out))
	}
	return res.StatusCode, raw
}

func (c *apiClient) do(method, path string, in, out any) {
	c.t.Helper()
	if status, raw := c.try(method, path, in, out); status >= 300 {
		c.t.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
}

// parents gives the live assets by their titles.
func (c *apiClient) parents() map[string]api.Parent {
	c.t.Helper()
	var page api.Parents
	c.do(http.MethodGet, "/api/vault/parents", nil, &page)
	out := make(map[string]api.Parent)
	for _, p := range page.Parents {
		if p.State != api.StateLive {
			continue
		}
		wire, err := seal.ParseWireJSON([]byte(p.TitleEncrypted))
		must(c.t, err)
		id, err := seal.ParseUUID(p.ID)
		must(c.t, err)
		title, err := c.keys.OpenTitle(id, wire)
		must(c.t, err)
		out[title] = p
	}
	return out
}

// files gives the live attachments of an asset by their names.
func (c *apiClient) files(p api.Parent) map[string]api.Row {
	c.t.Helper()
	var list api.List
	c.do(http.MethodGet, api.PathAttachments+"?parent_type="+p.Type+"&parent_id="+p.ID, nil, &list)
	out := make(map[string]api.Row)
	for _, r := range list.Attachments {
		key := c.key(r)
		id, err := seal.ParseUUID(r.ID)
		must(c.t, err)
		wire, err := seal.ParseWireJSON([]byte(r.FileNameEncrypted))
		must(c.t, err)
		name, err := seal.OpenField(r.EncryptionVersion, &key, c.vault, id, seal.FieldName, wire)
		must(c.t, err)
		out[name] = r
	}
	return out
}

func (c *apiClient) key(r api.Row) seal.Key {
	c.t.Helper()
	iv, err := base64.StdEncoding.DecodeString(r.WrappedFileKey.IV)
	must(c.t, err)
	ct, err := base64.StdEncoding.DecodeString(r.WrappedFileKey.Ciphertext)
	must(c.t, err)
	key, err := c.keys.UnwrapFileKey(append(iv, ct...))
	must(c.t, err)
	return key
}

// read downloads and opens a version 3 file with encKey alone.
func (c *apiClient) read(r api.Row) string {
	c.t.Helper()
	_, content := c.download(r.ID)
	return content
}

// download gives what a file holds now, with the row of that content, which may be
// newer than one listed before.
func (c *apiClient) download(id string) (api.Row, string) {
	c.t.Helper()
	var d api.Download
	c.do(http.MethodGet, api.PathAttachments+"/"+id, nil, &d)
	sealed, err := base64.StdEncoding.DecodeString(d.EncryptedContent)
	must(c.t, err)
	key := c.key(d.Row)
	hdr := seal.HdrOfV3(sealed)
	plain, err := seal.OpenV3(&key, sealed, d.SizeBytes, hdr[:])
	must(c.t, err)
	return d.Row, string(plain)
}

// upload is the seed's upload of a file of version 3.
func (c *apiClient) upload(p api.Parent, name, content string) api.Row {
	c.t.Helper()
	key := seal.NewKey()
	id := seal.NewID() // version 3 binds nothing to it
	field := func(f seal.Field, text string) json.RawMessage {
		wire, err := seal.SealField(3, &key, c.vault, id, f, text)
		must(c.t, err)
		return json.RawMessage(seal.WireJSON(wire))
	}
	wrapped, err := c.keys.WrapFileKey(&key)
	must(c.t, err)
	buf := make([]byte, 12+len(content)+16)
	rand.Read(buf[:12])
	copy(buf[12:], content)
	sealed, err := seal.SealV3(&key, buf, len(content))
	must(c.t, err)
	var row api.Row
	c.do(http.MethodPost, api.PathAttachments, map[string]any{
		"parent_id": p.ID, "parent_type": p.Type, "file_name_encrypted": field(seal.FieldName, name), "content_type_encrypted": field(seal.FieldMIME, "text/plain"),
		"size_bytes": len(content), "wrapped_file_key": json.RawMessage(seal.WireJSON(wrapped)), "encryption_version": 3,
		"encrypted_content": base64.StdEncoding.EncodeToString(sealed),
	}, &row)
	return row
}

// TestRowsOfTheDrive: what is saved, renamed and deleted on the drive is so for a
// client that has the password and nothing else; what such a client uploads or
// deletes changes nothing on the drive by itself.
func TestRowsOfTheDrive(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	bob := newDevice(t, "bob", s.url, nil, ada)
	here, there := ada.mountAgain(), bob.mountAgain()
	must(t, os.WriteFile(filepath.Join(here.asset("Passport"), "scan.txt"), []byte("the scan"), 0o644))
	must(t, os.WriteFile(here.path("Passport", ".~lock.scan.txt#"), []byte("scratch"), 0o644))
	c := newAPIClient(t, ada, s.url)
	ada.ok("sync now")
	p := c.parents()["Passport"]
	files := c.files(p)
	if len(files) != 1 || c.read(files["scan.txt"]) != "the scan" {
		t.Fatalf("files %v", files)
	}
	row := files["scan.txt"]
	written := strings.Count(s.text(), "/rows")
	must(t, os.Rename(here.path("Passport", "scan.txt"), here.path("Passport", "page one.txt")))
	waitFor(t, "the rename is in the API, by itself", patience, func() bool { return strings.Count(s.text(), "/rows") > written })
	if now := c.files(p)["page one.txt"]; now.ID != row.ID || now.BlobID != row.BlobID || len(c.files(p)) != 1 {
		t.Errorf("renamed: %+v, was %+v", now, row)
	}

	c.upload(p, "from the page.txt", "of a page")
	c.do(http.MethodDelete, api.PathAttachments+"/"+row.ID, nil, nil)
	waitFor(t, "the wish is an event", patience, func() bool {
		return strings.Contains(ada.ok("events"), "asked the server to delete Passport/page one.txt")
	})
	for _, m := range []*mount{here, there} {
		waitFor(t, "the file is there", patience, func() bool { _, err := os.Stat(m.path("Passport", "page one.txt")); return err == nil })
		if got, err := os.ReadFile(m.path("Passport", "page one.txt")); err != nil || string(got) != "the scan" {
			t.Errorf("%s, %v", got, err)
		}
		if _, err := os.Stat(m.path("Passport", "from the page.txt")); !os.IsNotExist(err) {
			t.Errorf("what a page uploaded is an ordinary file: %v", err)
		}
	}
	ada.ok("sync now")
	if files := c.files(p); len(files) != 1 {
		t.Errorf("the rows are %v, want that of the page alone", files)
	}
	must(t, os.WriteFile(there.path("Passport", "page one.txt"), []byte("a new scan"), 0o644))
	bob.ok("sync now")
	if got := c.read(c.files(p)["page one.txt"]); got != "a new scan" {
		t.Errorf("content %q", got)
	}
	must(t, os.Remove(here.path("Passport", "page one.txt")))
	ada.ok("sync now")
	if files := c.files(p); len(files) != 1 {
		t.Errorf("after a delete: %v", files)
	}
	for _, b := range []*bed{ada, bob} {
		b.ok("sync now")
		if st := b.syncStatus(); st.Queue != 0 || len(st.Conditions) != 0 {
			t.Errorf("sync status: %+v", st)
		}
	}
}

// TestUsageIsFresh: what sync status and sync now show of the quota is what the
// server has then, whoever brought it there or took it away.
func TestUsageIsFresh(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	s := startServer(t)
	ada := newDevice(t, "ada", s.url, nil, nil)
	here := ada.mountAgain()
	usage := func(verb string) int64 {
		t.Helper()
		var st struct{ Limits struct{ Usage int64 } }
		must(t, json.Unmarshal([]byte(ada.ok("sync "+verb, "--json")), &st))
		return st.Limits.Usage
	}
	must(t, os.WriteFile(filepath.Join(here.asset("Passport"), "scan.txt"), []byte("the scan"), 0o644))
	const sealed = int64(len("the scan")) + 28
	if n := usage("now"); n != sealed {
		t.Errorf("sync now shows %d bytes, the server has %d", n, sealed)
	}
	c := newAPIClient(t, ada, s.url)
	row := c.upload(c.parents()["Passport"], "from the page.txt", "of a page")
	more := sealed + int64(len("of a page")) + 28
	waitFor(t, "sync status shows what a page uploaded", patience, func() bool { return usage("status") == more })
	c.do(http.MethodDelete, api.PathAttachments+"/"+row.ID, nil, nil)
	waitFor(t, "sync status shows that it is gone", patience, func() bool { return usage("status") == sealed })
}
