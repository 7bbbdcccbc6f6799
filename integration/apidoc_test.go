package integration

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// needNode skips without a Node whose WebCrypto has what a page needs.
func needNode(t *testing.T) string {
	t.Helper()
	node := needTool(t, "node", "nodejs")
	version := strings.TrimSpace(tool(t, "", node, "--version"))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < 20 {
		t.Skipf("node is %s; this needs 20", version)
	}
	return node
}

// TestClientFromDocument: who has the published document and the module for
// browsers needs nothing else to register, log in, store and fetch, and what the
// server answers is what the document says.
func TestClientFromDocument(t *testing.T) {
	t.Parallel()
	node, s := needNode(t), startServer(t)
	vault, boot, ids, vk, kek, dsk := seal.NewID(), seal.NewID(), seal.NewKey(), seal.NewKey(), seal.NewKey(), seal.NewKey()
	roster := []seal.Device{{ID: seal.NewID(), PK: [32]byte(seal.PublicFromSeed(&dsk))}}
	header, err := seal.NewHeader(vault, &ids, &vk, &kek, seal.LowKDF(), roster, seal.WriteAuto)
	must(t, err)
	page, err := filepath.Abs("../remote/server/web")
	must(t, err)
	input, err := json.Marshal(map[string]any{"server": s.url, "page": page, "header": json.RawMessage(header.Envelope()), "boot": hex.EncodeToString(boot[:]),
		"seed": ids.Bytes(), "vk": vk.Bytes(), "vault": vault.UUID(), "epoch": 1})
	must(t, err)
	cmd := exec.Command(node, "--no-warnings", "testdata/apiclient.mjs")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &out
	if err := runWithin(cmd, 2*time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "every answer as it says") {
		t.Errorf("the client did not come to its end:\n%s", out.String())
	}
}
