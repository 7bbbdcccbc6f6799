package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
		"seed": ids.Bytes(), "device": roster[0].ID.UUID(), "deviceSeed": dsk.Bytes(), "vk": vk.Bytes(), "vault": vault.UUID(), "epoch": 1})
	must(t, err)
	if out := runNode(t, node, "testdata/apiclient.mjs", input); !strings.Contains(out, "every answer as it says") {
		t.Errorf("the client did not come to its end:\n%s", out)
	}
}

// runNode runs a script to its end, and gives what it prints.
func runNode(t *testing.T, node, script string, input []byte) string {
	t.Helper()
	cmd := exec.Command(node, "--no-warnings", script)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &out
	if err := runWithin(cmd, patience); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// TestDocumentClientAndDrive: such a client opens what a mounted drive has saved,
// of both versions; what it adds is apart on the drive until it is adopted, and
// the client still reads it then, under the name that the drive gives it.
func TestDocumentClientAndDrive(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	node, s := needNode(t), startServer(t, "--file-limit", "1G")
	ada := newDevice(t, "ada", s.url, nil, nil)
	drive := ada.mountAgain()
	film := bytes.Repeat([]byte("frame after frame; "), 27<<20/19)
	contents := map[string][]byte{"scan ✈.txt": []byte("the scan"), "film.bin": film, "empty": nil}
	passport := drive.asset("Passport")
	for name, content := range contents {
		must(t, os.WriteFile(filepath.Join(passport, name), content, 0o644))
	}
	ada.ok("sync now")
	c := documentClient{t: t, node: node, input: keysOf(t, ada, s.url)}
	c.expect(contents, "", nil)

	const added = "from node <b>&amp;.txt"
	contents[added] = []byte("written by a client")
	c.expect(contents, added, contents[added])
	waitRead(t, drive.path(".vaultdrive", "unverified", "Passport", added), "written by a client")
	if _, err := os.Stat(drive.path("Passport", added)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nobody has signed it, and it is an ordinary file: %v", err)
	}
	ada.ok("adopt", drive.path(".vaultdrive", "unverified", "Passport", added))
	waitRead(t, drive.path("Passport", added), "written by a client")
	must(t, os.Rename(drive.path("Passport", added), drive.path("Passport", "adopted.txt")))
	must(t, os.WriteFile(drive.path("Passport", "empty"), []byte("no more"), 0o644))
	contents["adopted.txt"], contents["empty"] = contents[added], []byte("no more")
	delete(contents, added)
	ada.ok("sync now")
	c.expect(contents, "", nil)
	calm(t, ada)
}

// keysOf gives what a client needs of a vault, by its password.
func keysOf(t *testing.T, b *bed, url string) map[string]any {
	t.Helper()
	h, vk, ids := openHeader(t, b)
	page, err := filepath.Abs("../remote/server/web")
	must(t, err)
	return map[string]any{"server": url, "page": page, "did": h.DID, "seed": ids.Bytes(), "vk": vk.Bytes(), "vault": h.Vault.UUID(), "epoch": h.Epoch,
		"parent": "Passport"}
}

type documentClient struct {
	t     *testing.T
	node  string
	input map[string]any
}

// expect has the client add a file, if one is named, and then find these contents.
func (c *documentClient) expect(contents map[string][]byte, name string, content []byte) {
	c.t.Helper()
	delete(c.input, "add")
	if name != "" {
		c.input["add"] = map[string]any{"name": name, "content": content}
	}
	input, err := json.Marshal(c.input)
	must(c.t, err)
	var got map[string]string
	must(c.t, json.Unmarshal([]byte(runNode(c.t, c.node, "testdata/apidrive.mjs", input)), &got))
	want := map[string]string{}
	for name, content := range contents {
		want[name] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	if !maps.Equal(got, want) {
		c.t.Errorf("the client finds %v, want %v", got, want)
	}
}
