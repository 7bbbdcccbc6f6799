package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/s3"
	vaultserver "github.com/vaultdrive/vaultdrive/remote/server"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	// drainWait is how long a load balancer has to see that no new work is wanted.
	drainWait = 5 * time.Second
	// uploadWait is how long uploads under way may take at the end.
	uploadWait = 30 * time.Second
)

// serveCommand is the server of vaults.
type serveCommand struct {
	serveStores
	address, public, metrics string
	cert, key                string
	registration, plan       string
	quota, fileLimit         string
	proxy, redirect          bool
	quick, unlimited         bool
	connections, each        int
}

// serveStores are where a server keeps its things.
type serveStores struct {
	ui              *ui
	data            string
	database, blobs string
}

func (s *serveStores) flags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "data", Destination: &s.data, Usage: "`DIR` of the server's own; made if it is missing"},
		&cli.StringFlag{Name: "database", EnvVars: []string{"VAULTDRIVE_DATABASE"}, Destination: &s.database,
			Usage: "postgres://… `URL` instead of a SQLite file in DIR"},
	}, more...)
}

func blobsFlag(s *serveStores) cli.Flag {
	return &cli.StringFlag{Name: "blobs", EnvVars: []string{"VAULTDRIVE_BLOBS"}, Destination: &s.blobs,
		Usage: "s3://BUCKET/PREFIX?… `URL` instead of a directory in DIR"}
}

func serveCLI(u *ui) *cli.Command {
	c := &serveCommand{serveStores: serveStores{ui: u}}
	return &cli.Command{
		Name:  "serve",
		Usage: "be a server that vaults are synchronised through, and that can read none of them",
		Description: "Everything lies in DIR: a SQLite database and a directory of encrypted blobs. With --database and --blobs any\n" +
			"number of equal processes serve from one PostgreSQL and one bucket.\n" +
			"New vaults register freely when the server listens on loopback only, else with an invitation.",
		Flags: c.flags(
			blobsFlag(&c.serveStores),
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8780", Destination: &c.address, Usage: "`HOST:PORT`"},
			&cli.StringFlag{Name: "public", Destination: &c.public, Usage: "the server's address as clients have it, `https://HOST`; default: where it listens"},
			&cli.StringFlag{Name: "tls-cert", Destination: &c.cert, Usage: "certificate chain, a PEM `FILE`"},
			&cli.StringFlag{Name: "tls-key", Destination: &c.key, Usage: "its key, a PEM `FILE`"},
			&cli.BoolFlag{Name: "behind-proxy", Destination: &c.proxy, Usage: "TLS is a proxy's, which adds X-Forwarded-For"},
			&cli.StringFlag{Name: "registration", Destination: &c.registration, Usage: "`WHO` may register: open, invite or closed"},
			&cli.StringFlag{Name: "plan", Value: api.PlanPremium, Destination: &c.plan, Usage: "of new accounts: `free` or premium"},
			&cli.StringFlag{Name: "quota", Destination: &c.quota, Usage: "of new accounts, such as 10G; default: 10G, on the free plan 100M"},
			&cli.StringFlag{Name: "file-limit", Destination: &c.fileLimit, Usage: "longest file, such as 4G; default: 25M"},
			&cli.BoolFlag{Name: "no-rate-limits", Destination: &c.unlimited, Usage: "for a server whose users trust each other; quotas hold"},
			&cli.BoolFlag{Name: "redirect", Destination: &c.redirect, Usage: "let devices fetch larger contents from the bucket itself, by signed addresses; they must reach it at its endpoint"},
			&cli.IntFlag{Name: "max-connections", Value: vaultserver.DefaultConnections, Destination: &c.connections, Usage: "at most `N` open at a time; each long poll is one"},
			&cli.IntFlag{Name: "max-connections-each", Value: vaultserver.DefaultEach, Destination: &c.each,
				Usage: "at most `N` of them of one address, the own machine's and a proxy's left out"},
			&cli.StringFlag{Name: "metrics", Destination: &c.metrics, Usage: "Prometheus metrics at `HOST:PORT`"},
			&cli.BoolFlag{Name: "no-drain-wait", Destination: &c.quick, Usage: "end at once instead of 5 s after /readyz says so"},
		),
		Action: func(cx *cli.Context) error {
			if cx.NArg() > 0 {
				return usage("serve takes no operands")
			}
			return c.Run(cx.Context)
		},
		Subcommands: []*cli.Command{serveAccountCLI(u), serveInviteCLI(u), serveMigrateCLI(u)},
	}
}

