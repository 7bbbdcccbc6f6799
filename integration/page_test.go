package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestPageInBrowser goes through the page as a person does, in a real browser at
// a real server: unlock, look, download, add, delete, lock.
func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	needTool(t, "chromium", "chromium")
	s := startServer(t, "--file-limit", "1G")
	v := newWebVault(t, s.url)
	old, now := v.parent(1, "Bank 🏦"), v.parent(2, "Papers")
	random := bytes.Repeat([]byte("0123456789abcdef\n"), 400_000) // of 6.8 MB, so several ranges of version 4
	v.attach(old, seal.V3, 1, "codes/recovery-codes.pdf", "application/pdf", []byte("one two three"))
	v.attach(old, seal.V4, 2, "Schlüssel 🔐.bin", "application/octet-stream", random)
	v.attach(old, seal.V3, 2, "empty", "", nil)
	v.attach(old, seal.V3, 2, "folder", "inode/directory", nil)
	p := &pageTest{browser: startBrowser(t, s.url+"/"), v: v, dir: shortTemp(t, "page")}

	p.refusesWrongPasswords()
	p.unlock()
	p.downloads(random)
	p.uploads(now.ID)
	if got := v.files(now); got["new file.txt"] != "brought by the page" || len(got) != 2 || len(got["large.bin"]) != 25<<20 {
		t.Errorf("what the page stored opens as %d files", len(got))
	}
	p.refusesTooLarge()
	p.deletes()
	if got := v.files(now); len(got) != 1 || len(got["large.bin"]) != 25<<20 {
		t.Errorf("%d files after one of two was deleted", len(got))
	}
	p.lock()
	for _, secret := range []string{testPassword, "recovery-codes", "Papers", "brought by the page", "new file.txt"} {
		if strings.Contains(s.text(), secret) {
			t.Errorf("the server's log has %q", secret)
		}
	}
}

type pageTest struct {
	*browser
	v   *webVault
	dir string
}

func (p *pageTest) try(password string) {
	p.t.Helper()
	p.typeInto("#address", p.v.address)
	p.typeInto("#password", password)
	p.click("#open", "Unlock")
}

func (p *pageTest) refusesWrongPasswords() {
	p.t.Helper()
	p.until("the page is there", "document.querySelector('#open')?.disabled === false")
	p.picture("locked")
	p.try("the password before")
	p.until("the old password is refused", "document.querySelector('#problem').textContent === 'The password is wrong.'")
	p.typeInto("#address", "vd1:abc")
	p.click("#open", "Unlock")
	p.until("a bad address is refused", "document.querySelector('#problem').textContent.includes('no address')")
	// Nobody's vault and a wrong token look the same, and the page names neither.
	p.typeInto("#address", "vd1:"+strings.Repeat("a", 80))
	p.click("#open", "Unlock")
	p.until("a foreign address is refused", "document.querySelector('#problem').textContent.includes('does not know this vault')")
}

func (p *pageTest) unlock() {
	p.t.Helper()
	p.try(testPassword)
	p.until("the vault is open", "!document.querySelector('#unlocked').hidden")
	if got := p.eval("document.querySelector('#password').value"); got != "" {
		p.t.Error("the password stays in its field")
	}
	if got := p.eval("[...document.querySelectorAll('#parents bdi')].map(e => e.textContent).join()"); got != "Bank 🏦,Papers" {
		p.t.Errorf("items: %s", got)
	}
	p.click("#parents button", "Bank")
	p.until("the files are listed", "document.querySelectorAll('#rows tr').length === 4")
	want := "codes/recovery-codes.pdf|application/pdf|13 B; empty||0 B; folder|folder|; Schlüssel 🔐.bin|application/octet-stream|6.80 MB"
	got := p.eval("[...document.querySelectorAll('#rows tr')].map(r => [...r.cells].slice(0, 3).map(c => c.textContent).join('|')).join('; ')")
	if got != want {
		p.t.Errorf("files: %s", got)
	}
	if buttons := p.eval("document.querySelectorAll('#rows tr')[2].textContent.includes('Download')"); buttons != "false" {
		p.t.Error("a folder can be downloaded")
	}
	p.picture("unlocked")
}

