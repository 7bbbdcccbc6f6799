package server

import (
	"net/netip"
	"strings"
)

// network is whom the client's address is of, for limits by address: of IPv6 the
// /64, which one customer has whole.
func (c *call) network(proxy bool) string {
	text := c.r.RemoteAddr
	if a, err := netip.ParseAddrPort(text); err == nil {
		text = a.Addr().String()
	}
	if proxy {
		// The last entry is the proxy's own word, in a line of its own with some;
		// what stands before it is the client's.
		if lines := c.r.Header.Values("X-Forwarded-For"); len(lines) > 0 {
			last := lines[len(lines)-1]
			text = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
		}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return "unknown"
	}
	return networkOf(a)
}

// networkOf is the network of an address.
func networkOf(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, _ := a.Prefix(64) // every IPv6 address has one
		return p.String()
	}
	return a.String()
}
