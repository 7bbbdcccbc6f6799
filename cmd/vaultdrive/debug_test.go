package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDebugAddress(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "localhost:0", "192.0.2.1:0", "6060", ""} {
		if l, err := serveDebug(address); err == nil {
			l.Close()
			t.Errorf("%q was accepted", address)
		}
	}
	l, err := serveDebug("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	resp, err := http.Get("http://" + l.Addr().String() + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	// Of a web page whose name leads here.
	for host, want := range map[string]int{"evil.example": http.StatusForbidden, "evil.example:80": http.StatusForbidden, "192.0.2.1": http.StatusForbidden,
		"localhost:6060": http.StatusOK, "[::1]:6060": http.StatusOK, "[::1]": http.StatusOK} {
		req, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/debug/pprof/symbol", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: status %d", host, resp.StatusCode)
		}
	}
}

// TestDebugTells: neither the arguments of calls, where a name's letter or a part of
// a content may be, nor the command line, which may name an item; nor anything
// that another web page asks for.
func TestDebugTells(t *testing.T) {
	l, err := serveDebug("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		path, site string
		want       int
	}{
		{"goroutine?debug=1", "", http.StatusOK}, {"goroutine?debug=2", "", http.StatusForbidden},
		{"goroutine?debug=2&debug=1", "", http.StatusForbidden}, {"goroutine?debug=99", "", http.StatusForbidden},
		{"cmdline", "", http.StatusNotFound}, {"heap", "cross-site", http.StatusForbidden}, {"heap", "same-site", http.StatusForbidden},
		{"heap", "same-origin", http.StatusOK}, {"", "none", http.StatusOK},
	} {
		req, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/debug/pprof/"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.site != "" {
			req.Header.Set("Sec-Fetch-Site", c.site)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s from %q: status %d, want %d", c.path, c.site, resp.StatusCode, c.want)
		}
		if strings.Contains(string(text), "(0x") {
			t.Errorf("%s shows the arguments of calls", c.path)
		}
	}
}

// TestDebugIsForItsUser connects as the daemon's user and as another, over IPv4 and
// over IPv6.
func TestDebugIsForItsUser(t *testing.T) {
	const other = 65_534
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := serveDebug(address)
		if err != nil {
			t.Logf("%s is not tested: %v", address, err)
			continue
		}
		defer l.Close()
		if answer := askAs(t, os.Geteuid(), l.Addr()); !strings.HasPrefix(answer, "HTTP/1.0 200") {
			t.Errorf("%s: the own user got %q", address, answer)
		}
		if os.Geteuid() != 0 {
			t.Logf("%s: only root can ask as another user", address)
			continue
		}
		if answer := askAs(t, other, l.Addr()); answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 403") {
			t.Errorf("%s: another user got %q", address, answer)
		}
	}
}

// askAs asks for a profile over a socket of another user, and returns the first line
// of the answer, or nothing where the connection is ended before there is one.
func askAs(t *testing.T, uid int, to net.Addr) string {
	t.Helper()
	runtime.LockOSThread() // the identity is the thread's
	defer runtime.UnlockOSThread()
	if uid != os.Geteuid() {
		unix.SetfsuidRetUid(uid)
		defer unix.SetfsuidRetUid(os.Geteuid())
	}
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /debug/pprof/symbol HTTP/1.0\r\nHost: localhost\r\n\r\n")
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line
}

// TestSocketOwner reads the list as a little-endian processor writes it.
func TestSocketOwner(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the list is that of a little-endian processor")
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:17AC 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0\n" +
		"   1: 0100007F:D431 0100007F:17AC 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0 20 4 30 10 -1\n" +
		"   2: 0100007F:17AC 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 20 4 30 10 -1\n" +
		"   3: 0100007F:D432 0100007F:17AC 05 00000000:00000000 00:00000000 00000000     0        0 0 2 0 20 4 30 10 -1\n" +
		"   4: 00000000000000000000000001000000:D433 00000000000000000000000001000000:17AC 01 0:0 00:0 0  1002 0 4\n" +
		"   5: 0000000000000000FFFF00000100007F:D434 0000000000000000FFFF00000100007F:17AC 01 0:0 00:0 0  1003 0 4\n" +
		"   6: junk 0100007F:17AC 01 0:0 00:0 0  1004 0 4\n"
	for _, c := range []struct {
		from, to string
		uid      int
		ok       bool
	}{
		{"127.0.0.1:54321", "127.0.0.1:6060", 1001, true},
		{"127.0.0.1:54322", "127.0.0.1:6060", 0, false}, // closed: it is nobody's any more
		{"[::1]:54323", "[::1]:6060", 1002, true},
		{"127.0.0.1:54324", "127.0.0.1:6060", 1003, true},
		{"127.0.0.1:54321", "127.0.0.1:6061", 0, false},
		{"127.0.0.2:54321", "127.0.0.1:6060", 0, false},
	} {
		uid, ok := socketOwner(table, netip.MustParseAddrPort(c.from), netip.MustParseAddrPort(c.to))
		if uid != c.uid || ok != c.ok {
			t.Errorf("%s to %s: %d %v, want %d %v", c.from, c.to, uid, ok, c.uid, c.ok)
		}
	}
}
