package server

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/didkey"
)

// A nonce is 10 random bytes, 6 of the time it ends, and 16 of an HMAC over both
// and over who asked. So a challenge stores nothing, and one that was spent is
// the only kind that is written down.
const (
	nonceRandom = 10
	nonceClear  = 16
)

func (s *Server) nonceMAC(clear []byte, did, device string) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write(clear)
	m.Write([]byte(did + "\x00" + device))
	return m.Sum(nil)[:nonceClear]
}

// challenge answers everybody alike: it does not say which identities are known.
func (s *Server) challenge(c *call) error {
	if err := s.memory.take("challenge "+c.network(s.o.TrustProxy), s.o.Limits.Challenges, 1); err != nil {
		return err
	}
	var in api.AskChallenge
	if err := c.json(api.MaxSmall, &in); err != nil {
		return err
	}
	if _, err := didkey.Parse(in.DID); err != nil {
		return api.BadField("did", "%w", err)
	}
	if !api.ValidID(in.Device) {
		return api.BadField("device", "not an id")
	}
	exp := s.o.Now().Add(api.ChallengeLife).UnixMilli()
	clear := randomBytes(nonceRandom)
	clear = binary.BigEndian.AppendUint64(clear, uint64(exp)<<16)[:nonceClear]
	nonce := append(clear, s.nonceMAC(clear, in.DID, in.Device)...)
	writeJSON(c, http.StatusOK, api.Challenge{Nonce: base64.StdEncoding.EncodeToString(nonce), Exp: exp})
	return nil
}

// errLogin is the one answer to every login that is not believed.
var errLogin = api.Errorf(api.CodeSessionInvalid, "login refused")

func (s *Server) login(c *call) error {
	if err := s.memory.take("login "+c.network(s.o.TrustProxy), s.o.Limits.Challenges, 1); err != nil {
		return err
	}
	var in api.Login
	if err := c.json(api.MaxSmall, &in); err != nil {
		return err
	}
	account, err := s.verifyLogin(c, in)
	if err != nil {
		var e *api.Error
		if errors.As(err, &e) && e.Code != api.CodeSessionInvalid {
			return err
		}
		s.log.Info("login refused", "request", c.id, "why", err)
		return errLogin
	}
	if account.Disabled {
		return api.Errorf(api.CodeAccountDisabled, "the account is disabled: ask the server's operator")
	}
	token := randomBytes(api.TokenSize)
	sum := sha256.Sum256(token)
	session := metadb.Session{Account: account.ID, Device: in.Device, Expires: s.o.Now().Add(api.TokenLife).UnixMilli()}
	if err := s.o.DB.AddSession(c.ctx(), hex.EncodeToString(sum[:]), session); err != nil {
		return err
	}
	c.account = account
	writeJSON(c, http.StatusCreated, api.Session{Token: base64.RawURLEncoding.EncodeToString(token), Exp: session.Expires, Vault: account.Vault})
	return nil
}

// verifyLogin checks nonce, then who it is, then the signature. The nonce is
// spent before the signature is looked at.
func (s *Server) verifyLogin(c *call, in api.Login) (metadb.Account, error) {
	var none metadb.Account
	nonce, err := api.Decode64(in.Nonce, api.NonceSize)
	if err != nil {
		return none, err
	}
	sig, err := api.Decode64(in.Sig, ed25519.SignatureSize)
	if err != nil {
		return none, err
	}
	device, err := api.ParseID(in.Device)
	if err != nil {
		return none, errors.New("device is no id")
	}
	clear := nonce[:nonceClear]
	if subtle.ConstantTimeCompare(nonce[nonceClear:], s.nonceMAC(clear, in.DID, in.Device)) != 1 {
		return none, errors.New("nonce is not ours, or for somebody else")
	}
	exp := int64(binary.BigEndian.Uint64(append([]byte{0, 0}, clear[nonceRandom:]...)))
	if exp < s.o.Now().UnixMilli() {
		return none, errors.New("nonce is too old")
	}
	fresh, err := s.o.DB.UseNonce(c.ctx(), hex.EncodeToString(nonce), exp)
	if err != nil {
		return none, asAPI(err)
	}
	if !fresh {
		return none, errors.New("nonce was used before")
	}
	account, pk, err := s.loginKey(c, in)
	if errors.Is(err, metadb.ErrNotFound) {
		return none, err
	}
	if err != nil { // nobody's fault who logs in: told that, a client would not try again
		return none, asAPI(err)
	}
	audience, err := api.Audience(s.o.Audience)
	if err != nil {
		return none, err
	}
	proof := api.LoginProof{Audience: audience, DID: in.DID, Device: device, Nonce: [api.NonceSize]byte(nonce), IssuedAt: in.IAT, Expires: in.Exp}
	return account, proof.Verify(pk, sig, s.o.Now())
}

