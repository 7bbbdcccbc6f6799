package fs

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// held is the file that is held for a program, nil if none is.
func (m *mounted) held() *vaultcore.Node {
	h := m.s.fs.ahead.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.node
}

// holdFor sets how long a file is held that nobody opens.
func (m *mounted) holdFor(most time.Duration) {
	h := m.s.fs.ahead.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	h.most = most
}

// largeFiles mounts a vault of format write with files in A/d, and lists them. What
// is held is held for as long as a test lasts.
func largeFiles(t *testing.T, write string, files int) (*mounted, *client) {
	needFUSE(t)
	home := filepath.Join(t.TempDir(), "home")
	if _, err := vaultcore.Create(context.Background(), vaultcore.CreateOptions{
		Home: home, Password: []byte(testPassword), KDF: quickKDF, Write: write,
	}); err != nil {
		t.Fatal(err)
	}
	m := &mounted{t: t, home: home, log: &logLines{}}
	m.v = openVault(t, home, vaultcore.Options{Now: m.now})
	if _, err := m.v.AddAsset("A", "item"); err != nil {
		t.Fatal(err)
	}
	m.mount(nil)
	m.holdFor(time.Hour)
	for i := range files {
		m.put("A/"+largeName(i), largeText(i))
	}
	c := startClient(t)
	c.must(call{Op: "lsl", Path: m.a + "/d"})
	return m, c
}

func largeName(i int) string { return fmt.Sprintf("d/%02d", i) }

// largeText is longer than what is opened whole, in either format.
func largeText(i int) string { return strings.Repeat(fmt.Sprintf("content of %02d\n", i), 30_000) }

func (m *mounted) readLarge(c *client, i int) {
	m.t.Helper()
	if got := c.read(m.a + "/" + largeName(i)); got != largeText(i) {
		m.t.Errorf("%d reads %d bytes that are not its own", i, len(got))
	}
}

func eachFormat(t *testing.T, f func(t *testing.T, write string)) {
	t.Run("auto", func(t *testing.T) { f(t, seal.WriteAuto) })
	t.Run("v4", func(t *testing.T) { f(t, seal.WriteV4) })
}

// TestHoldsTheNextLargeFile reads large files in the order of the listing and
// wants the next to be ready before it is opened, one at a time.
func TestHoldsTheNextLargeFile(t *testing.T) {
	eachFormat(t, func(t *testing.T, write string) {
		const files = 8
		m, c := largeFiles(t, write, files)
		for i := range files {
			m.readLarge(c, i)
			if i < aheadAfter || i == files-1 {
				if m.held() != nil {
					t.Errorf("a file is held after %d were opened", i+1)
				}
				continue
			}
			next := m.node("A/" + largeName(i+1))
			if m.held() != next {
				t.Fatalf("after %d its next is not held", i)
			}
			eventually(t, "the next is ready", func() bool { return ready(m.v, next) })
		}
	})
}

// ready says whether something of an open file is decrypted already.
func ready(v *vaultcore.Vault, n *vaultcore.Node) bool {
	still, ok := v.Still(n)
	if !ok {
		return false
	}
	defer still.End()
	buf := make([]byte, vaultcore.OpenedMax)
	got, _ := still.Opened(buf, v.Attr(n).Size-1) // what version 4 verifies at open
	return got > 0
}

// TestHeldFileIsLetGo wants a held file to end as any other that nobody has
// open: when it is not opened after all, when the program leaves it out, when it is
// removed, and when the mount ends.
func TestHeldFileIsLetGo(t *testing.T) {
	eachFormat(t, func(t *testing.T, write string) {
		m, c := largeFiles(t, write, 10)
		free := func(i int) bool { return !opened(m.v, m.node("A/"+largeName(i))) }
		for i := range 3 {
			m.readLarge(c, i)
		}
		if !opened(m.v, m.node("A/"+largeName(3))) {
			t.Fatal("the next is not held")
		}
		m.holdFor(holdFor)
		m.readLarge(c, 3)
		eventually(t, "nobody opens it", func() bool { return m.held() == nil && free(4) })

		m.holdFor(time.Hour)
		m.readLarge(c, 5)
		if m.held() != m.node("A/"+largeName(6)) || !free(4) {
			t.Error("what was left out is held")
		}
		// What is removed gives its room back at once.
		n := m.node("A/" + largeName(6))
		c.must(call{Op: "unlink", Path: m.a + "/" + largeName(6)})
		if m.held() != nil || opened(m.v, n) {
			t.Error("held after it was removed")
		}
		m.readLarge(c, 7)
		if m.held() != m.node("A/"+largeName(8)) {
			t.Error("the next is not held")
		}
		hold := m.s.fs.ahead.hold
		m.unmount()
		if hold.node != nil || !free(8) {
			t.Error("held after the end of the mount")
		}
	})
}

func opened(v *vaultcore.Vault, n *vaultcore.Node) bool {
	still, ok := v.Still(n)
	if ok {
		still.End()
	}
	return ok
}

// TestHeldFileChanges writes, replaces and removes the file that is held.
func TestHeldFileChanges(t *testing.T) {
	eachFormat(t, func(t *testing.T, write string) {
		changes := map[string]func(m *mounted, c *client, path string) string{
			"write": func(m *mounted, c *client, path string) string {
				c.write(m.a+"/"+path, "new")
				return "new"
			},
			"replace": func(m *mounted, _ *client, path string) string {
				m.put("A/"+path, largeText(99))
				return largeText(99)
			},
			"rename over": func(m *mounted, c *client, path string) string {
				c.must(call{Op: "rename", Path: m.a + "/" + largeName(7), To: m.a + "/" + path})
				return largeText(7)
			},
			"remove": func(m *mounted, c *client, path string) string {
				c.must(call{Op: "unlink", Path: m.a + "/" + path})
				m.put("A/"+path, largeText(98))
				return largeText(98)
			},
		}
		for name, change := range changes {
			t.Run(name, func(t *testing.T) {
				m, c := largeFiles(t, write, 8)
				for i := range 3 {
					m.readLarge(c, i)
				}
				want := change(m, c, largeName(3))
				if got := c.read(m.a + "/" + largeName(3)); got != want {
					t.Errorf("reads %d bytes, not what was written", len(got))
				}
				m.readLarge(c, 4)
			})
		}
	})
}