// open opens the database of a server. The caller closes.
func (s *serveStores) open(ctx context.Context) (*metadb.DB, error) {
	if s.data == "" {
		return nil, usage("--data DIR says where the server keeps its things")
	}
	db, err := s.openAny(ctx)
	if err != nil {
		return nil, err
	}
	if err := db.MayServe(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openBeside opens the database for a command that changes it, beside a running
// server but never beside a move: what is written to a source that was copied
// already would be lost. The caller ends.
func (s *serveStores) openBeside(ctx context.Context) (db *metadb.DB, end func() error, err error) {
	const hint = "wait until vaultdrive serve migrate has ended, then do it where the server is"
	if s.data == "" {
		return nil, nil, usage("--data DIR says where the server keeps its things")
	}
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return nil, nil, err
	}
	moving, err := lockFile(filepath.Join(s.data, movingLock), unix.LOCK_SH)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fail(metadb.ErrInUse, hint, "%s: its data are being moved", s.data)
	}
	if err != nil {
		return nil, nil, err
	}
	if db, err = s.open(ctx); err != nil {
		return nil, nil, errors.Join(err, moving.Close())
	}
	release, err := db.Hold(ctx, false)
	if err != nil {
		return nil, nil, errors.Join(hinted(err, hint), db.Close(), moving.Close())
	}
	return db, func() error { release(); return errors.Join(db.Close(), moving.Close()) }, nil
}

// openAny opens the database also if it is no server's now.
func (s *serveStores) openAny(ctx context.Context) (*metadb.DB, error) {
	address := s.database
	if address != "" && !metadb.IsPostgres(address) {
		return nil, usage("--database postgres://USER@HOST/NAME: that is the form; without it the data are in a file in --data")
	}
	if address == "" {
		if err := os.MkdirAll(s.data, 0o700); err != nil {
			return nil, err
		}
		address = s.metaFile()
	}
	db, err := metadb.Open(ctx, address)
	if errors.Is(err, metadb.ErrNewerSchema) {
		return nil, hinted(err, "the database was used by a newer vaultdrive: install that version")
	}
	return db, err
}

// openBlobs gives the store and what closes it.
func (s *serveStores) openBlobs() (blob.Store, func() error, error) {
	if s.blobs != "" {
		o, err := s3.ParseURL(s.blobs)
		if err != nil {
			return nil, nil, err
		}
		store, err := s3.Open(o)
		if err != nil {
			return nil, nil, err
		}
		return store, store.Close, nil
	}
	dir := filepath.Join(s.data, "blobs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	store, err := blob.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}

// underMove says why a server cannot start yet.
func underMove(what string) error {
	return fail(metadb.ErrInUse, "wait until vaultdrive serve migrate has ended, then start the server where the data are",
		"%s: the data of this server are being moved", what)
}

// lock keeps a second server out of a directory.
func (s *serveStores) lock() (*os.File, error) {
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return nil, err
	}
	f, err := lockFile(filepath.Join(s.data, "serve.lock"), unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		if moving, busy := lockFile(filepath.Join(s.data, movingLock), unix.LOCK_SH); errors.Is(busy, unix.EWOULDBLOCK) {
			return nil, underMove(s.data)
		} else if busy == nil {
			_ = moving.Close()
		}
		err = fail(errMounted, "give every process a --data of its own; they share --database and --blobs", "%s: another server uses it", s.data)
	}
	return f, err
}

// movingLock is held by who moves the data alone, and by commands beside a server
// together: a SQLite file has no locks of that kind of its own.
const movingLock = "move.lock"

// lockFile takes a lock that ends with the file or the process, without waiting.
// Error: EWOULDBLOCK if another has it.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Run serves until it is told to end.
func (c *serveCommand) Run(ctx context.Context) (err error) {
	o, err := c.options()
	if err != nil {
		return err
	}
	if c.data == "" {
		return usage("--data DIR says where the server keeps its things")
	}
	lock, err := c.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	o.Connections = c.connectionBounds(o.Log)
	if o.DB, err = c.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.DB.Close()) }()
	release, err := o.DB.Hold(ctx, false)
	if errors.Is(err, metadb.ErrInUse) {
		err = underMove(c.shownDatabase())
	}
	if err != nil {
		return err
	}
	defer release()
	blobs, closeBlobs, err := c.openBlobs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBlobs()) }()
	o.Blobs, o.Temp = blobs, filepath.Join(c.data, "uploads")
	if c.redirect {
		o.Sign = c.signer(ctx, blobs, o.Log)
	}
	l, config, err := c.listen()
	if err != nil {
		return err
	}
	defer l.Close()
	if o.Audience == "" {
		scheme := "http"
		if c.cert != "" {
			scheme = "https"
		}
		o.Audience = scheme + "://" + l.Addr().String()
	}
	s, err := vaultserver.New(ctx, o)
	if err != nil {
		return err
	}
	bounded := s.Bound(l, config == nil)
	if config != nil {
		bounded = tls.NewListener(bounded, config)
	}
	return c.serve(ctx, s, bounded, o)
}

