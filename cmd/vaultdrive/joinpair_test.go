package main

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shownCode computes from the question at the remote what join --pair shows.
func shownCode(t *testing.T, question []byte) string {
	t.Helper()
	var q struct{ HPKE, Sign []byte }
	if err := json.Unmarshal(question, &q); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(q.HPKE, q.Sign...))
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").EncodeToString(sum[:10])
}

func TestJoinByPairing(t *testing.T) {
	p, pw, _ := twoDevices(t)
	remote, eve := filepath.Join(p.dir, "remote"), filepath.Join(p.dir, "eve")+"/"
	p.says(said{"device approve --password-file " + pw + " ABCD", 66, "16 letters and digits"},
		said{"device approve --password-file " + pw + " " + strings.Repeat("A", 16), 66, "no device asks"})
	address := p.address()
	p.says(said{"join --pair --json --remote " + remote + " --vault " + eve + " " + address, 2, "nothing was changed"})
	if asked, _ := filepath.Glob(filepath.Join(remote, "vaults", "*", "pair", "*")); len(asked) > 0 {
		t.Errorf("who cannot confirm has asked to be let in: %v", asked)
	}
	type outcome struct {
		code int
		text string
	}
	done := make(chan outcome, 1)
	go func() {
		code, out, err := p.run("join", "--pair", "--yes", "--remote", "file://"+remote, "--vault", eve, "--device-name", "eve", address)
		done <- outcome{code, out + err}
	}()
	var question []byte
	for deadline := time.Now().Add(5 * time.Minute); question == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no question at the remote")
		}
		if found, _ := filepath.Glob(filepath.Join(remote, "vaults", "*", "pair", "*", "q")); len(found) == 1 {
			question, _ = os.ReadFile(found[0])
		}
	}
	code := shownCode(t, question)
	p.ok("device", "approve", "--password-file", pw, code)
	end := <-done
	if end.code != 0 || !strings.Contains(strings.ReplaceAll(end.text, "-", ""), code) {
		t.Fatalf("join ended with %d:\n%s", end.code, end.text)
	}
	if left, _ := filepath.Glob(filepath.Join(remote, "vaults", "*", "pair", "*", "*")); len(left) > 0 {
		t.Errorf("left at the remote: %v", left)
	}
	p.says(said{"ls --vault " + eve + " --password-file " + pw, 0, "A"})
	p.ok("sync", "now", "--vault", eve, "--password-file", pw)
	p.ok("sync", "now")
	p.says(said{"device list --password-file " + pw, 0, "eve"})
}
