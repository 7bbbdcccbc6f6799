package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// member is an account with one device and one item, as a program that knows the
// API only makes it.
type member struct {
	url               string
	client            *http.Client
	vault, device     string
	item              string
	identity, private ed25519.PrivateKey
	token             string
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func newUUID() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// register makes an account, logs its device in and adds an item.
func register(url string, client *http.Client) (*member, error) {
	m := &member{url: url, client: client, vault: newUUID(), device: newUUID(), item: newUUID()}
	m.identity, m.private = ed25519.NewKeyFromSeed(randomBytes(32)), ed25519.NewKeyFromSeed(randomBytes(32))
	header, err := m.header()
	if err != nil {
		return nil, err
	}
	boot := sha256.Sum256(randomBytes(16))
	if err := m.call("POST", api.PathVaults, api.Register{Header: header, Boot: hex.EncodeToString(boot[:])}, nil); err != nil {
		return nil, err
	}
	if m.token, err = m.login(); err != nil {
		return nil, err
	}
	return m, m.call("PUT", api.PathParent("item", m.item), api.PutParent{TitleEncrypted: "title", Epoch: 1}, nil)
}

func (m *member) did() string { return didkey.Format(m.identity.Public().(ed25519.PublicKey)) }

// header is the first of a vault (CRYPTO.md section 3), without what only
// devices read.
func (m *member) header() (json.RawMessage, error) {
	payload, err := json.Marshal(map[string]any{"v": 1, "vault": m.vault, "did": m.did(), "seq": 1, "prev": make([]byte, 32), "epoch": 1, "cut": map[string]any{},
		"devices": []any{map[string]any{"id": m.device, "pk": []byte(m.private.Public().(ed25519.PublicKey)), "revoked": false}}})
	if err != nil {
		return nil, err
	}
	sig := ed25519.Sign(m.identity, append([]byte("vaultdrive/v1/header\x00"), payload...))
	return json.Marshal(map[string]any{"payload": payload, "sig": sig})
}

// login gives the token of one more session of the device.
func (m *member) login() (string, error) {
	var c api.Challenge
	if err := m.call("POST", api.PathChallenge, api.AskChallenge{DID: m.did(), Device: m.device}, &c); err != nil {
		return "", err
	}
	nonce, err := api.Decode64(c.Nonce, api.NonceSize)
	if err != nil {
		return "", err
	}
	device, err := api.ParseID(m.device)
	if err != nil {
		return "", err
	}
	now := time.Now().UnixMilli()
	proof := api.LoginProof{Audience: m.url, DID: m.did(), Device: device, Nonce: [api.NonceSize]byte(nonce), IssuedAt: now, Expires: now + 60_000}
	sig := base64.StdEncoding.EncodeToString(ed25519.Sign(m.private, proof.Message()))
	var s api.Session
	err = m.call("POST", api.PathSession, api.Login{DID: m.did(), Device: m.device, Nonce: c.Nonce, IAT: now, Exp: now + 60_000, Sig: sig}, &s)
	return s.Token, err
}

// call sends in as JSON, unless it is nil, and reads the answer into out.
func (m *member) call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := m.request(method, path, body)
	if err != nil {
		return err
	}
	return m.send(req, out)
}

func (m *member) request(method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequest(method, m.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", api.TypeJSON)
	req.Header.Set("Authorization", "Bearer "+m.token)
	return req, nil
}

// send reads the answer into out, unless that is nil.
func (m *member) send(req *http.Request, out any) error {
	raw, err := m.answer(req)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

// answer gives an error for every answer that is not of success.
func (m *member) answer(req *http.Request) ([]byte, error) {
	res, err := m.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %.300s", req.Method, req.URL.Path, res.Status, raw)
	}
	return raw, err
}

// uploadFields is the seed's upload (version 3) of some plaintext, all but its
// content, as JSON without the final brace.
func (m *member) uploadFields(plain int) ([]byte, error) {
	sealed := fmt.Sprintf(`{"iv":%q,"ciphertext":%q}`, base64.StdEncoding.EncodeToString(randomBytes(12)), base64.StdEncoding.EncodeToString(randomBytes(24)))
	key := api.WrappedKey{IV: base64.StdEncoding.EncodeToString(randomBytes(12)), Ciphertext: base64.StdEncoding.EncodeToString(randomBytes(48))}
	raw, err := json.Marshal(map[string]any{"parent_id": m.item, "parent_type": "item", "file_name_encrypted": sealed, "content_type_encrypted": sealed,
		"size_bytes": plain, "wrapped_file_key": key, "encryption_version": 3})
	if err != nil {
		return nil, err
	}
	return raw[:len(raw)-1], nil
}

// upload is the whole body of one.
func (m *member) upload(plain int) ([]byte, error) {
	fields, err := m.uploadFields(plain)
	if err != nil {
		return nil, err
	}
	body := append(fields, `,"encrypted_content":"`...)
	body = base64.StdEncoding.AppendEncode(body, randomBytes(plain+api.Overhead3))
	return append(body, `"}`...), nil
}
