package syncer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/objects"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob/blobtest"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	firstPassword  = "correct horse battery"
	secondPassword = "staple of the horses"
	thirdPassword  = "third time lucky now"
)

// quickKDF stands in for Argon2id.
func quickKDF(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	if err := errors.Join(ctx.Err(), p.Check()); err != nil {
		return seal.Key{}, err
	}
	sum := sha256.Sum256(append(p.Salt[:], password...))
	return seal.KeyFromBytes(sum[:])
}

// place is a remote in memory that may misbehave.
type place struct {
	t     *testing.T
	store *blobtest.Memory
	vault string
}

// evil is a remote that lies: each hook that is set answers in its stead.
type evil struct {
	syncer.Remote
	get func(ctx context.Context, key string) ([]byte, error)
	put func(ctx context.Context, key string, content []byte) error
}

func (e *evil) Get(ctx context.Context, key string) ([]byte, error) {
	if e.get != nil {
		return e.get(ctx, key)
	}
	return e.Remote.Get(ctx, key)
}

func (e *evil) Put(ctx context.Context, key string, content []byte) error {
	if e.put != nil {
		return e.put(ctx, key, content)
	}
	return e.Remote.Put(ctx, key, content)
}

// peer is one device with its view of the place.
type peer struct {
	*vaultcore.Vault
	t    *testing.T
	home string
	r    *evil
}

func newPlace(t *testing.T) (*place, *peer) {
	t.Helper()
	home := filepath.Join(t.TempDir(), "ada")
	_, err := vaultcore.Create(t.Context(), vaultcore.CreateOptions{Home: home, Password: []byte(firstPassword), KDF: quickKDF})
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, store: blobtest.NewMemory()}
	ada := p.open(home, firstPassword)
	must(t, ada.r.Remote.Put(t.Context(), syncer.MarkerKey, syncer.Marker{Vault: p.vault, Remote: "00112233445566778899aabbccddeeff"}.Encode()))
	must(t, syncer.PushHeaders(t.Context(), ada.Vault, ada.r))
	must(t, ada.EnableLedger(t.Context(), "ada"))
	ada.push()
	return p, ada
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) open(home, password string) *peer {
	p.t.Helper()
	v, err := vaultcore.Open(p.t.Context(), home, vaultcore.Credentials{Password: []byte(password)}, vaultcore.Options{KDF: quickKDF})
	must(p.t, err)
	p.t.Cleanup(func() { v.Close(context.Background()) })
	p.vault = v.VaultID().UUID()
	return &peer{Vault: v, t: p.t, home: home, r: p.remote(v.DeviceID().UUID())}
}

func (p *place) remote(device string) *evil {
	p.t.Helper()
	r, err := objects.New(p.store, objects.Options{
		Vault: p.vault, Device: device, Caps: syncer.Caps{Version: 1, CreateOnly: true, Range: true, Delete: true},
	})
	must(p.t, err)
	return &evil{Remote: r}
}

// join makes a device by address and password.
func (p *place) join(by *peer, name, password string) *peer {
	p.t.Helper()
	headers, err := by.HeaderEnvelopes(0)
	must(p.t, err)
	j, err := vaultcore.Join(p.t.Context(), vaultcore.JoinOptions{
		Home: filepath.Join(p.t.TempDir(), name), Password: []byte(password), Headers: headers, DID: by.DID(), KDF: quickKDF,
	})
	must(p.t, err)
	must(p.t, syncer.Publish(p.t.Context(), by.r, j))
	d := p.open(j.Home, password)
	must(p.t, d.EnableLedger(p.t.Context(), name))
	must(p.t, syncer.PullHeaders(p.t.Context(), by.Vault, by.r))
	return d
}

// push seals what changed and puts the batches on the remote.
func (d *peer) push() {
	d.t.Helper()
	for more := true; more; {
		var err error
		_, more, err = d.Seal(d.t.Context(), vaultcore.SealOptions{})
		must(d.t, err)
	}
	last, err := d.LastPushed(d.t.Context())
	must(d.t, err)
	batches, err := d.OwnBatches(d.t.Context(), last, 1000)
	must(d.t, err)
	for _, b := range batches {
		must(d.t, d.r.Put(d.t.Context(), syncer.BatchKey(d.DeviceID().UUID(), b.Seq), b.Bytes))
		must(d.t, d.Pushed(d.t.Context(), b.Seq))
	}
}

func (d *peer) mkdir(name string) {
	d.t.Helper()
	_, err := d.AddAsset(name, "item")
	must(d.t, err)
}