func (p *pageTest) row(name, button string) {
	p.t.Helper()
	p.eval(fmt.Sprintf("[...[...document.querySelectorAll('#rows tr')].find(r => r.cells[0].textContent === %q).querySelectorAll('button')].find(b => b.textContent === %q).click()", name, button))
}

func (p *pageTest) downloads(large []byte) {
	p.t.Helper()
	p.row("codes/recovery-codes.pdf", "Download")
	if got := p.downloaded("recovery-codes.pdf", 13); string(got) != "one two three" {
		p.t.Errorf("version 3 came as %q", got)
	}
	p.row("Schlüssel 🔐.bin", "Download")
	if got := p.downloaded("Schlüssel 🔐.bin", len(large)); !bytes.Equal(got, large) {
		p.t.Error("version 4 came with another content")
	}
	p.row("empty", "Download")
	p.downloaded("empty", 0)
}

// uploads adds a small file and one of the greatest length there is.
func (p *pageTest) uploads(parent string) {
	p.t.Helper()
	p.click("#parents button", "Papers")
	p.until("the other item is shown", fmt.Sprintf("document.querySelector('[aria-current]')?.dataset.id === %q && document.querySelectorAll('#rows tr').length === 0", parent))
	p.choose("#upload", p.file("new file.txt", []byte("brought by the page")), p.file("large.bin", make([]byte, 25<<20)))
	p.until("both are stored", "document.querySelectorAll('#rows tr').length === 2 && document.querySelectorAll('#transfers li').length === 0")
	p.row("new file.txt", "Download")
	if got := p.downloaded("new file.txt", 19); string(got) != "brought by the page" {
		p.t.Errorf("it came back as %q", got)
	}
	p.until("the usage counts it", "document.querySelector('#usage').textContent.startsWith('33')")
}

func (p *pageTest) file(name string, content []byte) string {
	path := filepath.Join(p.dir, name)
	must(p.t, os.WriteFile(path, content, 0o600))
	return path
}

func (p *pageTest) refusesTooLarge() {
	p.t.Helper()
	p.choose("#upload", p.file("too large.bin", make([]byte, 25<<20+1)))
	p.until("a file above 25 MiB is refused with the way out", "document.querySelector('#transfers').textContent.includes('at most 25 MiB')")
	p.picture("refused")
	p.click("#transfers button", "Dismiss")
}

func (p *pageTest) deletes() {
	p.t.Helper()
	p.row("new file.txt", "Delete")
	p.row("new file.txt", "Keep")
	p.row("new file.txt", "Delete")
	p.row("new file.txt", "Really delete")
	p.until("it is gone", "document.querySelectorAll('#rows tr').length === 1")
}

func (p *pageTest) lock() {
	p.t.Helper()
	p.click("#lock", "Lock")
	p.until("it is locked", "document.querySelector('#unlocked').hidden && !document.querySelector('#locked').hidden")
	if got := p.eval("document.querySelector('#unlocked').textContent"); strings.Contains(got, "Papers") || strings.Contains(got, "large.bin") {
		p.t.Error("names stay in the locked page")
	}
	if got := p.eval("localStorage.length + sessionStorage.length + document.cookie.length"); got != "0" {
		p.t.Errorf("the browser keeps something: %s", got)
	}
	for _, c := range p.complaints() {
		// A refused login is answered 401, which the browser notes by itself.
		if !strings.Contains(c, "status of 401") {
			p.t.Errorf("the page complains: %s", c)
		}
	}
}

