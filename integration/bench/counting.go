package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// countingLine passes connections on to a server and counts what goes over them.
type countingLine struct {
	address                  string
	listener                 net.Listener
	requests, sent, received atomic.Int64
	wg                       sync.WaitGroup
}

// lineCount is what has gone over a line.
type lineCount struct {
	requests, sent, received int64 // bytes there and back
}

func listenCounting(server string) (*countingLine, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &countingLine{address: l.Addr().String(), listener: l}
	c.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.pass(client, server) })
		}
	})
	return c, nil
}

func (c *countingLine) read() lineCount {
	return lineCount{c.requests.Load(), c.sent.Load(), c.received.Load()}
}

// stop takes no more connections; those that are open end with their client.
func (c *countingLine) stop() { _ = c.listener.Close() }

func (c *countingLine) pass(client net.Conn, server string) {
	defer client.Close()
	to, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer to.Close()
	heard, said := io.Pipe()
	c.wg.Go(func() { c.count(heard) })
	c.wg.Go(func() {
		defer client.Close()
		_, _ = io.Copy(&counter{client, &c.received}, to)
	})
	_, err = io.Copy(io.MultiWriter(&counter{to, &c.sent}, said), client)
	_ = said.CloseWithError(err)
}

// count counts the requests of a connection.
func (c *countingLine) count(r *io.PipeReader) {
	in := bufio.NewReader(r)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			break
		}
		c.requests.Add(1)
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			break
		}
	}
	_, _ = io.Copy(io.Discard, r) // or the connection would stand still
}

// counter counts bytes on their way.
type counter struct {
	io.Writer
	n *atomic.Int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err
}
