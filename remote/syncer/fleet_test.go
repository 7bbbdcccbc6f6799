package syncer_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	password = "correct horse battery staple"
	patience = 2 * time.Minute // for what has to happen; nothing waits that long if all is well
)

// fleet is one vault on several devices over one real remote.
type fleet struct {
	t       testing.TB
	url     string
	s3      s3.Options                                         // credentials of a bucket
	faults  func(device string, r syncer.Remote) syncer.Remote // nil: none
	now     func() time.Time                                   // nil: time.Now
	marks   vaultcore.Marks                                    // nil: none
	devices []*device
}

// device is one device with its engine.
type device struct {
	*syncer.Engine
	f      *fleet
	name   string
	clock  func() time.Time // instead of the fleet's; nil: that
	home   string
	v      *vaultcore.Vault
	remote *remote.Remote
	o      syncer.Options // what the engine gets beside vault and remote
	stop   func()         // ends Run; nil while it does not run
}

// newFleet makes a vault on its first device and joins the others to it.
func newFleet(t testing.TB, url string, names ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, url: url}
	for _, name := range names {
		f.add(name)
	}
	return f
}

func folder(t testing.TB) string { return "file://" + t.TempDir() }

func (f *fleet) add(name string) *device {
	f.t.Helper()
	d := &device{f: f, name: name, home: filepath.Join(f.t.TempDir(), name)}
	if len(f.devices) == 0 {
		_, err := vaultcore.Create(context.Background(), vaultcore.CreateOptions{Home: d.home, Password: []byte(password), KDF: quickKDF})
		f.must(err)
	} else {
		f.join(d)
	}
	d.openVault()
	f.devices = append(f.devices, d)
	d.enable()
	return d
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// join makes the home of a new device from what lies on the remote.
func (f *fleet) join(d *device) {
	f.t.Helper()
	ctx := context.Background()
	first := f.devices[0]
	var headers [][]byte
	for seq := uint64(1); ; seq++ {
		h, err := first.remote.Get(ctx, syncer.HeaderKey(seq))
		if errors.Is(err, syncer.ErrNotFound) {
			break
		}
		f.must(err)
		headers = append(headers, h)
	}
	r, err := vaultcore.Join(ctx, vaultcore.JoinOptions{
		Home: d.home, Password: []byte(password), Headers: headers, DID: first.v.Status().DID, KDF: quickKDF,
	})
	f.must(err)
	f.must(first.remote.Put(ctx, syncer.HeaderKey(r.Seq), r.Header))
}

func (d *device) openVault() {
	d.f.t.Helper()
	v, err := vaultcore.Open(context.Background(), d.home, vaultcore.Credentials{Password: []byte(password)}, vaultcore.Options{
		KDF: quickKDF, Now: d.now(), Marks: d.f.marks, Limits: vaultcore.Limits{FetchWait: patience},
	})
	d.f.must(err)
	d.v = v
	d.f.t.Cleanup(func() {
		d.halt()
		if err := v.Close(context.Background()); err != nil {
			d.f.t.Errorf("%s: close: %v", d.name, err)
		}
	})
}

// enable probes the remote, makes it the vault's and keeps that.
func (d *device) enable() {
	d.f.t.Helper()
	ctx := context.Background()
	r, err := remote.Open(d.f.url, d.remoteOptions(nil, ""))
	d.f.must(err)
	caps, err := r.Probe(ctx)
	d.f.must(errors.Join(err, r.Close()))
	text, err := json.Marshal(caps)
	d.f.must(err)
	d.connect(text, "")
	place, err := syncer.Enable(ctx, d.v, d.remote, d.name)
	d.f.must(err)
	parsed, err := seal.ParseHex(place.Remote)
	d.f.must(err)
	d.f.must(d.v.SetRemote(ctx, vaultcore.RemoteSettings{URL: d.f.url, ID: parsed, Shared: !place.New, Caps: text, Enabled: true}))
	d.engine()
}

func (d *device) remoteOptions(caps []byte, id string) remote.Options {
	o := remote.Options{Vault: d.v.VaultID().UUID(), Device: d.v.DeviceID().UUID(), Remote: id, S3: d.f.s3}
	if strings.HasPrefix(d.f.url, "file:") {
		o.Now = hurried()
	}
	if caps != nil {
		d.f.must(json.Unmarshal(caps, &o.Caps))
	}
	return o
}

// hurried is a clock on which two seconds more pass with every look at it. A
// directory's tip is written once a second at most, which remote/objects tests;
// nothing here waits for that.
func hurried() func() time.Time {
	var looks atomic.Int64
	return func() time.Time { return time.Now().Add(time.Duration(looks.Add(1)) * 2 * time.Second) }
}

// connect opens the remote as a started program does.
func (d *device) connect(caps []byte, id string) {
	r, err := remote.Open(d.f.url, d.remoteOptions(caps, id))
	d.f.must(err)
	d.remote = r
	d.f.t.Cleanup(func() { r.Close() })
}

// engine makes a new engine over the open vault and remote.
func (d *device) engine() {
	o := d.o
	o.Vault, o.Remote = d.v, d.remote
	if now := d.now(); now != nil {
		o.Now = now
	}
	if d.f.faults != nil {
		o.Remote = d.f.faults(d.name, d.remote)
	}
	if testing.Verbose() && o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("device", d.name)
	}
	d.Engine = syncer.New(o)
	d.v.OnFetch(d.Engine.Fetch)
}

