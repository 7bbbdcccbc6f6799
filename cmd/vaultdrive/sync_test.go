package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "500K": 500 << 10, "500k": 500 << 10, "2M": 2 << 20, "2MiB": 2 << 20, "3G": 3 << 30, "1T": 1 << 40, "5B": 5,
		"": -1, "M": -1, "-1": -1, "1.5M": -1, "2P": -1, "fast": -1, "9999999999999T": -1, "1KK": -1,
	} {
		if got, ok := parseSize(text); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, ok, want)
		}
	}
}

func TestSyncSettings(t *testing.T) {
	text := func(s string) *string { return &s }
	number := func(n int64) *int64 { return &n }
	id := seal.NewID()
	on := vaultcore.RemoteSettings{URL: "file:///a", ID: id, Boot: "b", Enabled: true, UpLimit: 7, Access: []byte(`{"profile":"p"}`)}
	off := on
	off.Enabled = false
	secret := &accessKeys{AccessKey: "a", SecretKey: "s"}
	for _, c := range []struct {
		name  string
		in    syncEnableRequest
		old   vaultcore.RemoteSettings
		check func(vaultcore.RemoteSettings) bool
		err   error
	}{
		{name: "no address", err: errUsage},
		{name: "another one", in: syncEnableRequest{URL: "file:///b"}, old: on, check: func(r vaultcore.RemoteSettings) bool {
			return r.URL == "file:///b" && r.Access == nil && r.ID.IsZero() && r.Enabled && r.Boot == "b"
		}},
		{name: "first", in: syncEnableRequest{URL: "file:///a"}, check: func(r vaultcore.RemoteSettings) bool {
			return r.Enabled && r.URL == "file:///a" && len(r.Boot) == 32 && r.ID.IsZero()
		}},
		{name: "only a limit", in: syncEnableRequest{DownLimit: number(9)}, old: on, check: func(r vaultcore.RemoteSettings) bool {
			return r.ID == id && r.UpLimit == 7 && r.DownLimit == 9 && len(r.Access) > 0 && r.Boot == "b"
		}},
		{name: "again", in: syncEnableRequest{}, old: off, check: func(r vaultcore.RemoteSettings) bool {
			return r.Enabled && r.ID.IsZero() && r.URL == "file:///a" && len(r.Access) > 0
		}},
		{name: "elsewhere", in: syncEnableRequest{URL: "file:///b", Prefetch: text("none")}, old: off, check: func(r vaultcore.RemoteSettings) bool {
			return r.URL == "file:///b" && r.Access == nil && r.Prefetch == "none" && r.UpLimit == 7 && r.Boot == "b"
		}},
		{name: "secret not kept", in: syncEnableRequest{URL: "s3://b", Access: secret}, check: func(r vaultcore.RemoteSettings) bool { return r.Access == nil }},
		{name: "secret kept", in: syncEnableRequest{URL: "s3://b", Access: secret, Keep: true}, check: func(r vaultcore.RemoteSettings) bool {
			return strings.Contains(string(r.Access), `"secret_key":"s"`) && keptSecret(r)
		}},
		{name: "names are kept", in: syncEnableRequest{URL: "s3://b", Access: &accessKeys{File: "/f"}}, check: func(r vaultcore.RemoteSettings) bool {
			return strings.Contains(string(r.Access), "/f") && !keptSecret(r)
		}},
		{name: "an invitation", in: syncEnableRequest{URL: "https://s", Access: &accessKeys{Invite: "i"}}, check: func(r vaultcore.RemoteSettings) bool {
			return !keptSecret(r)
		}},
	} {
		got, err := c.in.settings(c.old, c.old.URL != "")
		if !errors.Is(err, c.err) || c.check != nil && (err != nil || !c.check(got)) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestAccessIsFound(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	file := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	if got, err := (&accessSource{}).find("s3://b"); err != nil || got == nil || got.File != file || got.secret() {
		t.Errorf("a file named by the environment: %+v, %v", got, err)
	}
	if _, err := (&accessSource{keep: true}).find("s3://b"); !errors.Is(err, syncer.ErrDenied) {
		t.Errorf("nothing to keep: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for _, keep := range []bool{false, true} {
		if got, err := (&accessSource{keep: keep}).find("s3://b"); err != nil || got == nil || got.AccessKey != "key" || !got.secret() {
			t.Errorf("keys of the environment: %+v, %v", got, err)
		}
	}
	if got, err := (&accessSource{profile: "other"}).find("s3://b"); err != nil || got.Profile != "other" || got.secret() {
		t.Errorf("a profile beside keys: %+v, %v", got, err)
	}
	if got, err := (&accessSource{}).find("file:///x"); got != nil || err != nil {
		t.Errorf("a directory: %+v, %v", got, err)
	}
	if _, err := (&accessSource{profile: "p"}).find("file:///x"); !errors.Is(err, errUsage) {
		t.Errorf("a profile for a directory: %v", err)
	}
}

// TestSyncStatusIsStable: what scripts rely on.
func TestSyncStatusIsStable(t *testing.T) {
	v := syncView{Remote: "file:///nas", Status: syncer.Status{State: syncer.StateSyncing, Unsealed: 1, Unpushed: 2, Saves: 5, Up: syncer.Queue{Count: 3}, Down: syncer.Queue{Count: 4}}}
	v.complete()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"address": "", "remote": "file:///nas", "state": "syncing", "queue": float64(15), "prefetch": "all"} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	for _, key := range []string{"devices", "conditions", "gates", "blocked"} {
		if list, ok := got[key].([]any); !ok || len(list) != 0 {
			t.Errorf("%s is %v, want an empty list", key, got[key])
		}
	}
}

func TestSyncStatusForPeople(t *testing.T) {
	u, out, _ := testUI()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	v := &syncView{Remote: "file:///nas", Address: "vd1:x", Enabled: true, UpLimit: 2 << 20, Status: syncer.Status{
		State: syncer.StateSyncing, Unsealed: 1, Saves: 2, Up: syncer.Queue{Count: 2, Bytes: 3 << 20, Rate: 1 << 20, Done: at}, Contact: at,
		Blocked:    []syncer.BlockedJob{{Up: true, Size: 5 << 30, Reason: "too large"}},
		Conditions: []syncer.Condition{{Kind: syncer.CondFull, Text: "the remote is full", Hint: "make room"}, {Kind: syncer.CondOffline, Text: "nobody there"}},
	}, Devices: []vaultcore.DeviceInfo{{ID: "id", Name: "ad\x1ba", This: true, LastChange: &at}}}
	v.complete()
	u.outTerm = true
	syncPrinter{&common{ui: u}, 7}.show(v)
	for _, part := range []string{
		"1 change to publish; 2 saved files to complete first; 2 files (3.0 MiB) to upload at 1.0 MiB/s, done about 2026-03-01 12:00\n",
		`device      ad\x1ba (id), this device, last change 2026-03-01 12:00`, "upload at most 2.0 MiB/s",
		"blocked     upload of 5.0 GiB: too large", "alarm       the remote is full\nhint        make room\n", "last answered 2026-03-01",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	if strings.Contains(out.String(), "nobody there") {
		t.Errorf("being offline is said as an alarm:\n%s", out)
	}
}

// Who gives an address that does not answer is not told to wait for it.
func TestSyncEnableSaysWhatToDo(t *testing.T) {
	p := newPlace(t)
	for _, address := range []string{"s3://bucket?endpoint=http://127.0.0.1:1&region=us-east-1", "file://" + p.dir + "/none"} {
		t.Setenv("AWS_ACCESS_KEY_ID", "key")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		code, _, said := p.run("sync", "enable", address)
		if code == 0 || !strings.Contains(said, "nothing has changed") || !strings.Contains(said, "give the command again") {
			t.Errorf("%s: %d, %s", address, code, said)
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte("<Error><Code>AuthorizationHeaderMalformed</Code></Error>"))
	}))
	defer elsewhere.Close()
	p.says(said{"sync enable s3://bucket?region=us-east-1&endpoint=" + elsewhere.URL, 62, "lies in another region (AuthorizationHeaderMalformed, status 400)\nhint: nothing has changed: give the bucket's region as region="})
}

// TestSyncByCommands goes through a directory with no mount at all.
func TestSyncByCommands(t *testing.T) {
	p := newPlace(t)
	nas := t.TempDir()
	p.ok("asset", "add", "A")
	p.input = "hello"
	p.ok("put", "-", "A/f")
	if out := p.ok("sync", "enable", "--device-name", "ada", "file://"+nas); !strings.Contains(out, "vaultdrive join --remote file://"+nas+" vd1:") {
		t.Errorf("sync enable: %s", out)
	}
	var view syncView
	read := func() {
		t.Helper()
		if err := json.Unmarshal([]byte(p.ok("sync", "status", "--json")), &view); err != nil {
			t.Fatal(err)
		}
	}
	// What is small may have gone up beside the list of files.
	if read(); view.Queue > 1 || view.State != syncer.StateOff {
		t.Errorf("before the first sync: queue %d, state %s", view.Queue, view.State)
	}
	p.ok("sync", "now")
	if read(); view.Queue != 0 || len(view.Devices) != 1 || view.Devices[0].Name != "ada" {
		t.Errorf("after it: %+v", view)
	}
	if out := p.ok("wait", "--json", "A/f"); !strings.Contains(out, `"uploaded": true`) {
		t.Errorf("wait: %s", out)
	}
	if out := p.ok("wait", "--local", "--json"); !strings.Contains(out, `"uploaded": false`) {
		t.Errorf("wait --local: %s", out)
	}
	other := filepath.Join(p.dir, "other")
	pw := filepath.Join(p.dir, "pw")
	p.ok("join", "--vault", other+"/", "--password-file", pw, "--device-name", "bob", "--remote", "file://"+nas, "--yes", view.Address)
	wanted := wantedOf(t, other)
	if len(wanted) != 1 || wanted[0].Pending {
		t.Errorf("wanted after the join: %+v; what the log says to be there must not be asked for", wanted)
	}
	if out := p.ok("get", "--vault", other+"/", "--password-file", pw, "A/f", "-"); out != "hello" {
		t.Errorf("on the other device: %q", out)
	}
	if out := p.ok("device", "list", "--vault", other+"/"); !strings.Contains(out, "this device") {
		t.Errorf("device list: %s", out)
	}
	p.ok("sync", "disable")
	p.says(said{"sync now", 50, "hint: vaultdrive sync enable"}, said{"sync status", 0, "vaultdrive sync enable turns it on again"},
		said{"conflicts list", 0, ""}, said{"conflicts keep A/f", 20, "conflicts list"}, said{"conflicts keep --mine --both A/f", 2, "only one"},
		said{"join vd1:x", 2, "--remote"}, said{"join --remote file://" + nas + " vd1:x", 52, "sync status"}, said{"pin", 2, "at least one PATH"},
		said{"evict A/f", 50, "sync enable"}, said{"sync", 2, "needs one of its commands"}, said{"sync enable a b", 2, "one URL"})
}

// wantedOf opens a vault and lists the contents that are not there.
func wantedOf(t *testing.T, home string) []vaultcore.WantedBlob {
	t.Helper()
	v, err := vaultcore.Open(t.Context(), home, vaultcore.Credentials{Password: []byte(testPassword)}, vaultcore.Options{KDF: quickKDF})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(t.Context())
	wanted, err := v.WantedBlobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return wanted
}

// Who joins with the address that enable has shown finds what there was, without a mount
// or sync now in between.
func TestEnablePublishes(t *testing.T) {
	p := newPlace(t)
	nas, pw := t.TempDir(), filepath.Join(p.dir, "pw")
	p.ok("asset", "add", "A")
	p.input = "hello"
	p.ok("put", "-", "A/f")
	p.ok("sync", "enable", "--device-name", "ada", nas)
	other := filepath.Join(p.dir, "other") + "/"
	p.says(said{"join --vault " + other + " --password-file " + pw + " --remote " + nas + " --yes " + p.address(), 0, "1 asset, 1 file, "})
}
