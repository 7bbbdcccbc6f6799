package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

const (
	// bodyPause is how long the next bytes of a body may take.
	bodyPause = 30 * time.Second
	// sendPause is how long the client may take for the next bytes of an answer.
	sendPause    = 60 * time.Second
	defaultRetry = 5 * time.Second
)

// call is one request on its way through the server.
type call struct {
	w  http.ResponseWriter
	r  *http.Request
	rc *http.ResponseController
	id string // of the request

	route   string
	account metadb.Account
	session metadb.Session
	token   string // hash

	bodyRead bool
	wrote    bool
	status   int
	sent     int64
	failure  error
}

func (c *call) ctx() context.Context { return c.r.Context() }

// begin sends status and headers.
func (c *call) begin(status int) {
	c.wrote, c.status = true, status
	c.w.WriteHeader(status)
}

// send writes a part of the answer; a client that went away needs none.
func (c *call) send(b []byte) { _, _ = c.Write(b) }

// Write gives the client time for each piece, not for the whole.
func (c *call) Write(b []byte) (int, error) {
	_ = c.rc.SetWriteDeadline(time.Now().Add(sendPause)) // not every transport has deadlines
	n, err := c.w.Write(b)
	c.sent += int64(n)
	return n, err
}

// by is who changed something, as rows and the audit log have it.
func (c *call) by() string {
	if c.session.Device == api.ZeroID {
		return api.ByClient
	}
	return c.session.Device
}

// body reads the request's body with a deadline that moves with it.
func (c *call) body(limit int64) io.Reader {
	c.bodyRead = true
	return &pacedReader{c: c, r: http.MaxBytesReader(c.w, c.r.Body, limit)}
}

type pacedReader struct {
	c *call
	r io.Reader
}

func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.c.rc.SetReadDeadline(time.Now().Add(bodyPause))
	n, err := p.r.Read(b)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		err = api.Errorf(api.CodeBodyTooLarge, "the body is longer than %d bytes", long.Limit)
	}
	return n, err
}

// small reads a whole body of at most limit bytes.
func (c *call) small(limit int64) ([]byte, error) {
	if c.r.ContentLength > limit {
		return nil, api.Errorf(api.CodeBodyTooLarge, "the body is longer than %d bytes", limit)
	}
	b, err := io.ReadAll(c.body(limit))
	if err != nil {
		return nil, bodyError(err)
	}
	return b, nil
}

// bodyError tells a client that stopped sending from a server that failed.
func bodyError(err error) error {
	var net net.Error
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return api.Errorf(api.CodeBadRequest, "the body ended early")
	case errors.As(err, &net) && net.Timeout():
		return api.Errorf(api.CodeTimeout, "the body came too slowly")
	}
	return err
}

// json reads a strict JSON body.
func (c *call) json(v any) error {
	if t, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";"); strings.TrimSpace(t) != api.TypeJSON {
		return api.Errorf(api.CodeUnsupportedMedia, "send %s", api.TypeJSON)
	}
	b, err := c.small(api.MaxJSON)
	if err != nil {
		return err
	}
	if err := api.Unmarshal(b, v); err != nil {
		return api.Errorf(api.CodeBadRequest, "%w", err)
	}
	return nil
}

// allow decides who asks. Every refusal of a token reads the same.
func (s *Server) allow(c *call, route api.Route) error {
	if route.Auth == api.AuthNone {
		return nil
	}
	if boot := c.r.Header.Get(api.HeaderBoot); boot != "" && route.Auth == api.AuthBoot {
		return s.allowBoot(c, boot)
	}
	token, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if !ok || err != nil || len(raw) != api.TokenSize {
		return errSession
	}
	sum := sha256.Sum256(raw)
	c.token = hex.EncodeToString(sum[:])
	if c.session, err = s.o.DB.Session(c.ctx(), c.token); errors.Is(err, metadb.ErrNotFound) {
		return errSession
	} else if err != nil {
		return err
	}
	if c.account, err = s.o.DB.AccountByID(c.ctx(), c.session.Account); err != nil {
		return err
	}
	return s.mayUse(c, route)
}

var errSession = api.Errorf(api.CodeSessionInvalid, "no valid session: log in")

// mayUse checks account, kind of session, plan, and that the vault in the path
// is the account's own: another's is not found, like one that is not there.
func (s *Server) mayUse(c *call, route api.Route) error {
	switch vault := c.r.PathValue("vault"); {
	case c.account.Disabled:
		return api.Errorf(api.CodeAccountDisabled, "the account is disabled: ask the server's operator")
	case vault != "" && vault != c.account.Vault:
		return metadb.ErrNotFound
	case c.session.Device == api.ZeroID && (route.Auth == api.AuthDevice || route.Auth == api.AuthBoot && c.r.Method != http.MethodGet):
		return api.Errorf(api.CodePageSession, "only a device of the vault may do this")
	case route.Premium && c.account.Plan != api.PlanPremium:
		return api.Errorf(api.CodePlanRequired, "the plan of this account has no synchronisation")
	}
	return nil
}

// allowBoot lets in who has the boot token of the vault in the path, before
// there is a session.
func (s *Server) allowBoot(c *call, boot string) error {
	if err := s.memory.take("header "+c.address(s.o.TrustProxy), s.o.Limits.Headers, 1); err != nil {
		return err
	}
	account, err := s.o.DB.AccountByVault(c.ctx(), c.r.PathValue("vault"))
	if errors.Is(err, metadb.ErrNotFound) {
		return errSession // the same as for a wrong token
	}
	if err != nil {
		return err
	}
	want, err := s.o.DB.Boot(c.ctx(), account.ID)
	if err != nil {
		return err
	}
	raw, err := hex.DecodeString(boot)
	sum := sha256.Sum256(raw)
	if err != nil || subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(want)) != 1 {
		return errSession
	}
	c.account = account
	return nil
}

// address is the client's, for limits by address.
func (c *call) address(proxy bool) string {
	if proxy {
		if list := c.r.Header.Get("X-Forwarded-For"); list != "" {
			// The last entry is the proxy's own word; those before are the client's.
			parts := strings.Split(list, ",")
			return strings.TrimSpace(parts[len(parts)-1])
		}
	}
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return c.r.RemoteAddr
	}
	return host
}
