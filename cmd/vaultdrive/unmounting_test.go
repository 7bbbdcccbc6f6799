package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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

// TestUnmountIsAnswered: who asked for an unmount hears how it ended, however late
// the process gets to say so. Nobody else holds up the end of the process.
func TestUnmountIsAnswered(t *testing.T) {
	for call, c := range map[string]struct {
		answer  time.Duration // after which the handler answers
		heard   bool
		atLeast time.Duration // that hanging up takes
		atMost  time.Duration
	}{
		callUnmount: {5 * time.Second, true, 5 * time.Second, 6 * time.Second},
		callBarrier: {500 * time.Millisecond, true, 500 * time.Millisecond, callsMoment},
		callCheck:   {time.Minute, false, callsMoment, callsMoment},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, l := &daemon{}, newPipeListener()
			begun := make(chan struct{})
			httpServer := newHTTPServer(d.counting(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(begun)
				time.Sleep(c.answer)
				_ = json.NewEncoder(w).Encode(frame{End: true})
			})), slog.New(slog.DiscardHandler))
			go func() { _ = httpServer.Serve(l) }()
			answers := make(chan error, 1)
			cl := newClient(l.dial)
			go func() { answers <- cl.stream(t.Context(), call, none{}, nil) }()
			<-begun
			start := time.Now()
			d.hangUp(httpServer)
			took := time.Since(start)
			synctest.Wait()
			if took < c.atLeast || took > c.atMost {
				t.Errorf("%s: it took %v to hang up", call, took)
			}
			select {
			case err := <-answers:
				if err != nil || !c.heard {
					t.Errorf("%s: %v", call, err)
				}
			default:
				if c.heard {
					t.Errorf("%s: not answered", call)
				}
			}
			_ = httpServer.Close() // as the end of the process does
			_ = cl.close(t.Context())
			time.Sleep(c.answer) // the handlers end
		})
	}
}
