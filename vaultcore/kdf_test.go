package vaultcore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const kdfHelperEnv = "VAULTDRIVE_TEST_KDF_CHILD"

// TestKDFChildHelper is the child in the tests below, not a test.
func TestKDFChildHelper(t *testing.T) {
	switch os.Getenv(kdfHelperEnv) {
	case "":
		t.Skip("only when started by another test")
	case "stuck":
		time.Sleep(time.Hour)
	case "dies":
		os.Exit(3)
	}
	if err := HardenProcess(); err != nil {
		os.Exit(4)
	}
	if err := RunKDFChild(os.Stdin, os.Stdout); err != nil {
		os.Exit(1)
	}
	os.Exit(0) // before the testing package writes to the pipe
}

func kdfHelper(ctx context.Context, how string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKDFChildHelper$")
	cmd.Env = []string{kdfHelperEnv + "=" + how}
	return cmd
}

func TestKDFChildAgrees(t *testing.T) {
	p := seal.LowKDF()
	for _, password := range []string{homePassword, "", "Pässwörter sind lang", "with\x00zero\nand line"} {
		want, err := InProcessKDF(t.Context(), []byte(password), p)
		if err != nil {
			t.Fatal(err)
		}
		given := []byte(password)
		got, err := childKDF(t.Context(), kdfHelper(t.Context(), "works"), given, p)
		if err != nil || !got.Equal(&want) || string(given) != password {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func TestKDFRefuses(t *testing.T) {
	p := seal.LowKDF()
	weak := p
	weak.Memory = 1
	for name, kdf := range map[string]KDF{
		"in process": InProcessKDF,
		"in a child": func(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
			return childKDF(ctx, kdfHelper(ctx, "works"), password, p)
		},
	} {
		_, err := kdf(t.Context(), []byte(homePassword), weak)
		wantHomeErr(t, name+", weak", err, seal.ErrKDFParams)
		_, err = kdf(t.Context(), []byte("not UTF-8 \xff"), p)
		wantHomeErr(t, name+", not UTF-8", err, seal.ErrPassword)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = kdf(ctx, []byte(homePassword), p)
		wantHomeErr(t, name+", cancelled", err, context.Canceled)
	}
	_, err := childKDF(t.Context(), kdfHelper(t.Context(), "works"), make([]byte, maxKDFPassword+1), p)
	wantHomeErr(t, "endless password", err, seal.ErrPassword)
}

func TestKDFChildFails(t *testing.T) {
	if _, err := childKDF(t.Context(), kdfHelper(t.Context(), "dies"), []byte(homePassword), seal.LowKDF()); err == nil {
		t.Error("a key came from a child that died")
	}
	if _, err := childKDF(t.Context(), exec.CommandContext(t.Context(), "/nonexistent"), []byte(homePassword), seal.LowKDF()); err == nil {
		t.Error("a key came from no child")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := childKDF(ctx, kdfHelper(ctx, "stuck"), []byte(homePassword), seal.LowKDF())
		done <- err
	}()
	select {
	case err := <-done:
		wantHomeErr(t, "stuck child", err, context.DeadlineExceeded)
	case <-time.After(5 * time.Minute):
		t.Fatal("the stuck child was not killed")
	}
}

func TestKDFSelf(t *testing.T) {
	cmd := selfCommand(t.Context())
	if len(cmd.Args) != 2 || cmd.Args[1] != KDFChildArg || len(cmd.Env) != 0 {
		t.Errorf("%q with %q", cmd.Args, cmd.Env)
	}
	if _, err := os.Stat(cmd.Path); err != nil {
		t.Error(err)
	}
}

func TestKDFChildRequests(t *testing.T) {
	p := seal.LowKDF()
	good := appendKDFRequest(nil, []byte(homePassword), p)
	password, got, err := readKDFRequest(bytes.NewReader(good))
	if err != nil || string(password) != homePassword || got != p {
		t.Errorf("%q, %+v, %v", password, got, err)
	}
	for cut := range good {
		if err := RunKDFChild(bytes.NewReader(good[:cut]), io.Discard); err == nil {
			t.Fatalf("a request of %d bytes was answered", cut)
		}
	}
	huge := bytes.Clone(good)
	copy(huge[kdfFixed-4:], []byte{0xff, 0xff, 0xff, 0xff})
	wantHomeErr(t, "huge", RunKDFChild(bytes.NewReader(huge), io.Discard), seal.ErrTooLarge)
	other := bytes.Clone(good)
	other[0] ^= 1
	wantHomeErr(t, "magic", RunKDFChild(bytes.NewReader(other), io.Discard), seal.ErrFormat)
	weak := p
	weak.Time = 1
	var out bytes.Buffer
	if err := RunKDFChild(bytes.NewReader(appendKDFRequest(nil, nil, weak)), &out); err != nil {
		t.Fatal(err)
	}
	_, err = parseKDFAnswer(out.Bytes())
	wantHomeErr(t, "weak", err, seal.ErrKDFParams)
	if _, err = parseKDFAnswer(make([]byte, 5)); err == nil {
		t.Error("a short answer was taken")
	}
	if _, err = parseKDFAnswer(append([]byte{9}, make([]byte, 32)...)); err == nil || errors.Is(err, seal.ErrPassword) {
		t.Errorf("unknown status: %v", err)
	}
}
