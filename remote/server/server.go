// Package server is the blind server of vaults: sessions, attachments, the
// replica log, the change feed, and the collection of what nobody needs.
//
// It refuses to know any key: nothing it depends on can decrypt.
package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Registration says who may make an account.
type Registration string

// The ways to register.
const (
	RegistrationOpen   Registration = "open"
	RegistrationInvite Registration = "invite"
	RegistrationClosed Registration = "closed"
)

// Options are what an operator decides.
type Options struct {
	DB    *metadb.DB
	Blobs blob.Store
	// Temp is a directory for bodies under way; best on the file system of the
	// blobs. What lies there at the start is removed.
	Temp string
	// Audience is the public address, scheme://host[:port], as clients have it:
	// a login for another is refused.
	Audience     string
	Registration Registration
	Plan         string // of new accounts; empty: premium
	Quota        int64  // bytes, of new accounts; 0: 10 GiB, 100 MiB on the free plan
	FileLimit    int64  // bytes of plaintext; 0: api.MaxFile
	Limits       Limits // zero: those of SYNC.md section 7
	// Connections bound those that Bound lets in.
	Connections Connections
	// Sign gives an address at which the object of that key can be read for so
	// long without any credentials, so that devices fetch larger contents from the
	// bucket itself. nil: all bytes go through the server.
	Sign func(ctx context.Context, key string, life time.Duration) (string, error)
	// TrustProxy takes the client's address from X-Forwarded-For.
	TrustProxy bool
	Log        *slog.Logger     // nil: none
	Now        func() time.Time // nil: time.Now
}

// Server answers the requests. It is an http.Handler.
type Server struct {
	o       Options
	log     *slog.Logger
	key     []byte // of nonces
	mux     *http.ServeMux
	wakeups *wakeups
	far     *far // nil where no other process can be
	bodies  *bodies
	memory  *memoryRates
	metrics *metrics

	strict   bool         // strictTransport
	held     atomic.Int64 // bytes of bodies in memory
	draining atomic.Bool
	drained  chan struct{} // closed when waiters shall go
	drain    sync.Once
}

const (
	defaultQuota = 10 << 30
	freeQuota    = 104_857_600
	keyName      = "nonce-key"
)

// New prepares a server on a database and a store. Nothing runs until Handler is
// served and Run is called.
func New(ctx context.Context, o Options) (*Server, error) {
	o = o.withDefaults()
	if _, err := api.Audience(o.Audience); err != nil {
		return nil, fmt.Errorf("public address: %w", err)
	}
	if err := emptyTemp(o.Temp); err != nil {
		return nil, fmt.Errorf("directory for uploads: %w", err)
	}
	text, err := o.DB.Setting(ctx, keyName, randomHex32)
	if err != nil {
		return nil, err
	}
	if _, err := o.DB.ServerID(ctx, NewServerID); err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, errors.Join(fmt.Errorf("setting %s is damaged", keyName), err)
	}
	s := &Server{o: o, log: o.Log, key: key, wakeups: newWakeups(), bodies: newBodies(o.Limits), memory: newMemoryRates(o.Now),
		metrics: newMetrics(), drained: make(chan struct{})}
	s.strict = o.strictTransport()
	if o.DB.Shared() {
		s.far = newFar()
	}
	free, err := o.DB.Unguarded(ctx)
	if err != nil {
		return nil, err
	}
	if free {
		s.log.Warn("row-level security does not bind the database's role: use one that is no superuser and owns the tables")
	}
	s.mux = s.routes()
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Plan == "" {
		o.Plan = api.PlanPremium
	}
	if o.Quota == 0 {
		o.Quota = map[bool]int64{true: freeQuota, false: defaultQuota}[o.Plan == api.PlanFree]
	}
	if o.FileLimit == 0 {
		o.FileLimit = api.MaxFile
	}
	if o.Registration == "" {
		o.Registration = RegistrationClosed
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	o.Connections = o.Connections.withDefaults()
	return o
}

// strictTransport says whether browsers shall never ask this host without TLS
// again (RFC 6797). That is about all its ports, so only who has that of https may
// say it; a proxy says it itself.
func (o *Options) strictTransport() bool {
	u, err := url.Parse(o.Audience)
	return err == nil && u.Scheme == "https" && u.Port() == "" && !o.TrustProxy
}

// emptyTemp removes what a killed server left of bodies.
func emptyTemp(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(dir+"/"+e.Name()))
	}
	return err
}

// NewServerID draws the id of a server: it says whose data a database holds.
func NewServerID() string { return hex.EncodeToString(randomBytes(16)) }

func randomHex32() string { return hex.EncodeToString(randomBytes(32)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

// newID draws the id of an attachment: a random UUID, version 4.
func newID() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Drain lets waiters go and refuses to be ready; what is under way goes on.
func (s *Server) Drain() {
	s.drain.Do(func() {
		s.draining.Store(true)
		close(s.drained)
	})
}
