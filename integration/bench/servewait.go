package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const (
	pollCount      = 10_000
	pollPerAccount = 64 // as the limits have it
	pollPerSession = 4
	pollChanges    = 30 // accounts that something changes in
)

// polls lets 10,000 connections wait for changes, as many of an account as may,
// and looks at the server's memory. Then something changes in one account after
// another.
func (b *serveBench) polls() error { return b.onEach(b.pollsOf) }

func (b *serveBench) pollsOf(p *process, database string) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: uploadClients}}
	before, _, err := p.memory()
	if err != nil {
		return err
	}
	groups, err := newPollGroups(p.url, client)
	if err != nil {
		return err
	}
	client.CloseIdleConnections()
	defer func() {
		for _, g := range groups {
			g.close()
		}
	}()
	for _, g := range groups {
		if err := g.poll(); err != nil {
			return err
		}
	}
	if err := awaitWaiters(groups); err != nil {
		return err
	}
	now, peak, err := p.memory()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d long polls", pollCount)
	b.figure(name+", memory", "MiB", database, "≤ 400", now)
	b.figure(name+", memory at most", "MiB", database, "≤ 400", peak)
	b.figure("memory of an idle server", "MiB", database, "", before)
	var took []float64
	for _, g := range groups[:pollChanges] {
		list, err := g.wake()
		if err != nil {
			return err
		}
		took = append(took, list...)
	}
	b.figure(name+", change to wake-up", "ms", database, "≤ 100", took...)
	b.figure(name+", the latest of all", "ms", database, "≤ 100", slices.Max(took))
	return nil
}

// pollGroup is an account with long polls.
type pollGroup struct {
	*member
	tokens []string // of its sessions, one for each poll
	conns  []net.Conn
}

// newPollGroups makes accounts and sessions for all polls, before any of them
// waits: that takes longer than a poll may.
func newPollGroups(url string, client *http.Client) ([]*pollGroup, error) {
	groups := make([]*pollGroup, (pollCount+pollPerAccount-1)/pollPerAccount)
	errs := make([]error, uploadClients)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(groups) && errs[w] == nil; i += len(errs) {
				groups[i], errs[w] = newPollGroup(url, client, min(pollPerAccount, pollCount-i*pollPerAccount))
			}
		})
	}
	wg.Wait()
	return groups, errors.Join(errs...)
}

func newPollGroup(url string, client *http.Client, count int) (*pollGroup, error) {
	m, err := register(url, client)
	if err != nil {
		return nil, err
	}
	g := &pollGroup{member: m}
	for i := range count {
		if i%pollPerSession == 0 {
			if m.token, err = m.login(); err != nil {
				return nil, err
			}
		}
		g.tokens = append(g.tokens, m.token)
	}
	return g, nil
}

// poll asks for what comes after the header and the item.
func (g *pollGroup) poll() error {
	host := strings.TrimPrefix(g.url, "http://")
	for _, token := range g.tokens {
		c, err := net.Dial("tcp", host)
		if err != nil {
			return err
		}
		g.conns = append(g.conns, c)
		if _, err = fmt.Fprintf(c, "GET %s/changes?after=2&wait=%d HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
			api.PathVault(g.vault), int(api.MaxWait/time.Second), host, token); err != nil {
			return err
		}
	}
	return nil
}

func (g *pollGroup) close() {
	for _, c := range g.conns {
		c.Close()
	}
}

// awaitWaiters is over when the last connections have had time to be asked for,
// which is seen by one more call on each account being answered.
func awaitWaiters(groups []*pollGroup) error {
	for _, g := range groups {
		if err := g.call("GET", api.PathUsage, nil, nil); err != nil {
			return err
		}
	}
	runtime.GC() // ours, so that it does not come into the measurement
	time.Sleep(2 * time.Second)
	return nil
}

// wake changes something, and gives how long after the begin of that call each
// answer came, in ms.
func (g *pollGroup) wake() ([]float64, error) {
	type arrival struct {
		at  time.Time
		err error
	}
	answers := make(chan arrival, len(g.conns))
	var ready sync.WaitGroup
	for _, c := range g.conns {
		ready.Add(1)
		go func() {
			ready.Done()
			at, err := readPoll(c)
			answers <- arrival{at, err}
		}()
	}
	ready.Wait()
	start := time.Now()
	if err := g.call("PUT", api.PathParent("item", g.item), api.PutParent{TitleEncrypted: "another", Epoch: 1}, nil); err != nil {
		return nil, err
	}
	var took []float64
	var errs error
	for range g.conns {
		a := <-answers
		took, errs = append(took, float64(a.at.Sub(start))/1e6), errors.Join(errs, a.err)
	}
	return took, errs
}

func readPoll(c net.Conn) (time.Time, error) {
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return time.Time{}, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return at, err
	}
	if res.StatusCode != http.StatusOK {
		return at, fmt.Errorf("a long poll was answered %s", res.Status)
	}
	return at, nil
}
