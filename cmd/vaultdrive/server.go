package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// maxRequest bounds the JSON of a request; passwords and paths are far below.
const maxRequest = 1 << 20

// mountState is what a process knows about its mount; zero when it has none.
type mountState struct {
	MountPoint string
	Asset      string
	Log        string
}

// server answers commands for one open vault: over the socket of a mount, or
// over a pipe inside the command's own process. It translates and nothing
// else.
type server struct {
	vault *vaultcore.Vault
	sync  *syncing
	mount mountState
	since time.Time
	log   *slog.Logger
	// unmount drains and detaches the mount; nil when there is none. It
	// returns when the process has nothing left to do but to end.
	unmount func(ctx context.Context, r unmountRequest, tell func(frame)) (leftBehind, error)
	// settled waits until the kernel has been told of what commands changed;
	// nil when there is no mount.
	settled func(context.Context) error
	// detached is set when the mount is out of sight and still used.
	detached atomic.Bool
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	s.routeTree(mux)
	s.routeContent(mux)
	s.routeAdmin(mux)
	s.routeSync(mux)
	s.routeBackup(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeFailure(w, http.StatusNotFound, errDaemonOld)
	})
	return mux
}

// unary serves a call that takes one value and gives one.
func unary[In, Out any](mux *http.ServeMux, call string, fn func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+apiPrefix+call, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if !readRequest(w, r, &in) {
			return
		}
		out, err := fn(r.Context(), in)
		if err != nil {
			writeFailure(w, http.StatusUnprocessableEntity, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// A client that went away needs no answer.
		_ = json.NewEncoder(w).Encode(out)
	})
}

// settleDeadline bounds the wait for the kernel: a program that holds up a
// directory must not hold up a command that has done its work.
const settleDeadline = 2 * time.Second

// changing serves a call that changes the tree. It answers when the mount
// shows the change.
func changing[In, Out any](s *server, mux *http.ServeMux, call string, fn func(context.Context, In) (Out, error)) {
	unary(mux, call, func(ctx context.Context, in In) (Out, error) {
		out, err := fn(ctx, in)
		s.settle(ctx)
		return out, err
	})
}

func (s *server) settle(ctx context.Context) {
	if s.settled == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleDeadline)
	defer cancel()
	if err := s.settled(ctx); err != nil {
		s.log.Warn("the kernel has not been told of a change yet", "err", err)
	}
}

// sink sends the frames of a long answer.
type sink struct {
	enc   *json.Encoder
	flush func() error
	last  time.Time
}

// item sends one element; an error means that nobody listens any more.
func (k *sink) item(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return k.enc.Encode(frame{Item: raw})
}

// progress is told often and speaks ten times a second.
func (k *sink) progress(done, total int64) {
	if now := time.Now(); now.Sub(k.last) >= 100*time.Millisecond {
		k.last = now
		k.send(frame{Done: done, Total: total})
	}
}

func (k *sink) send(f frame) {
	if k.enc.Encode(f) == nil {
		_ = k.flush()
	}
}

// streaming serves a call whose answer is frames.
func streaming[In any](mux *http.ServeMux, call string, fn func(context.Context, In, *sink) error) {
	mux.HandleFunc("POST "+apiPrefix+call, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if !readRequest(w, r, &in) {
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		k := &sink{enc: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
		end := frame{End: true}
		if err := fn(r.Context(), in, k); err != nil {
			end = frame{Error: toWire(err)}
		}
		k.send(end)
	})
}

func readRequest(w http.ResponseWriter, r *http.Request, in any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil && !errors.Is(err, io.EOF) {
		// A field we do not know was sent by a newer command.
		writeFailure(w, http.StatusBadRequest, errDaemonOld)
		return false
	}
	return true
}

func writeFailure(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(toWire(err))
}

func (s *server) status(ctx context.Context, _ none) (statusView, error) {
	view := statusView{
		Status:     s.vault.Status(),
		State:      "open",
		PID:        os.Getpid(),
		MountPoint: s.mount.MountPoint,
		MountAsset: s.mount.Asset,
		Since:      s.since,
		Log:        s.mount.Log,
		Version:    version(),
	}
	switch {
	case s.detached.Load():
		view.State, view.MountPoint = "unmounting", ""
	case view.MountPoint != "":
		view.State = "mounted"
	}
	if err := s.addSync(ctx, &view); err != nil || len(view.Alarms) == 0 {
		return view, err
	}
	named, err := s.deviceNames(ctx)
	if err != nil {
		return view, err
	}
	for i, alarm := range view.Alarms {
		view.Alarms[i] = named(alarm)
	}
	return view, nil
}

// addSync counts what synchronisation has to do, and what it complains about.
func (s *server) addSync(ctx context.Context, view *statusView) error {
	sync, err := s.sync.status(ctx)
	if err != nil || !sync.Enabled {
		return err
	}
	view.Sync = &syncBrief{Remote: sync.Remote, State: sync.State, Queue: sync.Queue, Contact: sync.Contact}
	view.Queued = sync.Up.Count
	for _, c := range sync.Conditions {
		if c.Kind == syncer.CondOffline || c.Raised {
			continue // the state says so, and it is no reason to be alarmed; or an alarm does
		}
		text := c.Text
		if c.Hint != "" {
			text += " (" + c.Hint + ")"
		}
		// Of some the vault itself has told, in the same words.
		if !slices.ContainsFunc(view.Alarms, func(a string) bool { return strings.HasPrefix(a, c.Text) }) {
			view.Alarms = append(view.Alarms, text)
		}
	}
	return nil
}

// statusJSON is the content of /.vaultdrive/status.json.
func (s *server) statusJSON() []byte {
	view, _ := s.status(context.Background(), none{})
	b, err := marshalSafe(view, "  ")
	if err != nil {
		return []byte("{}\n")
	}
	return append(b, '\n')
}
