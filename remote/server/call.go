package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

const (
	// sendPause is how long the client may take for the next bytes of an answer.
	sendPause = 60 * time.Second
	// sendPiece is the most that is sent within one such pause.
	sendPiece    = 256 << 10
	defaultRetry = 5 * time.Second
	fullRetry    = time.Minute // somebody has to make room
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

	held     *atomic.Int64 // bytes of bodies in memory, of all calls
	holds    int64         // of this one
	bodyRead bool          // in part at least
	bodyEnd  bool          // to its end
	wrote    bool
	status   int
	sent     int64
	failure  error
}

func (c *call) ctx() context.Context { return c.r.Context() }

// begin sends status and headers, which a client has as much time to take as any
// piece of a body.
func (c *call) begin(status int) {
	c.wrote, c.status = true, status
	c.mayTake()
	c.w.WriteHeader(status)
}

// mayTake gives the client time from now on to take what is sent.
func (c *call) mayTake() {
	_ = c.rc.SetWriteDeadline(time.Now().Add(sendPause)) // not every transport has deadlines
}

// send writes a part of the answer; a client that went away needs none.
func (c *call) send(b []byte) { _, _ = c.Write(b) }

// Write gives the client time for each piece, not for the whole.
func (c *call) Write(b []byte) (int, error) {
	c.mayTake()
	n, err := c.w.Write(b)
	c.sent += int64(n)
	return n, err
}

// ReadFrom takes a piece of a file without a copy of our own, where the
// connection can; the client has time for each piece.
func (c *call) ReadFrom(r io.Reader) (int64, error) {
	piece, ok := r.(*io.LimitedReader)
	to, able := c.w.(io.ReaderFrom)
	if !ok || !able || piece.N > sendPiece {
		return io.Copy(writerOnly{c}, r)
	}
	c.mayTake()
	n, err := to.ReadFrom(r)
	c.sent += n
	return n, err
}

// writerOnly hides what else a call can do from io.Copy.
type writerOnly struct{ io.Writer }

// by is who changed something, as rows and the audit log have it.
func (c *call) by() string {
	if c.session.Device == api.ZeroID {
		return api.ByClient
	}
	return c.session.Device
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
	if c.session, c.account, err = s.o.DB.Session(c.ctx(), c.token); errors.Is(err, metadb.ErrNotFound) {
		return errSession
	} else if err != nil {
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
	if err := s.memory.take("header "+c.network(s.o.TrustProxy), s.o.Limits.Headers, 1); err != nil {
		return err
	}
	if !api.ValidID(c.r.PathValue("vault")) {
		return errSession // the same as for a wrong token
	}
	account, err := s.o.DB.AccountByVault(c.ctx(), c.r.PathValue("vault"))
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	// Asked and compared also where there is no such vault, account 0: the time of
	// the answer would else tell whether there is.
	want, err := s.o.DB.Boot(c.ctx(), account.ID)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	raw, err := hex.DecodeString(boot)
	sum := sha256.Sum256(raw)
	same := subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(want)) == 1
	if err != nil || account.ID == 0 || !same {
		return errSession
	}
	c.account = account
	return nil
}
