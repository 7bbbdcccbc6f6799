package remote_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote"
	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/remote/syncer/remotetest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// world opens remotes at an address, with the caps that the first probe finds.
func world(t *testing.T, address string, keys s3.Options) remotetest.World {
	t.Helper()
	open := func(t *testing.T, o remote.Options) *remote.Remote {
		t.Helper()
		o.Vault, o.S3 = remotetest.Vault, keys
		r, err := remote.Open(address, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	caps, err := open(t, remote.Options{}).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, device string) syncer.Remote {
		return open(t, remote.Options{Device: device, Caps: caps})
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	remotetest.Run(t, func(t *testing.T) remotetest.World { return world(t, "file://"+t.TempDir(), s3.Options{}) })
}

func TestFakeBucket(t *testing.T) {
	t.Parallel()
	runBucket(t, s3test.Fake(t, nil))
}

func TestGatewayBucket(t *testing.T) {
	t.Parallel()
	runBucket(t, s3test.StartGateway(t).Options)
}

func runBucket(t *testing.T, o s3.Options) {
	remotetest.Run(t, func(t *testing.T) remotetest.World {
		prefix := strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())
		address := "s3://" + o.Bucket + "/" + prefix + "?region=us-east-1&style=path&endpoint=" + url.QueryEscape(o.Endpoint)
		return world(t, address, o)
	})
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	r, err := remote.Open("file://"+dir, remote.Options{Vault: remotetest.Vault})
	if err != nil {
		t.Fatal(err)
	}
	caps, err := r.Probe(t.Context())
	if err != nil || !caps.CreateOnly || !caps.Range || !caps.Delete || caps.Swap {
		t.Errorf("%+v, %v", caps, err)
	}
	for what, o := range map[string]func(*testing.T) s3.Options{
		"fake":    func(t *testing.T) s3.Options { return s3test.Fake(t, nil) },
		"gateway": func(t *testing.T) s3.Options { return s3test.StartGateway(t).Options },
	} {
		t.Run(what, func(t *testing.T) {
			keys := o(t)
			r, err := remote.Open("s3://"+keys.Bucket+"?style=path&endpoint="+url.QueryEscape(keys.Endpoint), remote.Options{Vault: remotetest.Vault, S3: keys})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			caps, err := r.Probe(t.Context())
			if err != nil || !caps.CreateOnly || !caps.Range || !caps.Delete || !caps.Swap || caps.PartMin != s3.MinPart {
				t.Errorf("%+v, %v", caps, err)
			}
		})
	}
}

// A mount point without its disk: named, nothing read from it, nothing written.
func TestUnmounted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := world(t, "file://"+dir, s3.Options{})
	running := remotetest.Enabled(t, w, remotetest.DeviceA)
	if err := remotetest.PutBlob(t.Context(), running, remotetest.ID(1), []byte("x")); err != nil {
		t.Fatal(err)
	}
	restarted, err := remote.Open("file://"+dir, remote.Options{Vault: remotetest.Vault, Device: remotetest.DeviceA, Remote: remotetest.RemoteID})
	if err != nil {
		t.Fatal(err)
	}
	disk := dir + "-disk"
	if err := os.Rename(dir, disk); err != nil {
		t.Fatal(err)
	}
	for _, empty := range []bool{false, true} {
		if empty {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range []syncer.Remote{running, restarted} {
			for what, err := range calls(t, r) {
				if !errors.Is(err, syncer.ErrNoStore) || !errors.Is(err, syncer.ErrUnavailable) || !strings.Contains(blob.Hint(err), "mounted") {
					t.Errorf("%s, empty %v: %v, hint %q", what, empty, err, blob.Hint(err))
				}
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("written into the mount point: %v, %v", left, err)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(disk, dir)); err != nil {
		t.Fatal(err)
	}
	for _, r := range []syncer.Remote{running, restarted} {
		for what, err := range calls(t, r) {
			if err != nil {
				t.Errorf("%s after it is back: %v", what, err)
			}
		}
	}
}

func calls(t *testing.T, r syncer.Remote) map[string]error {
	ctx := t.Context()
	_, getErr := r.Get(ctx, syncer.MarkerKey)
	_, statErr := r.StatBlobs(ctx, []string{remotetest.ID(1)})
	_, changesErr := r.Changes(ctx, nil, 0)
	_, readErr := remotetest.ReadBlob(ctx, r, remotetest.ID(1), 0, -1)
	return map[string]error{
		"Get": getErr, "StatBlobs": statErr, "Changes": changesErr, "GetBlob": readErr,
		"Put":     r.Put(ctx, syncer.BatchKey(remotetest.DeviceA, 1), []byte("x")),
		"PutBlob": remotetest.PutBlob(ctx, r, remotetest.ID(2), []byte("y")),
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{
		"", "x", "/mnt", "file:relative", "file://host/mnt", "file:///mnt?x=1", "ftp://x", "s3://", "s3://b?endpoint=http://far.example",
		"s3://id:canary@b", "s3://bk/p?endpoint=http://127.0.0.1:1",
	} {
		_, err := remote.Open(address, remote.Options{Vault: remotetest.Vault, S3: s3.Options{AccessKey: "a", SecretKey: "canary"}})
		if err == nil || strings.Contains(err.Error(), "canary") || blob.Hint(err) == "" {
			t.Errorf("%q: %v, hint %q", address, err, blob.Hint(err))
		}
	}
}

func TestVaults(t *testing.T) {
	dir := t.TempDir()
	address := "file://" + dir
	if ids, err := remote.Vaults(t.Context(), address, remote.Options{}); len(ids) != 0 || err != nil {
		t.Errorf("%v, %v", ids, err)
	}
	remotetest.Enabled(t, world(t, address, s3.Options{}), remotetest.DeviceA)
	os.MkdirAll(filepath.Join(dir, "vaults", remotetest.DeviceB, "log"), 0o700)
	os.WriteFile(filepath.Join(dir, "vaults", remotetest.DeviceB, "log", "x"), nil, 0o600)
	ids, err := remote.Vaults(t.Context(), address, remote.Options{})
	if len(ids) != 1 || ids[0] != remotetest.Vault || err != nil {
		t.Errorf("%v, %v", ids, err)
	}
}