func (d *peer) epoch() uint32 { return d.Status().Epoch }

func (d *peer) wantQuiet() {
	d.t.Helper()
	alarms := slices.DeleteFunc(d.Status().Alarms, func(s string) bool { return s == "swap is not encrypted: what is open may reach the disk in clear" })
	if len(alarms) > 0 {
		d.t.Fatalf("alarms: %q", alarms)
	}
}

func (d *peer) reopen(password string) {
	d.t.Helper()
	must(d.t, d.Close(context.Background()))
	v, err := vaultcore.Open(d.t.Context(), d.home, vaultcore.Credentials{Password: []byte(password)}, vaultcore.Options{KDF: quickKDF})
	must(d.t, err)
	d.t.Cleanup(func() { v.Close(context.Background()) })
	d.Vault = v
}

func (d *peer) passwd(from, to string) error {
	return syncer.ChangePassword(d.t.Context(), d.Vault, d.r, []byte(from), []byte(to), seal.KDFParams{})
}

// A change of password is one for all devices, at once or when they hear of it.
func TestChangePassword(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	bob.mkdir("bob's")
	bob.push()
	must(t, ada.passwd(firstPassword, secondPassword))
	if ada.epoch() != 2 {
		t.Fatalf("ada is in epoch %d", ada.epoch())
	}
	// What bob had said before counts without anybody's word.
	header := newestHeader(t, p)
	if cut := header.Cut[bob.DeviceID()]; cut.Seq == 0 {
		t.Fatalf("cut: %+v", header.Cut)
	}
	must(t, syncer.PullHeaders(t.Context(), bob.Vault, bob.r))
	if !bob.EpochPending() || bob.epoch() != 1 {
		t.Fatal("bob has not heard of it")
	}
	if err := bob.passwd(firstPassword, thirdPassword); !errors.Is(err, vaultcore.ErrNewEpoch) {
		t.Fatalf("changed on top of what bob does not know: %v", err)
	}
	must(t, bob.AcceptPassword(t.Context(), []byte(secondPassword)))
	must(t, bob.passwd(secondPassword, thirdPassword))
	must(t, syncer.PullHeaders(t.Context(), ada.Vault, ada.r))
	ada.reopen(thirdPassword)
	for _, d := range []*peer{ada, bob} {
		if d.epoch() != 3 {
			t.Fatalf("epoch %d", d.epoch())
		}
		d.wantQuiet()
	}
}

func newestHeader(t *testing.T, p *place) *seal.SignedHeader {
	t.Helper()
	r := p.remote("")
	var last *seal.SignedHeader
	for seq := uint64(1); ; seq++ {
		b, err := r.Get(t.Context(), syncer.HeaderKey(seq))
		if errors.Is(err, syncer.ErrNotFound) {
			return last
		}
		must(t, err)
		last, err = seal.ParseEnvelope(b)
		must(t, err)
	}
}

// Without its remote a synced vault keeps its password, and says what to do.
func TestChangePasswordOffline(t *testing.T) {
	_, ada := newPlace(t)
	ada.r.get = func(context.Context, string) ([]byte, error) { return nil, syncer.ErrUnavailable }
	if err := ada.passwd(firstPassword, secondPassword); !errors.Is(err, syncer.ErrUnavailable) {
		t.Fatal(err)
	}
	ada.reopen(firstPassword)
	if ada.epoch() != 1 {
		t.Fatal("changed without the remote")
	}
}

// Who loses the race does it again on top, without a word.
func TestHeaderRace(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	eve := seal.NewKey()
	first := seal.Device{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&eve))}
	races := 0
	bob.r.put = func(ctx context.Context, key string, content []byte) error {
		if races++; races == 1 { // ada is faster by a hair
			must(t, syncer.AddDevice(ctx, ada.Vault, ada.r, []byte(firstPassword), first))
		}
		return bob.r.Remote.Put(ctx, key, content)
	}
	kit, err := syncer.CreateKit(t.Context(), bob.Vault, bob.r, []byte(firstPassword))
	must(t, err)
	if races != 2 {
		t.Fatalf("%d tries", races)
	}
	header := newestHeader(t, p)
	if _, listed := header.Roster(first.ID); !listed {
		t.Error("the winner's device is not in the roster")
	}
	if _, _, err := header.OpenKit(&kit.Kit, bob.DID()); err != nil {
		t.Errorf("the loser's kit: %v", err)
	}
	bob.wantQuiet()
}