// TestDriveInThePage: what is saved on a mounted drive opens in a browser, small
// and large, also after the password changed; what the page adds or deletes is no
// change of the drive by itself, and one when it is adopted.
func TestDriveInThePage(t *testing.T) {
	t.Parallel()
	needTool(t, "chromium", "chromium")
	needFUSE(t)
	s := startServer(t, "--file-limit", "1G")
	ada := newDevice(t, "ada", s.url, nil, nil)
	drive := ada.mountAgain()
	must(t, os.Mkdir(drive.path("Journey"), 0o755))
	must(t, os.WriteFile(drive.path("Journey", "ticket ✈.txt"), []byte("seat 12A"), 0o644))
	film := bytes.Repeat([]byte("frame after frame; "), 27<<20/19)
	must(t, os.WriteFile(drive.path("Journey", "film.bin"), film, 0o644))
	ada.ok("sync now")
	p := &pageTest{browser: startBrowser(t, s.url+"/"), v: &webVault{address: ada.address()}, dir: shortTemp(t, "page")}
	p.until("the page is there", "document.querySelector('#open')?.disabled === false")
	p.try(testPassword)
	p.until("the drive's files are listed", "!document.querySelector('#unlocked').hidden && document.querySelectorAll('#rows tr').length === 2")
	p.row("film.bin", "Download")
	if got := p.downloaded("film.bin", len(film)); !bytes.Equal(got, film) {
		t.Error("the large file came with another content")
	}
	p.row("ticket ✈.txt", "Download")
	if got := p.downloaded("ticket ✈.txt", 8); string(got) != "seat 12A" {
		t.Errorf("the small file came as %q", got)
	}
	p.choose("#upload", p.file("from the page.txt", []byte("written in a browser")))
	p.until("the page's file is stored", "document.querySelectorAll('#rows tr').length === 3")
	waitRead(t, drive.path(".vaultdrive", "unverified", "Journey", "from the page.txt"), "written in a browser")
	if _, err := os.Stat(drive.path("Journey", "from the page.txt")); !os.IsNotExist(err) {
		t.Errorf("what no device signed is an ordinary file of the drive: %v", err)
	}
	p.choose("#upload", p.file("adopted.txt", []byte("taken over")))
	ada.waitListed("unverified", "Journey/adopted.txt")
	ada.ok("adopt", "Journey/adopted.txt")
	waitRead(t, drive.path("Journey", "adopted.txt"), "taken over")
	ada.ok("sync now")
	p.row("adopted.txt", "Delete")
	p.row("adopted.txt", "Really delete")
	ada.waitListed("deletion", "Journey/adopted.txt")
	ada.ok("adopt", "Journey/adopted.txt")
	if _, err := os.Stat(drive.path("Journey", "adopted.txt")); !os.IsNotExist(err) {
		t.Errorf("the page deleted it, and that was signed: %v", err)
	}
	p.click("#lock", "Lock")

	const changed = "another long passphrase for tests"
	drive.unmount()
	ada.changePassword(changed)
	ada.ok("sync now")
	p.try(testPassword)
	p.until("the old password is refused", "document.querySelector('#problem').textContent === 'The password is wrong.'")
	p.try(changed)
	p.until("all three are listed", "!document.querySelector('#unlocked').hidden && document.querySelectorAll('#rows tr').length === 3")
	p.row("from the page.txt", "Download")
	if got := p.downloaded("from the page.txt", 20); string(got) != "written in a browser" {
		t.Errorf("the page's file came as %q", got)
	}
	if all := ada.listUnverified(); len(all) != 1 || !all[0].Reseal {
		t.Errorf("after the change of the password: %v", all)
	}
	ada.ok("adopt", "Journey/from the page.txt")
	ada.ok("sync now")
	if got := ada.ok("get", "Journey/from the page.txt", "-"); got != "written in a browser" {
		t.Errorf("sealed anew it is %q", got)
	}
	must(t, os.Remove(filepath.Join(p.browser.downloads, "ticket ✈.txt")))
	p.row("ticket ✈.txt", "Download")
	if got := p.downloaded("ticket ✈.txt", 8); string(got) != "seat 12A" {
		t.Errorf("under its new wrap the small file came as %q", got)
	}
}

// TestPageWithoutScript: a page whose script does not come says so, and one whose
// script is only late has never said it.
func TestPageWithoutScript(t *testing.T) {
	t.Parallel()
	needTool(t, "chromium", "chromium")
	s := startServer(t)
	to, err := url.Parse(s.url)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/web/view.js" {
			http.NotFound(w, r) // page.js needs it
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	const shown = `(e => e !== null && getComputedStyle(e).visibility === "visible")(document.querySelector("#scriptless"))`
	b := startBrowser(t, front.URL+"/")
	b.until("it says that its script has not come", shown)
	if b.eval(`document.querySelector("#open").disabled`) != "true" {
		t.Error("the button can be pressed")
	}
	b.open(s.url + "/")
	b.until("the button is ready", `document.querySelector("#open")?.disabled === false`)
	if b.eval(`document.querySelector("#scriptless")`) != "<nil>" {
		t.Error("the page has its script and misses it")
	}
}
