package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// Connections bounds what is open at a time. 0 takes the default, a negative number
// lifts the bound.
type Connections struct {
	All  int // 20,000
	Each int // 1,024, of one network address; those of the own machine count as all only
}

const (
	DefaultConnections = 20_000
	DefaultEach        = 1024

	// tellAtOnce and tellTime bound what a refusal costs: beyond them a connection is
	// just closed.
	tellAtOnce = 64
	tellTime   = 2 * time.Second
	fullAgain  = 10 // seconds
	fullNoted  = time.Minute
)

// withDefaults: 0 is no bound from here on.
func (c Connections) withDefaults() Connections {
	if c.All == 0 {
		c.All = DefaultConnections
	}
	if c.Each == 0 {
		c.Each = DefaultEach
	}
	return Connections{All: max(0, c.All), Each: max(0, c.Each)}
}

// boundedListener lets in as many connections as there may be. One more costs no
// more than its own refusal, so those that are open go on.
type boundedListener struct {
	*net.TCPListener
	s     *Server
	plain bool
	from  func(net.Addr) string // sourceOf
	tell  chan struct{}         // a place for each refusal that is being told
	// tellFor is how long who is refused has to ask and to take the answer.
	tellFor time.Duration

	mu    sync.Mutex
	all   int
	each  map[string]int
	noted time.Time // when the log was last told that there are too many
}

// Bound makes a listener for HTTP keep to Options.Connections. plain: it is spoken
// without TLS, so who is refused can be told; with it that would take a handshake.
func (s *Server) Bound(l *net.TCPListener, plain bool) net.Listener {
	return &boundedListener{TCPListener: l, s: s, plain: plain, from: sourceOf, tell: make(chan struct{}, tellAtOnce), tellFor: tellTime, each: make(map[string]int)}
}

// Accept gives the next connection that may be.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		from := l.from(conn.RemoteAddr())
		if why := l.enter(from); why != "" {
			l.refuse(conn, why)
			continue
		}
		return &boundedConn{TCPConn: conn, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
	}
}

// boundedConn counts as open until it is closed. It stays a TCP connection to
// net/http, which sends files past this process then.
type boundedConn struct {
	*net.TCPConn
	leave func()
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}

// sourceOf is what connections are counted by: the network they come from, "" for
// the own machine.
func sourceOf(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := tcp.AddrPort().Addr()
	if ip.Unmap().IsLoopback() {
		return ""
	}
	return networkOf(ip)
}

// enter counts one in, or says which bound is in the way.
func (l *boundedListener) enter(from string) (why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bound := l.s.o.Connections
	if l.s.o.TrustProxy {
		bound.Each = 0 // all come from the proxy
	}
	switch {
	case bound.All > 0 && l.all >= bound.All:
		return "all"
	case bound.Each > 0 && from != "" && l.each[from] >= bound.Each:
		return "address"
	}
	l.all++
	l.s.metrics.open.Inc()
	if from != "" {
		l.each[from]++
	}
	return ""
}

func (l *boundedListener) leave(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	l.s.metrics.open.Dec()
	if from == "" {
		return
	}
	if l.each[from]--; l.each[from] == 0 {
		delete(l.each, from)
	}
}

// refuse ends a connection that is too many.
func (l *boundedListener) refuse(conn *net.TCPConn, why string) {
	l.s.metrics.refused.WithLabelValues(why).Inc()
	l.note(why)
	if l.plain {
		select {
		case l.tell <- struct{}{}:
			go func() {
				defer func() { <-l.tell }()
				tellFull(conn, l.tellFor)
			}()
			return
		default:
		}
	}
	_ = conn.SetLinger(0) // nothing of it stays in the kernel
	_ = conn.Close()
}

// note writes to the log, not as often as there are refusals.
func (l *boundedListener) note(why string) {
	l.mu.Lock()
	now := time.Now()
	due := now.Sub(l.noted) >= fullNoted
	if due {
		l.noted = now
	}
	open := l.all
	l.mu.Unlock()
	if due {
		l.s.log.Warn("connections refused: too many are open", "bound", why, "open", open)
	}
}

// tellFull answers whatever is asked with 503, reads what it must so that the
// answer arrives, and closes.
func tellFull(conn *net.TCPConn, most time.Duration) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(most))
	asked := make([]byte, 4<<10)
	if _, err := conn.Read(asked); err != nil {
		return
	}
	if _, err := io.WriteString(conn, fullAnswer()); err != nil {
		return
	}
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 256<<10)) // a close before would take the answer back
}

func fullAnswer() string {
	e := api.Limited(api.CodeUnavailable, fullAgain*time.Second, "too many connections are open")
	e.RequestID = requestID()
	body, err := json.Marshal(e)
	if err != nil {
		body = nil // two texts always are JSON
	}
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s",
		http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable), api.TypeJSON, len(body), fullAgain, body)
}