// Both give the same new password at once: one change, and both have it.
func TestSamePasswordAtOnce(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	once := sync.Once{}
	bob.r.put = func(ctx context.Context, key string, content []byte) error {
		once.Do(func() { must(t, ada.passwd(firstPassword, secondPassword)) })
		return bob.r.Remote.Put(ctx, key, content)
	}
	must(t, bob.passwd(firstPassword, secondPassword))
	if bob.epoch() != 2 || ada.epoch() != 2 {
		t.Fatalf("epochs %d and %d", ada.epoch(), bob.epoch())
	}
	bob.reopen(secondPassword)
}

// Both revoke at once, under the same password: both devices are out.
func TestRevokeAtOnce(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	eve := p.join(ada, "eve", firstPassword)
	mal := p.join(ada, "mal", firstPassword)
	must(t, syncer.PullHeaders(t.Context(), bob.Vault, bob.r))
	once := sync.Once{}
	bob.r.put = func(ctx context.Context, key string, content []byte) error {
		once.Do(func() { must(t, syncer.Revoke(ctx, ada.Vault, ada.r, []byte(firstPassword), mal.DeviceID())) })
		return bob.r.Remote.Put(ctx, key, content)
	}
	must(t, syncer.Revoke(t.Context(), bob.Vault, bob.r, []byte(firstPassword), eve.DeviceID()))
	header := newestHeader(t, p)
	for _, d := range header.Devices {
		if out := d.ID == eve.DeviceID() || d.ID == mal.DeviceID(); d.Revoked != out {
			t.Errorf("device %s: revoked %v", d.ID, d.Revoked)
		}
	}
	must(t, syncer.PullHeaders(t.Context(), eve.Vault, eve.r))
	if !eve.Revoked() {
		t.Error("eve's device does not know")
	}
	if err := syncer.Revoke(t.Context(), bob.Vault, bob.r, []byte(firstPassword), bob.DeviceID()); !errors.Is(err, vaultcore.ErrInvalid) {
		t.Errorf("bob shuts himself out: %v", err)
	}
	if err := syncer.Revoke(t.Context(), bob.Vault, bob.r, []byte(firstPassword), seal.NewID()); !errors.Is(err, vaultcore.ErrNotFound) {
		t.Errorf("a device nobody knows: %v", err)
	}
}

// The answer to the publishing is lost: the next contact tells what became of
// it, whichever way it went.
func TestHeaderInDoubt(t *testing.T) {
	for _, arrives := range []bool{true, false} {
		_, ada := newPlace(t)
		ctx, cancel := context.WithCancel(t.Context())
		ada.r.put = func(ctx context.Context, key string, content []byte) error {
			if arrives {
				must(t, ada.r.Remote.Put(ctx, key, content))
			}
			cancel()
			return syncer.ErrUnavailable
		}
		err := syncer.ChangePassword(ctx, ada.Vault, ada.r, []byte(firstPassword), []byte(secondPassword), seal.KDFParams{})
		if !errors.Is(err, syncer.ErrInDoubt) || ada.epoch() != 1 {
			t.Fatalf("epoch %d, %v", ada.epoch(), err)
		}
		ada.r.put = nil
		ada.reopen(firstPassword) // also after the process ended
		must(t, syncer.PullHeaders(t.Context(), ada.Vault, ada.r))
		if ada.EpochPending() != arrives {
			t.Fatalf("arrived %v, pending %v", arrives, ada.EpochPending())
		}
		if arrives {
			must(t, ada.AcceptPassword(t.Context(), []byte(secondPassword)))
		} else {
			must(t, ada.passwd(firstPassword, secondPassword))
		}
		ada.reopen(secondPassword)
		if ada.epoch() != 2 {
			t.Fatalf("epoch %d", ada.epoch())
		}
		ada.wantQuiet()
	}
}

// In doubt within one session the change becomes the vault's own by itself.
func TestHeaderInDoubtSameSession(t *testing.T) {
	_, ada := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	ada.r.put = func(ctx context.Context, key string, content []byte) error {
		must(t, ada.r.Remote.Put(ctx, key, content))
		cancel()
		return syncer.ErrUnavailable
	}
	err := syncer.ChangePassword(ctx, ada.Vault, ada.r, []byte(firstPassword), []byte(secondPassword), seal.KDFParams{})
	if !errors.Is(err, syncer.ErrInDoubt) {
		t.Fatal(err)
	}
	must(t, syncer.PullHeaders(t.Context(), ada.Vault, ada.r))
	if ada.epoch() != 2 || ada.EpochPending() {
		t.Fatalf("epoch %d", ada.epoch())
	}
	ada.reopen(secondPassword)
}

