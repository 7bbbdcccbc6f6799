package syncer_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// trickling is a server that sends of some contents a byte now and then, for ever, and
// of others more than there is, without end.
type trickling struct {
	mu      sync.Mutex
	blobs   []string // paths of contents, in the order in which they came
	slow    map[string]bool
	endless map[string]bool
	over    chan struct{}
	sent    atomic.Int64 // of the endless ones
}

func (s *trickling) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content := strings.Contains(r.URL.Path, "/blobs/")
		s.mu.Lock()
		if content && r.Method == http.MethodPut {
			s.blobs = append(s.blobs, r.URL.Path)
		}
		slow, endless := s.slow[r.URL.Path], s.endless[r.URL.Path]
		s.mu.Unlock()
		switch {
		case r.Method == http.MethodGet && slow:
			s.trickle(w, r)
		case r.Method == http.MethodGet && endless:
			s.pour(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *trickling) trickle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", strconv.Itoa(1<<20))
	w.Header().Set("ETag", `"x"`)
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		if _, err := w.Write([]byte{0}); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-s.over:
			return
		}
	}
}

func (s *trickling) pour(w http.ResponseWriter) {
	w.Header().Set("ETag", `"x"`)
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	zeros := make([]byte, 64<<10)
	for {
		n, err := w.Write(zeros)
		s.sent.Add(int64(n))
		if err != nil {
			return
		}
		select {
		case <-s.over:
			return
		default:
		}
	}
}

// TestTrickle: as many contents as are fetched at a time come a byte now and then, and
// one has no end. The others come all the same, those give up their places, nothing
// fills the memory, and when the server is well again all is here.
func TestTrickle(t *testing.T) {
	t.Parallel()
	s := &trickling{slow: map[string]bool{}, endless: map[string]bool{}, over: make(chan struct{})}
	f := newBucketFleet(t, s3test.Fake(t, s.wrap), "laptop", "desktop")
	t.Cleanup(func() { close(s.over) })
	laptop, desktop := f.devices[0], f.devices[1]
	desktop.sync()
	const many = 20 // more than are under way at a time
	for i := range many + 1 {
		laptop.write(fmt.Sprintf("Letters/slow %d", i), strings.Repeat("slow ", 100_000))
	}
	laptop.sync()
	s.mu.Lock()
	if len(s.blobs) != many+1 {
		t.Fatalf("%d contents came to the server", len(s.blobs))
	}
	for i, path := range s.blobs {
		s.slow[path], s.endless[path] = i > 0, i == 0
	}
	s.mu.Unlock()
	desktop.run()
	desktop.until("all places are taken", func() bool { return desktop.Status().Down.Active >= 16 })
	laptop.write("Letters/other", "comes all the same")
	laptop.sync()
	desktop.until("the others come all the same", func() bool {
		desktop.Poke()
		i, err := desktop.v.Stat("Letters/other")
		return err == nil && i.Content == "present"
	})
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapInuse > 512<<20 {
		t.Errorf("%d MiB in memory", m.HeapInuse>>20)
	}
	if n := s.sent.Load(); n > 256<<20 {
		t.Errorf("%d MiB were taken of a content of half of one", n>>20)
	}
	s.mu.Lock()
	clear(s.slow)
	clear(s.endless)
	s.mu.Unlock()
	desktop.restart()
	desktop.until("all is here", func() bool { return desktop.trySync() == nil })
	f.agree()
}
