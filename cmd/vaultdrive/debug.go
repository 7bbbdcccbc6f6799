package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"
)

// serveDebug offers Go's profiles and traces at /debug/pprof on a loopback
// address, to every program of this machine. They show where time and memory go,
// never what is in the vault. A request for another host's name is refused: it comes
// from a web page whose name was pointed here.
func serveDebug(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usage("--debug-addr %s: %v", address, err)
	}
	if !loopback(host) {
		return nil, usage("--debug-addr %s: only a loopback address such as 127.0.0.1:6060", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--debug-addr: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	server := &http.Server{Handler: onlyLoopback(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends when the listener is closed
	return l, nil
}

// loopback says whether a host is this machine, as an address.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// onlyLoopback refuses what was not asked of a loopback address or of localhost.
func onlyLoopback(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if host != "localhost" && !loopback(host) {
			http.Error(w, "ask for this by a loopback address", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
