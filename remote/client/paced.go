package client

import (
	"context"
	"io"
	"net"
	"time"
)

// paced is a body whose bytes must go on coming: a connection that is open and
// silent ends with an error instead of being waited for without end.
type paced struct {
	io.ReadCloser
	timer *time.Timer
}

func newPaced(body io.ReadCloser) *paced {
	return &paced{ReadCloser: body, timer: time.AfterFunc(pieceTimeout, func() { _ = body.Close() })}
}

func (p *paced) Read(b []byte) (int, error) {
	p.timer.Reset(pieceTimeout)
	return p.ReadCloser.Read(b)
}

// Close ends it; the timer must not close what somebody else got meanwhile.
func (p *paced) Close() error {
	p.timer.Stop()
	return p.ReadCloser.Close()
}

func dialer(timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	return d.DialContext
}
