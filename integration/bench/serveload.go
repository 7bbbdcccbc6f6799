package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const (
	uploadClients = 32
	uploadFor     = 8 * time.Second
	uploadWarm    = 4 * time.Second // before it: statements are prepared, and the file system has found room for a folder
	uploadSize    = 10 << 10        // bytes of plaintext

	bodyCount = 100 // at once
)

// uploads stores files of 10 KiB by JSON, 32 clients at a time, each answer a
// durable one: into one account, and into one account for each client.
func (b *serveBench) uploads() error {
	return b.onEach(func(p *process, database string) error {
		for _, accounts := range []int{1, uploadClients} {
			if err := b.uploadsInto(p, database, accounts); err != nil {
				return fmt.Errorf("%d accounts: %w", accounts, err)
			}
		}
		return nil
	})
}

func (b *serveBench) uploadsInto(p *process, database string, accounts int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: uploadClients}}
	defer client.CloseIdleConnections()
	var members []*member
	for range accounts {
		m, err := register(p.url, client)
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	used := func() time.Duration { return processorTime(p.cmd.Process.Pid, b.cluster.cmd.Process.Pid) }
	load := &uploadLoad{start: time.Now().Add(uploadWarm)}
	var wg sync.WaitGroup
	for i := range uploadClients {
		wg.Go(func() { load.note(members[i%accounts].uploadUntil(load.start, load.start.Add(uploadFor))) })
	}
	time.Sleep(uploadWarm / 2)
	analyzed := b.cluster.analyze()
	time.Sleep(time.Until(load.start))
	before := used()
	wg.Wait()
	per := (used() - before).Seconds() * 1000 / float64(len(load.took))
	if err := errors.Join(analyzed, load.err); err != nil {
		return err
	}
	name := fmt.Sprintf("10 KiB uploads, %d clients, %d accounts", uploadClients, accounts)
	if accounts == 1 {
		name = fmt.Sprintf("10 KiB uploads, %d clients, one account", uploadClients)
	}
	slices.Sort(load.took)
	b.figure(name, "/s", database, "≥ 1000", float64(len(load.took))/uploadFor.Seconds())
	b.figure(name+", processor time of server and database each", "ms", database, "", per)
	b.figure(name+", 99 of 100", "ms", database, "≤ 100", load.took[len(load.took)*99/100])
	return nil
}

// uploadLoad collects what the clients saw.
type uploadLoad struct {
	start time.Time
	mu    sync.Mutex
	took  []float64 // ms
	err   error
}

func (l *uploadLoad) note(took []float64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took, l.err = append(l.took, took...), errors.Join(l.err, err)
}

// uploadUntil uploads again and again, and gives how long each took that began
// and ended between start and end, in ms.
func (m *member) uploadUntil(start, end time.Time) (took []float64, err error) {
	body, err := m.upload(uploadSize)
	if err != nil {
		return nil, err
	}
	for {
		req, err := m.request("POST", api.PathAttachments, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		from := time.Now()
		if err := m.send(req, nil); err != nil {
			return nil, err
		}
		now := time.Now()
		if now.After(end) {
			return took, nil
		}
		if from.After(start) {
			took = append(took, float64(now.Sub(from))/1e6)
		}
	}
}

// bodies sends 100 bodies of 25 MiB at once, none of them whole before all have
// begun, and looks at the memory of the server.
func (b *serveBench) bodies() error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: bodyCount}}
	defer client.CloseIdleConnections()
	p, m, body, err := b.alone(client)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	all.Add(bodyCount)
	errs := make(chan error, bodyCount)
	took, _ := timed(func() error {
		for range bodyCount {
			go func() { errs <- m.sendTogether(body, &all) }()
		}
		for range bodyCount {
			err = errors.Join(err, <-errs)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, peak, err := p.memory()
	name := fmt.Sprintf("%d JSON uploads of 25 MiB at once", bodyCount)
	b.figure(name+", memory", "MiB", "sqlite", "≤ 256", peak)
	b.figure(name+", rate", "MiB/s", "sqlite", "", float64(bodyCount*api.MaxFile>>20)/took)
	p.stop(syscall.SIGINT)
	return err
}

func (m *member) sendTogether(body []byte, all *sync.WaitGroup) error {
	t := &together{body: bytes.NewReader(body), all: all}
	defer t.arrive() // one that failed keeps nobody waiting
	req, err := m.request("POST", api.PathAttachments, t)
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	return m.send(req, nil)
}

// together is read beyond its half only when all others have come there.
type together struct {
	body *bytes.Reader
	all  *sync.WaitGroup
	once sync.Once
}

func (t *together) arrive() { t.once.Do(t.all.Done) }

func (t *together) Read(b []byte) (int, error) {
	if t.body.Len() < int(t.body.Size())/2 {
		t.arrive()
		t.all.Wait()
	}
	return t.body.Read(b)
}
