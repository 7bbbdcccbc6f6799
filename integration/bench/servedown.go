package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

const (
	downloadCount = 40 // of each, in turn
	saveCount     = 20
)

// downloads fetches the raw 25 MiB of one file from the server and from nginx,
// in turn, over one connection each.
func (b *serveBench) downloads() error {
	client := &http.Client{}
	defer client.CloseIdleConnections()
	p, m, body, err := b.alone(client)
	if err != nil {
		return err
	}
	req, err := m.request("POST", api.PathAttachments, bytes.NewReader(body))
	if err != nil {
		return err
	}
	var row api.Row
	if err := m.send(req, &row); err != nil {
		return err
	}
	nginx, err := b.nginx(m, row)
	if err != nil {
		return err
	}
	ours, theirs, err := m.race(p.url+api.PathContent(row.ID), nginx.url+"/file")
	if err != nil {
		return err
	}
	b.figure("25 MiB raw", "MiB/s", "vaultdrive", "", ours...)
	b.figure("25 MiB raw", "MiB/s", "nginx", "", theirs...)
	half, _ := middle(ours)
	other, _ := middle(theirs)
	b.figure("25 MiB raw, ratio", "", "vaultdrive to nginx", "≥ 0.5", half/other)
	p.stop(syscall.SIGINT)
	nginx.stop(syscall.SIGQUIT)
	return nil
}

// race fetches two addresses in turn, and gives the rates of both in MiB/s.
func (m *member) race(ours, theirs string) (a, b []float64, err error) {
	buf := make([]byte, 1<<20)
	for i := range 2 * downloadCount {
		url, list := ours, &a
		if i%2 == 1 {
			url, list = theirs, &b
		}
		took, err := timed(func() error { return m.fetch(url, buf) })
		if err != nil {
			return nil, nil, err
		}
		*list = append(*list, float64(api.MaxSealed3)/(1<<20)/took)
	}
	return a, b, nil
}

func (m *member) fetch(url string, buf []byte) error {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	res, err := m.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, buf)
	if err == nil && n != api.MaxSealed3 {
		err = fmt.Errorf("%s: %d bytes, %s", url, n, res.Status)
	}
	return err
}

// nginx serves the bytes of a file from a directory of its own.
func (b *serveBench) nginx(m *member, row api.Row) (*process, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install nginx-light", err)
	}
	dir, err := b.dir("nginx")
	if err != nil {
		return nil, err
	}
	if err := m.save(row, filepath.Join(dir, "file")); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; worker_processes 1; user root; pid %[1]s/pid; error_log %[1]s/error;\nevents {}\n"+
		"http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path %[1]s/body; server { listen %[2]s; root %[1]s; } }\n", dir, address)
	if os.Getuid() != 0 {
		text = string(bytes.Replace([]byte(text), []byte("user root; "), nil, 1))
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := b.start(exec.Command(program, "-c", config, "-p", dir, "-e", filepath.Join(dir, "error")), "http://"+address)
	if err != nil {
		return nil, err
	}
	return p, awaitHTTP(p.url)
}

func (m *member) save(row api.Row, path string) error {
	req, err := m.request("GET", api.PathContent(row.ID), nil)
	if err != nil {
		return err
	}
	raw, err := m.answer(req)
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// saves measures how soon a file of 1 MiB that one mounted device closes is read
// on another one, through the server, with nobody asking for it.
func (b *serveBench) saves() error {
	p, err := b.serve("sqlite")
	if err != nil {
		return err
	}
	s := &syncBench{work: b.work, program: b.program, out: io.Discard}
	defer s.unmount()
	from, to, err := s.pair(p.url)
	if err != nil {
		return err
	}
	var took []float64
	for i := range saveCount {
		sec, err := s.save(from, to, fmt.Sprint(i), false)
		if err != nil {
			return err
		}
		took = append(took, sec)
	}
	b.figure("a save of 1 MiB read on another device", "s", "sqlite", "≤ 2", took...)
	b.figure("a save of 1 MiB, the slowest", "s", "sqlite", "≤ 2", slices.Max(took))
	s.unmount()
	p.stop(syscall.SIGINT)
	return nil
}

// pair mounts two devices of one vault on a remote, with the folder that saves
// go to.
func (s *syncBench) pair(remote string) (from, to *syncDevice, err error) {
	if from, err = s.newDevice(); err != nil {
		return nil, nil, err
	}
	if to, err = s.newDevice(); err != nil {
		return nil, nil, err
	}
	if err := from.steps([]string{"init", "--kdf", "low"}, []string{"sync enable", remote}, []string{"mount", from.mnt}); err != nil {
		return nil, nil, err
	}
	if err := os.Mkdir(filepath.Join(from.mnt, "Source"), 0o700); err != nil {
		return nil, nil, err
	}
	address, err := from.address()
	if err != nil {
		return nil, nil, err
	}
	return from, to, to.steps([]string{"join", "--remote", remote, "--yes", address}, []string{"mount", to.mnt})
}