// A remote without create-only conditions: a header that was lost behind another
// is published again by who has it.
func TestPushHeaders(t *testing.T) {
	p, ada := newPlace(t)
	p.join(ada, "bob", firstPassword)
	newest := newestHeader(t, p).Seq
	must(t, p.store.Delete(t.Context(), "vaults/"+p.vault+"/"+syncer.HeaderKey(newest)))
	must(t, syncer.PushHeaders(t.Context(), ada.Vault, ada.r))
	if got := newestHeader(t, p).Seq; got != newest {
		t.Fatalf("header %d is the newest, want %d", got, newest)
	}
}

// TestHostileHeaders: whatever a remote serves in the place of a header is
// refused by name, and changes nothing.
func TestHostileHeaders(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	must(t, ada.passwd(firstPassword, secondPassword))
	next, err := ada.r.Get(t.Context(), syncer.HeaderKey(newestHeader(t, p).Seq))
	must(t, err)
	_, other := newPlace(t)
	foreign, err := other.HeaderEnvelopes(0)
	must(t, err)
	flipped := bytes.Clone(next)
	if at := &flipped[len(flipped)-20]; *at == 'A' { // still base64
		*at = 'B'
	} else {
		*at = 'A'
	}
	known, _ := bob.HeaderSeq()
	again, err := bob.HeaderEnvelopes(known - 1)
	must(t, err)
	for name, c := range map[string]struct {
		serve []byte
		want  error
	}{
		"TestForeignHeader":       {foreign[0], vaultcore.ErrForeignHeader},
		"altered":                 {flipped, seal.ErrSignature},
		"the one before, renamed": {again[0], seal.ErrHeader},
		"an older one":            {mustGet(t, p, 1), seal.ErrHeader},
		"nothing":                 {nil, seal.ErrHeader},
	} {
		t.Run(name, func(t *testing.T) {
			bob.r.get = func(ctx context.Context, key string) ([]byte, error) {
				if key == syncer.HeaderKey(known+1) {
					return c.serve, nil
				}
				return bob.r.Remote.Get(ctx, key)
			}
			if err := syncer.PullHeaders(t.Context(), bob.Vault, bob.r); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if now, accepted := bob.HeaderSeq(); now != known || accepted != known {
				t.Fatalf("header %d became %d", known, now)
			}
		})
	}
	bob.r.get = nil
	must(t, syncer.PullHeaders(t.Context(), bob.Vault, bob.r))
	if !bob.EpochPending() {
		t.Fatal("the true one was not taken")
	}
}

func mustGet(t *testing.T, p *place, seq uint64) []byte {
	t.Helper()
	b, err := p.remote("").Get(t.Context(), syncer.HeaderKey(seq))
	must(t, err)
	return b
}

// Two headers under one number, both signed: two histories.
func TestHeaderFork(t *testing.T) {
	p, ada := newPlace(t)
	bob := p.join(ada, "bob", firstPassword)
	known, _ := bob.HeaderSeq()
	d := func() seal.Device {
		k := seal.NewKey()
		return seal.Device{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&k))}
	}
	c, err := bob.ProposeDevice(t.Context(), []byte(firstPassword), d())
	must(t, err)
	fork := c.Envelope()
	must(t, c.Drop())
	must(t, syncer.AddDevice(t.Context(), ada.Vault, ada.r, []byte(firstPassword), d()))
	must(t, syncer.PullHeaders(t.Context(), bob.Vault, bob.r))
	if err := bob.AcceptHeader(t.Context(), fork); !errors.Is(err, vaultcore.ErrFork) {
		t.Fatalf("header %d twice: %v", known+1, err)
	}
}

// TestFalseNextHeader: what stands where the next header belongs is named as that, not
// as a remote that does not answer.
func TestFalseNextHeader(t *testing.T) {
	p, ada := newPlace(t)
	seq, _ := ada.HeaderSeq()
	must(t, p.remote(seal.NewID().UUID()).Put(t.Context(), syncer.HeaderKey(seq+1), []byte("{}")))
	err := syncer.ChangePassword(t.Context(), ada.Vault, ada.r, []byte(firstPassword), []byte(secondPassword), seal.KDFParams{})
	if err == nil || !strings.Contains(blob.Hint(err), "false") || strings.Contains(blob.Hint(err), "can be reached") {
		t.Errorf("%v (%s)", err, blob.Hint(err))
	}
}
