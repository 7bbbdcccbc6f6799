package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// serveDebug offers Go's profiles and traces at /debug/pprof on a loopback
// address, to the programs of the daemon's user and of root. They show where time
// and memory go, never what is in the vault.
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
	mux.HandleFunc("GET /debug/pprof/", profiles)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	server := &http.Server{Handler: onlyLoopback(mux), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go func() { _ = server.Serve(debugListener{l}) }() // ends when the listener is closed
	return l, nil
}

// loopback says whether a host is this machine, as an address.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// profiles serves all but stacks with the arguments of each call, such as debug=2
// asks for: those may be a part of a name, or of a content.
func profiles(w http.ResponseWriter, r *http.Request) {
	if level, _ := strconv.Atoi(r.FormValue("debug")); level > 1 {
		http.Error(w, "stacks with arguments may tell what is in the vault: ask with debug=1", http.StatusForbidden)
		return
	}
	pprof.Index(w, r)
}

// onlyLoopback refuses what was not asked of a loopback address or of localhost: it
// comes from a web page whose name was pointed here. It also refuses what another
// page asks a browser for: that cannot see the answer, but taking it costs time.
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
		if from := r.Header.Get("Sec-Fetch-Site"); from != "" && from != "none" && from != "same-origin" {
			http.Error(w, "not for other web pages", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
