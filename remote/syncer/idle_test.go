package syncer_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/s3"
	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// wire is a way to a server on which all that passes is counted.
type wire struct {
	requests, up, down atomic.Int64 // the latter two in bytes
}

// before puts a counted way before the server of o.
func (w *wire) before(t *testing.T, o s3.Options) s3.Options {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	server := strings.TrimPrefix(o.Endpoint, "http://")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c, server)
		}
	}()
	o.Endpoint = "http://" + l.Addr().String()
	return o
}

func (w *wire) carry(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(client, io.TeeReader(server, writerFunc(func(p []byte) { w.down.Add(int64(len(p))) })))
		client.Close()
	}()
	_, _ = io.Copy(server, io.TeeReader(client, writerFunc(func(p []byte) {
		w.up.Add(int64(len(p)))
		w.requests.Add(int64(bytes.Count(p, []byte(" HTTP/1.1\r\n"))))
	})))
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// An idle poll of a bucket is one request, and that and its answer are below
// 1 kB where the server knows conditions.
func TestIdlePoll(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(t *testing.T) s3.Options{
		"fake":      func(t *testing.T) s3.Options { return s3test.Fake(t, nil) },
		"versitygw": func(t *testing.T) s3.Options { return s3test.StartGateway(t).Options },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w wire
			laptop := newBucketFleet(t, w.before(t, server(t)), "laptop").devices[0]
			laptop.write("Letters/a.txt", "dear")
			laptop.sync()
			laptop.run()
			laptop.nextPoll()
			const polls = 2
			for end := time.Now().Add(patience); ; { // the first ones find what is left to do, and one may be missed here
				requests, up, down := w.requests.Load(), w.up.Load(), w.down.Load()
				for range polls {
					laptop.nextPoll()
				}
				requests, up, down = w.requests.Load()-requests, w.up.Load()-up, w.down.Load()-down
				t.Logf("%d idle polls: %d requests, %d bytes up, %d bytes down", polls, requests, up, down)
				if requests == polls && (name == "fake" || up+down < polls*1000) {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("%d idle polls are %d requests of %d bytes", polls, requests, up+down)
				}
			}
		})
	}
}

// nextPoll waits for the loop to ask the remote, as it does by itself.
func (d *device) nextPoll() {
	d.f.t.Helper()
	last := d.Status().Contact
	for end := time.Now().Add(patience); d.Status().Contact.Equal(last); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			d.f.t.Fatalf("%s: no poll", d.name)
		}
	}
}
