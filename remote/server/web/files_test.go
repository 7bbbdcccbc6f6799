package web_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/server/web"
)

// The foreign code is byte for byte the one that README.md names.
func TestForeignCodeIsPinned(t *testing.T) {
	b, err := os.ReadFile("hash-wasm/argon2.umd.min.js")
	must(t, err)
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != "acfe11b015852f593aaddc51116f71dc7850e4551e6b34d42c1f88cf39635f03" {
		t.Errorf("argon2.umd.min.js has the hash %s", got)
	}
}

// Everything that the page loads is a file of it, and nothing else is loaded.
func TestPageIsComplete(t *testing.T) {
	paths := map[string]bool{}
	for _, f := range web.Files {
		paths[f.Path] = true
		if f.Type == "; charset=utf-8" || len(f.Body) == 0 || len(f.ETag) != 34 {
			t.Errorf("%s: type %q, ETag %s, %d bytes", f.Path, f.Type, f.ETag, len(f.Body))
		}
	}
	link := regexp.MustCompile(`(?:src|href)="([^"]*)"|from '([^']*)'|^import '([^']*)'|new URL\('([^']*)'`)
	for _, f := range web.Files {
		if strings.Contains(f.Path, "hash-wasm") {
			continue
		}
		for _, line := range strings.Split(string(f.Body), "\n") {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				to := m[1] + m[2] + m[3] + m[4]
				if rest, ok := strings.CutPrefix(to, "./"); ok {
					to = web.Prefix + rest
				}
				if !paths[to] {
					t.Errorf("%s loads %q, which is no file of the page", f.Path, to)
				}
			}
		}
	}
	for _, want := range []string{web.Root, "/web/vault-attachment-crypto.js", "/web/page.js", "/web/hash-wasm/LICENSE"} {
		if !paths[want] {
			t.Errorf("%s is missing", want)
		}
	}
}

// Nothing inline, and no way from text to markup or code.
func TestPageIsPlain(t *testing.T) {
	never := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|sessionStorage|indexedDB|document\.cookie|https?://[^w]`)
	inline := regexp.MustCompile(`<script(?:[^>]*)>[^<]|<style|\sstyle=|\son[a-z]+=`)
	files, err := filepath.Glob("*.js")
	must(t, err)
	for _, name := range append(files, "index.html", "style.css") {
		b, err := os.ReadFile(name)
		must(t, err)
		if m := never.Find(b); m != nil {
			t.Errorf("%s has %q", name, m)
		}
	}
	b, err := os.ReadFile("index.html")
	must(t, err)
	if m := inline.Find(b); m != nil {
		t.Errorf("index.html has %q", m)
	}
}

func TestMatches(t *testing.T) {
	f := web.File{ETag: `"ab"`}
	for header, want := range map[string]bool{`"ab"`: true, `W/"ab"`: true, `"x", "ab"`: true, "*": true, `"x"`: false, "": false, "ab": false} {
		if f.Matches(header) != want {
			t.Errorf("%s: %v", header, !want)
		}
	}
}

// Until the script runs nothing can be done with the password: the button is not
// to be pressed, and a browser does not remember it as it was.
func TestUnlockWaitsForTheScript(t *testing.T) {
	page := map[string]string{}
	for _, f := range web.Files {
		page[f.Path] = string(f.Body)
	}
	if !strings.Contains(page["/"], `<button id="open" type="submit" autocomplete="off" disabled>`) {
		t.Error("the button can be pressed before there is a script")
	}
	wired, ready := strings.Index(page["/web/page.js"], "addEventListener('submit', unlock)"), strings.Index(page["/web/page.js"], "$('open').disabled = false; // not before")
	if wired < 0 || ready < wired {
		t.Error("the button is ready before its listener, or never")
	}
	// Where it never runs the page says so by itself.
	if why := regexp.MustCompile(`<p id="scriptless" class="problem">[^<]{40,}</p>`); !why.MatchString(page["/"]) || strings.Index(page["/web/page.js"], "$('scriptless').remove()") < ready {
		t.Error("a page without its script does not say why nothing can be pressed")
	}
}
