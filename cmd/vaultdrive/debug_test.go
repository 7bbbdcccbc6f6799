package main

import (
	"net/http"
	"testing"
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
