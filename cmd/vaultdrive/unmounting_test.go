package main

import (
	"strings"
	"testing"
)

// TestLeftBehind: what keeps something from going up is said with what to do; that
// it goes up by itself only where it does.
func TestLeftBehind(t *testing.T) {
	for want, l := range map[string]leftBehind{
		"":                           {Online: true},
		"next mount":                 {Online: true, Changes: 1},
		"does not answer":            {Files: 2, Bytes: 3},
		"was revoked: it syncs":      {Online: true, Changes: 2, Why: "this device was revoked: it syncs no more", Hint: "join it anew"},
		"hint: join it anew":         {Changes: 2, Why: "this device was revoked", Hint: "join it anew"},
		"2 changes; the disk is off": {Changes: 2, Why: "the disk is off", Hint: "plug it in"},
	} {
		u, _, said := testUI()
		l.say(u)
		if got := said.String(); !strings.Contains(got, want) || want == "" && got != "" || l.Why != "" && strings.Contains(got, "next mount") {
			t.Errorf("%+v says %q, want %q", l, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 batches", 1: "1 batch", 2: "2 batches"} {
		if got := plural(n, "batch"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