// options reads what the flags say.
func (c *serveCommand) options() (o vaultserver.Options, err error) {
	o = vaultserver.Options{Audience: c.public, Plan: c.plan, Registration: vaultserver.Registration(c.registration), TrustProxy: c.proxy,
		Log: slog.New(slog.NewJSONHandler(c.ui.err, nil))}
	switch {
	case c.plan != api.PlanFree && c.plan != api.PlanPremium:
		return o, usage("--plan %s: free or premium", c.plan)
	case c.redirect && c.blobs == "":
		return o, usage("--redirect is for --blobs s3://…: a directory has no address of its own")
	case c.connections < 1 || c.each < 1:
		return o, usage("--max-connections and --max-connections-each: 1 or more")
	case (c.cert == "") != (c.key == ""):
		return o, usage("--tls-cert and --tls-key go together")
	}
	if o.Quota, err = sizeFlag("--quota", c.quota); err != nil {
		return o, err
	}
	if o.FileLimit, err = sizeFlag("--file-limit", c.fileLimit); err != nil {
		return o, err
	}
	if c.unlimited {
		o.Limits = vaultserver.NoLimits()
	}
	loopback := isLoopback(c.address)
	switch o.Registration {
	case "":
		o.Registration = vaultserver.RegistrationInvite
		if loopback && c.public == "" && !c.proxy {
			o.Registration = vaultserver.RegistrationOpen
		}
	case vaultserver.RegistrationOpen, vaultserver.RegistrationInvite, vaultserver.RegistrationClosed:
	default:
		return o, usage("--registration %s: open, invite or closed", c.registration)
	}
	if !loopback && c.cert == "" && !c.proxy {
		return o, fail(errUsage, "--tls-cert and --tls-key, or --behind-proxy where a proxy does it",
			"without TLS everybody on the way could take a session over")
	}
	if c.public != "" {
		if o.Audience, err = api.Audience(c.public); err != nil {
			return o, usage("--public %v", err)
		}
	}
	return o, nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// spareFiles is what a server opens beside its connections: contents, bodies under
// way, the database and the bucket.
const spareFiles = 1024

// connectionBounds are what the flags say, as far as the system lets this process
// have open files.
func (c *serveCommand) connectionBounds(log *slog.Logger) vaultserver.Connections {
	b := vaultserver.Connections{All: c.connections, Each: c.each}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil { // as a fault of the system would be
		return b
	}
	most := max(files.Cur/2, files.Cur-min(files.Cur, spareFiles))
	if most < uint64(b.All) {
		b.All = int(most)
		log.Warn("fewer connections than --max-connections: the limit of open files (ulimit -n, LimitNOFILE=) is low", "files", files.Cur, "connections", b.All)
	}
	return b
}

// listen gives the listener, and the configuration of TLS if it is ours to do.
func (c *serveCommand) listen() (*net.TCPListener, *tls.Config, error) {
	var config *tls.Config
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, nil, fmt.Errorf("--tls-cert: %w", err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		return nil, nil, fmt.Errorf("--listen: %w", err)
	}
	return l.(*net.TCPListener), config, nil
}

// signer gives what signs addresses of the bucket, and nil if the bucket takes
// none: then all goes through the server.
func (c *serveCommand) signer(ctx context.Context, blobs blob.Store, log *slog.Logger) func(context.Context, string, time.Duration) (string, error) {
	bucket, ok := blobs.(*s3.Store)
	if !ok {
		return nil
	}
	if err := bucket.CheckSign(ctx); err != nil {
		log.Warn("no redirects: the bucket does not take signed addresses", "err", err)
		return nil
	}
	return bucket.Sign
}

// serve answers until ctx ends, then lets what is under way come to its end.
func (c *serveCommand) serve(ctx context.Context, s *vaultserver.Server, l net.Listener, o vaultserver.Options) error {
	// Before anything can be under way: whoever sees ctx end may look at once.
	c.ui.draining.Store(true)
	background, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.Run(background) })
	if c.metrics != "" {
		closeMetrics, err := serveMetrics(c.metrics, s)
		if err != nil {
			return err
		}
		defer closeMetrics()
	}
	h := s.HTTP()
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	o.Log.Info("serving", "address", o.Audience, "listen", l.Addr().String(), "registration", string(o.Registration), "plan", o.Plan)
	notify("READY=1\nSTATUS=serving")
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.Drain()
	o.Log.Info("draining")
	if !c.quick {
		time.Sleep(drainWait)
	}
	end, cancel := context.WithTimeout(context.Background(), uploadWait)
	defer cancel()
	if err := h.Shutdown(end); err != nil {
		o.Log.Warn("uploads were cut", "err", err)
		return h.Close()
	}
	o.Log.Info("ended")
	return nil
}

// serveMetrics has a listener of its own, which is not for clients.
func serveMetrics(address string, s *vaultserver.Server) (func(), error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.Metrics())
	h := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = h.Serve(l) }() // ends when it is closed
	return func() { _ = h.Close() }, nil
}

// sizeFlag reads a number of bytes; "" is 0.
func sizeFlag(name, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, ok := parseSize(text)
	if !ok || n <= 0 {
		return 0, usage("%s %s: a number of bytes, such as 500M or 10G", name, text)
	}
	return n, nil
}