func (d *device) now() func() time.Time {
	if d.clock != nil {
		return d.clock
	}
	return d.f.now
}

// restart ends the device's program in an orderly way and starts it anew.
func (d *device) restart() {
	d.f.t.Helper()
	d.halt()
	d.f.must(d.v.Close(context.Background()))
	d.resume()
}

// resume starts the program on the device's home.
func (d *device) resume() {
	d.f.t.Helper()
	d.openVault()
	r, ok, err := d.v.Remote(context.Background())
	if err != nil || !ok {
		d.f.t.Fatalf("%s: settings of the remote: %v, %v", d.name, ok, err)
	}
	d.connect(r.Caps, r.ID.Hex())
	d.engine()
}

// kill goes on with what a kill at this moment leaves on the disk.
func (d *device) kill() {
	d.f.t.Helper()
	home := d.killedHome()
	d.halt()
	d.home = home
	d.resume()
}

// killedHome copies the home as a kill at this moment would leave it: the database
// first, since what lands in a file lands there before its row says so.
func (d *device) killedHome() string {
	d.f.t.Helper()
	home := filepath.Join(d.f.t.TempDir(), d.name)
	d.f.must(os.Mkdir(home, 0o700))
	for _, name := range []string{"vault.db", "vault.db-wal"} {
		b, err := os.ReadFile(filepath.Join(d.home, name))
		d.f.must(err)
		d.f.must(os.WriteFile(filepath.Join(home, name), b, 0o600))
	}
	d.f.must(filepath.WalkDir(d.home, func(path string, e os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, d.home)
		if err != nil || name == "" || strings.HasPrefix(name, "/vault.db") {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(home+name, 0o700)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // unlinked meanwhile
		}
		if err != nil {
			return err
		}
		return os.WriteFile(home+name, b, 0o600)
	}))
	return home
}

// run starts the loop.
func (d *device) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	e := d.Engine
	go func() { done <- e.Run(ctx) }()
	d.stop = func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				d.f.t.Errorf("%s: run ended: %v", d.name, err)
			}
		case <-time.After(patience):
			d.f.t.Errorf("%s: run does not end", d.name)
		}
	}
}

func (d *device) halt() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

// sync is `sync now`, which has to work.
func (d *device) sync() {
	d.f.t.Helper()
	if err := d.trySync(); err != nil {
		d.f.t.Fatalf("%s: sync now: %v\n%+v", d.name, err, d.Status())
	}
}

func (d *device) trySync() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return d.SyncNow(ctx)
}

func (f *fleet) sync() {
	f.t.Helper()
	for range 2 {
		for _, d := range f.devices {
			d.sync()
		}
	}
}

// agree holds the states and trees of all devices against each other.
func (f *fleet) agree() {
	f.t.Helper()
	first := f.devices[0]
	for _, d := range f.devices[1:] {
		if d.state() != first.state() {
			f.t.Fatalf("%s and %s hold other records:\n%s\n\n%s", d.name, first.name, d.list(), first.list())
		}
		if got, want := d.list(), first.list(); got != want {
			f.t.Fatalf("%s shows\n%s\n%s shows\n%s", d.name, got, first.name, want)
		}
	}
}

func (d *device) state() [32]byte {
	d.f.t.Helper()
	s, err := d.v.State(context.Background())
	d.f.must(err)
	return s
}

func (d *device) write(path, data string) {
	d.f.t.Helper()
	w, err := d.v.OpenWrite(path, vaultcore.WriteOptions{Parents: true})
	d.f.must(err)
	_, err = io.WriteString(w, data)
	d.f.must(err)
	d.f.must(w.Commit())
}

// read gives the content of a file, or what reading it ends with.
func (d *device) read(path string) string {
	r, err := d.v.OpenRead(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(b)
}

// list gives the tree with a hash or the text of its contents.
func (d *device) list() string {
	d.f.t.Helper()
	var lines []string
	err := d.v.List("", true, func(i vaultcore.Info) error {
		if i.Kind != "file" {
			lines = append(lines, i.Path+"/")
			return nil
		}
		text := d.read(i.Path)
		if len(text) > 40 && text[0] != '(' {
			sum := sha256.Sum256([]byte(text))
			text = fmt.Sprintf("%d bytes %x", len(text), sum[:6])
		}
		lines = append(lines, i.Path+" = "+text)
		return nil
	})
	d.f.must(err)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (d *device) want(lines ...string) {
	d.f.t.Helper()
	slices.Sort(lines)
	if got, want := d.list(), strings.Join(lines, "\n"); got != want {
		d.f.t.Fatalf("%s shows\n%s\nwant\n%s", d.name, got, want)
	}
}

// until waits for something to become so.
func (d *device) until(what string, so func() bool) {
	d.f.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			for _, o := range d.f.devices {
				d.f.t.Logf("%s: %+v", o.name, o.Status())
			}
			d.f.t.Fatalf("%s: not within %v: %s\n%+v\n%s", d.name, patience, what, d.Status(), d.list())
		}
	}
}

func (d *device) condition(kind string) (syncer.Condition, bool) {
	for _, c := range d.Status().Conditions {
		if c.Kind == kind {
			return c, true
		}
	}
	return syncer.Condition{}, false
}
