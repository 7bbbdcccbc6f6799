package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// evil is a name that a page must show and not obey.
const evil = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`

// TestPageShowsNamesAsText: titles, names and types that are HTML are text, and a
// vault without items says so.
func TestPageShowsNamesAsText(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := newWebVault(t, s.url)
	p := &pageTest{browser: startBrowser(t, s.url+"/"), v: v, dir: shortTemp(t, "page")}
	p.until("the page is there", "document.querySelector('#open')?.disabled === false")
	title := p.eval("document.title")
	p.try(testPassword)
	p.until("an empty vault says so", "!document.querySelector('#unlocked').hidden && document.querySelector('#status').textContent.includes('no items')")
	p.click("#lock", "Lock")
	old := v.parent(2, evil)
	v.attach(old, seal.V3, 2, evil, "text/html", []byte("<p>"))
	v.attach(old, seal.V4, 2, `javascript:document.title='owned'`, evil[:60], []byte(evil))
	p.try(testPassword)
	p.until("the files are listed", "document.querySelectorAll('#rows tr').length === 2")
	for what, expression := range map[string]string{
		"title": "document.querySelector('#parents bdi').textContent", "heading": "document.querySelector('#title').firstElementChild.textContent",
		"name": "document.querySelector('#rows bdi').textContent",
	} {
		if got := p.eval(expression); got != evil {
			t.Errorf("%s is shown as %q", what, got)
		}
	}
	p.choose("#upload", p.file(`<b onclick=x>.html`, []byte("<script>")))
	p.until("it is stored", "document.querySelectorAll('#rows tr').length === 3")
	p.row("<b onclick=x>.html", "Download")
	p.downloaded("_b onclick=x_.html", 8)
	if n := p.eval("document.querySelectorAll('#unlocked img, #unlocked script, #unlocked b, #unlocked [onclick]').length"); n != "0" {
		t.Errorf("%s elements came from names", n)
	}
	if now := p.eval("document.title"); now != title {
		t.Errorf("a name was obeyed: the title is %q", now)
	}
	p.silent()
}

// silent: nothing was complained of, by the page's policy or else.
func (p *pageTest) silent() {
	p.t.Helper()
	for _, c := range p.complaints() {
		p.t.Errorf("the page complains: %s", c)
	}
}

// TestPageLockedInUploads: a page that is locked while it sends goes on with
// nothing, says nothing, and keeps no name and no secret in its memory.
func TestPageLockedInUploads(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := newWebVault(t, s.url)
	v.attach(v.parent(2, "Papers-5e1f"), seal.V3, 2, "contract-77ab.txt", "text/plain", []byte("signed"))
	p := &pageTest{browser: startBrowser(t, s.url+"/"), v: v, dir: shortTemp(t, "page")}
	p.until("the page is there", "document.querySelector('#open')?.disabled === false")
	p.try(testPassword)
	p.until("the files are listed", "document.querySelectorAll('#rows tr').length === 1")
	if !strings.Contains(p.heap(), "contract-77ab") {
		t.Fatal("the picture of the memory does not show what is on the page")
	}
	p.network(1 << 20)
	p.choose("#upload", p.file("first-90cd.bin", make([]byte, 4<<20)), p.file("second-90cd.bin", make([]byte, 100)))
	p.until("it is sending", "document.querySelector('#transfers progress')?.value > 0")
	p.click("#lock", "Lock")
	p.network(-1)
	p.until("the first is sent", "performance.getEntriesByType('resource').some(e => e.name.endsWith('/api/vault/attachments'))")
	p.until("and the page has seen it", "new Promise(r => setTimeout(() => r(true), 500))")
	if got := p.eval("document.querySelector('#unlocked').textContent + document.querySelector('#problem').textContent"); strings.Contains(got, "90cd") || strings.Contains(got, "cannot") {
		t.Errorf("the locked page says %q", got)
	}
	if got := p.eval("String(document.querySelector('#unlocked').hidden)"); got != "true" {
		t.Error("the page opened again")
	}
	heap := p.heap()
	for _, secret := range []string{testPassword, "Papers-5e1f", "contract-77ab", "90cd"} {
		if strings.Contains(heap, secret) {
			t.Errorf("%q is in the memory of the locked page", secret)
		}
	}
	p.silent()
}

// network bounds what the page sends, in bytes a second; -1 lifts the bound.
func (b *browser) network(upload int) {
	b.t.Helper()
	b.must(b.session, "Network.enable", nil, nil)
	b.must(b.session, "Network.emulateNetworkConditions", map[string]any{"offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload}, nil)
}

// heap is a picture of the memory of the page's scripts, after a collection.
func (b *browser) heap() string {
	b.t.Helper()
	b.mu.Lock()
	b.pictures = nil
	b.mu.Unlock()
	b.must(b.session, "HeapProfiler.enable", nil, nil)
	b.must(b.session, "HeapProfiler.collectGarbage", nil, nil)
	b.must(b.session, "HeapProfiler.takeHeapSnapshot", map[string]any{"reportProgress": false}, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	var all strings.Builder
	for _, params := range b.pictures {
		var chunk struct{ Chunk string }
		must(b.t, json.Unmarshal(params, &chunk))
		fmt.Fprint(&all, chunk.Chunk)
	}
	return all.String()
}
