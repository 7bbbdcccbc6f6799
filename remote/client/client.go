// Package client is the HTTP client of our server: sessions, retries of a login,
// and streaming transfers. To a vault's engine it is a syncer.Remote.
//
// It refuses to know the vault, its index and its conflict rules.
package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Signer signs logins as a device, and puts their label in front of the message:
// so it can sign nothing else.
type Signer interface {
	Sign(message []byte) []byte
}

// Options say who asks whom.
type Options struct {
	Server string // address, as the user gave it
	Vault  string // id
	DID    string // of the vault's identity
	Device string // our id; "" for one that has not joined yet
	Signer Signer // nil for one that has not joined yet
	// Boot is the boot token of the vault's address: a joining device reads the
	// header with it, and registration leaves its hash.
	Boot [16]byte
	// First is the envelope of header 1, and Invite an invitation, if the server
	// asks for one: to register. Both may be empty.
	First  []byte
	Invite string
	HTTP   *http.Client // nil: one of its own
	Now    func() time.Time
}

// Remote is a vault on a server.
type Remote struct {
	o        Options
	audience string
	http     *http.Client

	mu        sync.Mutex // around what follows
	token     string
	loggingIn chan struct{} // closed when the login under way has ended
	caps      *syncer.Caps
	collected time.Time
	direct    time.Time // until then the server's bucket is not asked
}

var (
	_ syncer.Remote  = (*Remote)(nil)
	_ syncer.Limiter = (*Remote)(nil)
)

const (
	dialTimeout = 10 * time.Second
	// answerTimeout bounds the wait for an answer to begin, the longest long poll
	// left aside.
	answerTimeout = 60 * time.Second
	// pieceTimeout bounds the wait for the next bytes of a body.
	pieceTimeout = 60 * time.Second
	maxAnswer    = 16 << 20 // bytes of an answer in JSON
)

// New prepares a client; it asks the server nothing. Error: an address that is
// none.
func New(o Options) (*Remote, error) {
	audience, err := api.Audience(o.Server)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Remote{o: o, audience: audience, http: o.HTTP}
	if r.http == nil {
		r.http = newHTTP()
	}
	return r, nil
}

func newHTTP() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32
	t.ResponseHeaderTimeout = answerTimeout + api.MaxWait
	t.DialContext = dialer(dialTimeout)
	t.ForceAttemptHTTP2 = true
	return &http.Client{Transport: t, CheckRedirect: noForeignToken}
}

// noForeignToken keeps token and boot token from going elsewhere: net/http would
// send them to another port of the same host. A redirect to a bucket asks for the
// range and nothing else. From TLS none is followed to plain HTTP.
func noForeignToken(req *http.Request, via []*http.Request) error {
	if len(via) >= 3 {
		return errors.New("too many redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("redirect away from TLS")
	}
	if req.URL.Host != via[0].URL.Host {
		for name := range req.Header {
			if name != "Range" && name != "User-Agent" {
				req.Header.Del(name)
			}
		}
	}
	return nil
}

// Close gives up connections.
func (r *Remote) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// request is one call.
type request struct {
	method, path string
	header       http.Header
	body         func() (io.Reader, int64) // anew for each attempt; nil: none
	anonymous    bool                      // without a token
}

// do sends a request and gives an answer of success. A session that has ended is
// begun anew, once. The caller closes the body.
func (r *Remote) do(ctx context.Context, q request) (*http.Response, error) {
	if q.anonymous || r.o.Signer == nil {
		return r.once(ctx, q, "")
	}
	token, err := r.session(ctx, "")
	if err != nil {
		return nil, err
	}
	res, err := r.once(ctx, q, token)
	if api.IsCode(err, api.CodeSessionInvalid) {
		if token, err = r.session(ctx, token); err != nil {
			return nil, err
		}
		res, err = r.once(ctx, q, token)
	}
	return res, err
}

func (r *Remote) once(ctx context.Context, q request, token string) (*http.Response, error) {
	var body io.Reader
	var size int64
	if q.body != nil {
		body, size = q.body()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, r.audience+q.path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if body != nil {
		req.ContentLength = size
	}
	switch {
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	case !q.anonymous:
		req.Header.Set(api.HeaderBoot, hex.EncodeToString(r.o.Boot[:]))
	}
	res, err := r.http.Do(req)
	if err := elsewhere(ctx, req, res, err); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, r.unreachable(ctx, err)
	}
	if res.StatusCode >= 400 {
		return nil, r.refusal(res)
	}
	return res, nil
}

// json does a call that sends and gets JSON; in and out may be nil. It gives the
// answer's status and headers.
func (r *Remote) json(ctx context.Context, method, path string, in, out any) (*http.Response, error) {
	q := request{method: method, path: path}
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		q.header = http.Header{"Content-Type": {api.TypeJSON}}
		q.body = func() (io.Reader, int64) { return bytes.NewReader(raw), int64(len(raw)) }
	}
	return r.read(ctx, q, out)
}

