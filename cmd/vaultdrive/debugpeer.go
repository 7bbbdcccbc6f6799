package main

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// debugListener lets in the connections of the daemon's user and of root. Others
// would learn when the drive is used, and could take up its descriptors and time.
type debugListener struct{ net.Listener }

// listReads is how often the kernel's list of sockets is read before one counts as not
// there: read in pieces, it leaves some out while others come and go.
const listReads = 3

const notYours = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
	"only for the user who mounted, and for root\n"

func (l debugListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, ok := peerUser(c); ok && (uid == 0 || uid == os.Geteuid()) {
			return c, nil
		}
		_, _ = io.WriteString(c, notYours) // fits the buffer of a new connection
		_ = c.Close()
	}
}

// peerUser is who has the other end of a connection within this machine. A TCP
// socket has no peer credentials, so it asks the kernel's list of sockets, proc(5).
func peerUser(c net.Conn) (uid int, ok bool) {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return 0, false
	}
	here, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return 0, false
	}
	for range listReads {
		for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			text, _ := os.ReadFile(table) // without IPv6 there is no second one
			if uid, ok = socketOwner(string(text), peer, here); ok {
				return uid, true
			}
		}
	}
	return 0, false
}

// socketOwner finds the established connection from one address to another in the
// text of /proc/net/tcp or tcp6. In other states the list says 0 once the owner has
// closed the socket.
func socketOwner(table string, from, to netip.AddrPort) (uid int, ok bool) {
	const local, remote, state, owner = 1, 2, 3, 7
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) <= owner || f[state] != "01" || tableAddress(f[local]) != from || tableAddress(f[remote]) != to {
			continue
		}
		uid, err := strconv.Atoi(f[owner])
		return uid, err == nil
	}
	return 0, false
}

// tableAddress reads an address of that list: hexadecimal words of 32 bits, each
// in the order of the processor, a colon and the port. An IPv4 address in an IPv6
// socket counts as what it is.
func tableAddress(s string) netip.AddrPort {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n))
}
