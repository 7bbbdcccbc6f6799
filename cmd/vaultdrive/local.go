package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// localClient serves an open vault inside this process: the same handlers
// that a mount has behind its socket, over pipes. Closing it closes the vault.
func localClient(vault *vaultcore.Vault) *client {
	log := slog.New(slog.DiscardHandler)
	s := &server{vault: vault, sync: newSyncing(vault, log), since: time.Now(), log: log}
	pipes := newPipeListener()
	httpServer := newHTTPServer(s.handler(), s.log)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = httpServer.Serve(pipes)
	}()
	c := newClient(pipes.dial)
	idle := c.closing
	c.closing = func(ctx context.Context) error {
		_ = idle(ctx)
		_ = httpServer.Close()
		<-served
		s.sync.end()
		return vault.Close(context.WithoutCancel(ctx))
	}
	return c
}

func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// pipeListener is a listener whose connections come from dial.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, errors.Join(near.Close(), io.ErrClosedPipe)
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "process", Net: "pipe"} }