func (r *Remote) read(ctx context.Context, q request, out any) (*http.Response, error) {
	res, err := r.do(ctx, q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := readAll(ctx, res.Body, maxAnswer)
	if err != nil {
		return nil, err
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		return res, nil
	}
	if err := api.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("%w: the answer to %s %s: %w", syncer.ErrUnavailable, q.method, q.path, err)
	}
	return res, nil
}

// readAll reads a whole body of at most limit bytes, which fails if it stalls.
func readAll(ctx context.Context, body io.ReadCloser, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(newPaced(body), limit+1))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", syncer.ErrUnavailable, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: an answer of more than %d bytes", syncer.ErrTooLarge, limit)
	}
	return raw, nil
}

// session gives a token other than the one that was refused. One login serves
// all who wait.
func (r *Remote) session(ctx context.Context, refused string) (string, error) {
	for {
		r.mu.Lock()
		if r.token != "" && r.token != refused {
			defer r.mu.Unlock()
			return r.token, nil
		}
		if r.loggingIn == nil {
			break // with the lock
		}
		wait := r.loggingIn
		r.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	done := make(chan struct{})
	r.loggingIn = done
	r.mu.Unlock()
	token, err := r.login(ctx)
	r.mu.Lock()
	r.token, r.loggingIn = token, nil
	r.mu.Unlock()
	close(done)
	return token, err
}

// login proves that we are the device (CRYPTO.md section 8). The audience is our
// own address of the server, so that another cannot pass the proof on.
func (r *Remote) login(ctx context.Context) (string, error) {
	var c api.Challenge
	if err := r.open(ctx, api.PathChallenge, api.AskChallenge{DID: r.o.DID, Device: r.o.Device}, &c); err != nil {
		return "", err
	}
	nonce, err := api.Decode64(c.Nonce, api.NonceSize)
	if err != nil {
		return "", fmt.Errorf("%w: the server's nonce: %w", syncer.ErrUnavailable, err)
	}
	device, err := api.ParseID(r.o.Device)
	if err != nil {
		return "", err
	}
	now := r.o.Now().UnixMilli()
	p := api.LoginProof{Audience: r.audience, DID: r.o.DID, Device: device, Nonce: [api.NonceSize]byte(nonce), IssuedAt: now,
		Expires: now + api.ChallengeLife.Milliseconds()}
	in := api.Login{DID: p.DID, Device: r.o.Device, Nonce: c.Nonce, IAT: p.IssuedAt, Exp: p.Expires,
		Sig: base64.StdEncoding.EncodeToString(r.o.Signer.Sign(p.Body()))}
	var s api.Session
	if err := r.open(ctx, api.PathSession, in, &s); err != nil {
		return "", err
	}
	if s.Vault != r.o.Vault {
		return "", fmt.Errorf("%w: the server's account is of vault %.40q", syncer.ErrForeign, s.Vault)
	}
	return s.Token, nil
}

// open is a call without a token.
func (r *Remote) open(ctx context.Context, path string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = r.read(ctx, request{method: http.MethodPost, path: path, anonymous: true, header: http.Header{"Content-Type": {api.TypeJSON}},
		body: func() (io.Reader, int64) { return bytes.NewReader(raw), int64(len(raw)) }}, out)
	return err
}

// Caps implements syncer.Remote.
func (r *Remote) Caps(ctx context.Context) (syncer.Caps, error) {
	r.mu.Lock()
	known := r.caps
	r.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	if r.o.Signer == nil {
		return syncer.Caps{Version: 1, CreateOnly: true, Swap: true, Range: true, Login: true}, nil
	}
	u, err := r.Usage(ctx)
	if err != nil {
		return syncer.Caps{}, err
	}
	most, ok := api.SealedSize(4, u.FileLimit)
	if !ok {
		return syncer.Caps{}, fmt.Errorf("%w: the server's file limit is %d", syncer.ErrUnavailable, u.FileLimit)
	}
	caps := syncer.Caps{Version: 1, CreateOnly: true, Swap: true, Range: true, Wait: api.MaxWait, MaxBlob: most, PartMin: 16 << 20, PartMax: api.MaxPart,
		MaxParts: 9_999, Parallel: 4, Encryption: u.Versions, Login: true, Rows: true}
	r.mu.Lock()
	r.caps = &caps
	r.mu.Unlock()
	return caps, nil
}

// Probe asks the server what it can do. A vault that has no account yet can ask
// nothing, and gets what every server of ours can.
func (r *Remote) Probe(ctx context.Context) (syncer.Caps, error) {
	caps, err := r.Caps(ctx)
	if api.IsCode(err, api.CodeSessionInvalid) && r.o.First != nil {
		return syncer.Caps{Version: 1, CreateOnly: true, Swap: true, Range: true, Wait: api.MaxWait, PartMin: 16 << 20, PartMax: api.MaxPart,
			MaxParts: 9_999, Parallel: 4, Encryption: []int{3, 4}, Login: true, Rows: true}, nil
	}
	return caps, err
}

// Usage asks for plan, quota and limits.
func (r *Remote) Usage(ctx context.Context) (u api.Usage, err error) {
	_, err = r.json(ctx, http.MethodGet, api.PathUsage, nil, &u)
	return u, err
}

// Limits implements syncer.Limiter.
func (r *Remote) Limits(ctx context.Context) (syncer.Limits, error) {
	u, err := r.Usage(ctx)
	return syncer.Limits{Plan: u.Plan, Usage: u.Usage, Limit: u.Limit, Remaining: u.Remaining, MaxFile: u.FileLimit, Versions: u.Versions}, err
}

// register makes the account, with the vault's first header as the authority.
func (r *Remote) register(ctx context.Context) (api.Registered, error) {
	sum := sha256.Sum256(r.o.Boot[:])
	var out api.Registered
	err := r.open(ctx, api.PathVaults, api.Register{Header: r.o.First, Boot: hex.EncodeToString(sum[:]), Invite: r.o.Invite}, &out)
	return out, err
}

// unreachable says that the server was not to be had; ctx's own end stays what
// it is.
func (r *Remote) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	hint, said := "", blob.NoConnection(err)
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	switch {
	case errors.As(err, &certificate):
		err = fmt.Errorf("%w: %w", syncer.ErrUntrusted, certificate.Err)
		said = fmt.Sprintf("the certificate of %s is not trusted: %v", r.o.Server, certificate.Err)
	case errors.As(err, &dns) && dns.IsNotFound:
		hint = "no such host: look at the address, and at the network"
	}
	if said == "" {
		said = fmt.Sprintf("the server at %s does not answer: %s", r.o.Server, blob.NoAnswer(bare(err)))
	}
	return blob.WithHint(blob.WithSaying(fmt.Errorf("%w: %w", syncer.ErrUnavailable, err), said), hint)
}

// bare is an error of a request without the request.
func bare(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		return inURL.Err
	}
	return err
}
