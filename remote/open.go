// Package remote opens a vault's remote by its address: a directory, a bucket, a
// server.
//
// It refuses to know how any of them works.
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/client"
	"github.com/vaultdrive/vaultdrive/remote/objects"
	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// ErrAddress: not the address of a remote we know.
var ErrAddress = errors.New("not the address of a remote")

const hintAddress = "file:///DIRECTORY or the path of one that is there, s3://BUCKET/PREFIX?endpoint=https://HOST&region=NAME, or https://HOST for a server"

// Options say whose remote it is, and who we are there.
type Options struct {
	Vault  string // id
	Device string // our own id; "" to only look
	// Remote is the id that the marker had when sync was enabled or joined here,
	// "" before. It is what tells a directory that is not mounted from a new one.
	Remote string
	// Caps are those that Probe found then; the zero value before.
	Caps syncer.Caps
	// Credentials for a bucket, over what the environment says: only the fields
	// from AccessKey on are used.
	S3 s3.Options
	// Login is for a server; the zero value otherwise.
	Login Login
	// Now is this device's clock, for directories and buckets; nil for time.Now.
	Now func() time.Time
}

// Login says who logs in at a server, and how a vault gets an account there.
type Login struct {
	Signer client.Signer // of the device; nil for one that has not joined yet
	DID    string
	Boot   [16]byte // boot token of the vault's address
	First  []byte   // envelope of the vault's first header; only to register
	Invite string   // only to register, where the server asks for one
}

// Remote is an open remote. Close it when all calls have ended.
type Remote struct {
	syncer.Remote
	place place
	probe func(context.Context) (syncer.Caps, error)
}

// place is where a vault's objects lie, and what its kind can do.
type place struct {
	store   blob.Store
	limits  syncer.Caps
	options objects.Options // Swap, HeadChanged and Clock
	close   func() error
}

// Open opens the remote at an address: file:///directory, https://host, or
// s3://bucket/prefix with endpoint, region, style, profile and insecure as
// parameters. It asks the remote nothing, so it works offline. Errors: ErrAddress; blob.ErrDenied
// without credentials.
func Open(address string, o Options) (*Remote, error) {
	if IsServer(address) {
		return openServer(address, o)
	}
	p, err := openPlace(address, o)
	if err != nil {
		return nil, err
	}
	p.options.Vault, p.options.Device, p.options.Remote, p.options.Caps = o.Vault, o.Device, o.Remote, o.Caps
	p.options.Now = o.Now
	r, err := objects.New(p.store, p.options)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	probe := func(ctx context.Context) (syncer.Caps, error) {
		return objects.Probe(ctx, p.store, p.options, p.limits)
	}
	return &Remote{Remote: r, place: p, probe: probe}, nil
}

// IsServer says whether an address is that of a server of ours.
func IsServer(address string) bool {
	return strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "http://")
}

// openServer talks to a server of ours. A token on a wire that others can read
// would let them in, so there is no HTTP without TLS but to this machine.
func openServer(address string, o Options) (*Remote, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, blob.WithHint(fmt.Errorf("%w: %w", ErrAddress, err), hintAddress)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, blob.WithHint(fmt.Errorf("%w: http:// is for a server on this machine alone", ErrAddress), "write https://")
	}
	c, err := client.New(client.Options{Server: address, Vault: o.Vault, Device: o.Device, DID: o.Login.DID, Signer: o.Login.Signer,
		Boot: o.Login.Boot, First: o.Login.First, Invite: o.Login.Invite})
	if err != nil {
		return nil, blob.WithHint(fmt.Errorf("%w: %w", ErrAddress, err), hintAddress)
	}
	return &Remote{Remote: c, place: place{close: c.Close}, probe: c.Probe}, nil
}

// Probe finds out what the remote can do, by trying; once, when sync is enabled
// or joined. The Caps belong in the Options of the next Open.
func (r *Remote) Probe(ctx context.Context) (syncer.Caps, error) {
	return r.probe(ctx)
}

// SetBoot implements syncer.Admitter. Directories and buckets ask for no token.
func (r *Remote) SetBoot(ctx context.Context, token [16]byte) (asked bool, err error) {
	if a, admits := r.Remote.(syncer.Admitter); admits {
		return a.SetBoot(ctx, token)
	}
	return false, nil
}

// Admits implements syncer.Admitter.
func (r *Remote) Admits(ctx context.Context) (bool, error) {
	if a, admits := r.Remote.(syncer.Admitter); admits {
		return a.Admits(ctx)
	}
	return true, nil
}

// Limits implements syncer.Limiter. Error: errors.ErrUnsupported where the place
// sets none.
func (r *Remote) Limits(ctx context.Context) (syncer.Limits, error) {
	if l, ok := r.Remote.(syncer.Limiter); ok {
		return l.Limits(ctx)
	}
	return syncer.Limits{}, errors.ErrUnsupported
}

// Close gives up connections.
func (r *Remote) Close() error { return r.place.close() }

// Vaults lists the ids of the vaults at an address, for those who join.
// A server shows none.
func Vaults(ctx context.Context, address string, o Options) (ids []string, err error) {
	if IsServer(address) {
		return nil, nil
	}
	p, err := openPlace(address, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return objects.Vaults(ctx, p.store)
}

func openPlace(address string, o Options) (place, error) {
	scheme, _, _ := strings.Cut(address, ":")
	switch scheme {
	case "file":
		return openFolder(address, o)
	case "s3":
		return openBucket(address, o)
	}
	return place{}, blob.WithHint(fmt.Errorf("%w: it begins with %.20q", ErrAddress, scheme), hintAddress)
}

func openFolder(address string, o Options) (place, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host != "" && u.Host != "localhost" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !filepath.IsAbs(u.Path) {
		return place{}, blob.WithHint(fmt.Errorf("%w: a directory is file:///PATH, with %%20 for a space", ErrAddress), hintAddress)
	}
	return place{
		store:  newFolder(filepath.Clean(u.Path), o.Vault, o.Remote != ""),
		limits: syncer.Caps{Range: true, Folder: true, PartMin: 1, PartMax: 1 << 40, MaxParts: 100_000, Parallel: 2},
		close:  func() error { return nil },
	}, nil
}

func openBucket(address string, o Options) (place, error) {
	b, err := s3.ParseURL(address)
	if err != nil {
		return place{}, blob.WithHint(fmt.Errorf("%w: %w", ErrAddress, err), cmp.Or(blob.Hint(err), hintAddress))
	}
	b.AccessKey, b.SecretKey, b.SessionToken = o.S3.AccessKey, o.S3.SecretKey, o.S3.SessionToken
	b.CredentialsFile = o.S3.CredentialsFile
	if o.S3.Profile != "" {
		b.Profile = o.S3.Profile
	}
	store, err := s3.Open(b)
	if err != nil {
		return place{}, err
	}
	limits := syncer.Caps{MaxBlob: s3.MaxBlob, PartMin: s3.MinPart, PartMax: s3.MaxPart, MaxParts: s3.MaxParts, Parallel: 4}
	if strings.Contains(b.Endpoint, ".r2.cloudflarestorage.com") {
		limits.Parallel = 2
	}
	return place{
		store: store, limits: limits, close: store.Close,
		options: objects.Options{Swap: store.Replace, HeadChanged: store.HeadChanged, Clock: store.Clock},
	}, nil
}