// loginKey is the key that must have signed: the device's by the newest roster,
// or for a page the identity's.
func (s *Server) loginKey(c *call, in api.Login) (metadb.Account, ed25519.PublicKey, error) {
	account, err := s.o.DB.AccountByDID(c.ctx(), in.DID)
	if err != nil {
		return account, nil, err
	}
	if in.Device == api.ZeroID {
		pk, err := didkey.Parse(in.DID)
		return account, pk, err
	}
	d, err := s.o.DB.Device(c.ctx(), account.ID, in.Device)
	if err != nil {
		return account, nil, err
	}
	if d.Revoked {
		return account, nil, fmt.Errorf("%w: device is revoked", metadb.ErrNotFound)
	}
	pk, err := hex.DecodeString(d.PK)
	return account, pk, err
}

func (s *Server) logout(c *call) error {
	if err := s.other(c); err != nil {
		return err
	}
	if err := s.o.DB.DropSession(c.ctx(), c.token); err != nil {
		return err
	}
	c.begin(http.StatusNoContent)
	return nil
}

// register makes an account of a vault that shows its first header.
func (s *Server) register(c *call) error {
	if err := s.memory.take("register "+c.network(s.o.TrustProxy), s.o.Limits.Registrations, 1); err != nil {
		return err
	}
	var in api.Register
	if err := c.json(api.MaxHeader+api.MaxSmall, &in); err != nil {
		return err
	}
	h, err := api.ParseHeader(in.Header)
	if err != nil {
		return api.Errorf(api.CodeBadHeader, "%w", err)
	}
	if h.Seq != 1 {
		return api.Errorf(api.CodeBadHeader, "an account begins with header 1, not %d", h.Seq)
	}
	if !api.ValidHash(in.Boot) {
		return api.BadField("boot", "SHA-256 of the boot token in hex")
	}
	r := metadb.Registration{Header: h, Body: in.Header, Boot: in.Boot, Remote: hex.EncodeToString(randomBytes(16)), Plan: s.o.Plan, Quota: s.o.Quota}
	known, err := s.o.DB.AccountByVault(c.ctx(), h.Vault)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	if known.ID == 0 {
		if r.Invite, err = s.mayRegister(in.Invite); err != nil {
			return err
		}
	}
	account, made, err := s.o.DB.Register(c.ctx(), r)
	if err != nil {
		return err
	}
	c.account = account
	status := http.StatusOK
	if made {
		status = http.StatusCreated
	}
	writeJSON(c, status, api.Registered{Vault: account.Vault, Remote: account.Remote, Plan: account.Plan})
	return nil
}

// mayRegister gives the hash of the invitation to use, if one is needed.
func (s *Server) mayRegister(invite string) (string, error) {
	switch s.o.Registration {
	case RegistrationOpen:
		return "", nil
	case RegistrationInvite:
		if invite == "" {
			return "", api.Errorf(api.CodeInviteInvalid, "this server asks for an invitation")
		}
		return InviteHash(invite), nil
	}
	return "", api.Errorf(api.CodeRegistrationClosed, "this server takes no new vaults")
}

// InviteHash is what the database keeps of an invitation.
func InviteHash(code string) string {
	sum := sha256.Sum256([]byte("vaultdrive/v1/invite\x00" + code))
	return hex.EncodeToString(sum[:])
}
