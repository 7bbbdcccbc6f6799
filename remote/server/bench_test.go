package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/remote/server/metatest"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// benchWorld is a world without a standing clock, over a real disk.
func benchWorld(b *testing.B, database string) *world {
	b.Helper()
	dir := b.TempDir()
	w := &world{t: b, dir: dir, logs: &lockedBuffer{}, client: http.DefaultClient}
	w.clock.Store(1_772_366_400_000)
	db, err := metadb.Open(context.Background(), database)
	must(b, err)
	b.Cleanup(func() { _ = db.Close() })
	db.SetClock(w.now)
	must(b, os.Mkdir(filepath.Join(dir, "blobs"), 0o700))
	w.blobs, err = blob.OpenDir(filepath.Join(dir, "blobs"))
	must(b, err)
	var s *Server
	w.http = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { s.ServeHTTP(rw, r) }))
	b.Cleanup(w.http.Close)
	s, err = New(context.Background(), Options{DB: db, Blobs: w.blobs, Temp: filepath.Join(dir, "tmp"), Audience: w.http.URL, Registration: RegistrationOpen,
		Quota: 1 << 40, Limits: NoLimits(), Log: slog.New(slog.DiscardHandler), Now: w.now})
	must(b, err)
	w.Server = s
	return w
}

// BenchmarkUploads stores files of 10 KiB by JSON, 32 clients at a time, each
// answer a durable one.
func BenchmarkUploads(b *testing.B) {
	for _, c := range []struct {
		name string
		at   func(b *testing.B) string
	}{
		{"sqlite", func(b *testing.B) string { return filepath.Join(b.TempDir(), "meta.db") }},
		{"postgres", func(b *testing.B) string { return metatest.Postgres(b) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := benchWorld(b, c.at(b))
			p := w.register()
			body, err := json.Marshal(uploadBody("item", p.parent("item"), randomBytes(10<<10)))
			must(b, err)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range 32 {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						req, err := http.NewRequest("POST", w.http.URL+api.PathAttachments, bytes.NewReader(body))
						if err != nil {
							b.Error(err)
							return
						}
						req.Header.Set("Content-Type", api.TypeJSON)
						req.Header.Set("Authorization", "Bearer "+p.token)
						res, err := client.Do(req)
						if err != nil {
							b.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
						if res.StatusCode != http.StatusCreated {
							b.Errorf("status %d", res.StatusCode)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "uploads/s")
		})
	}
}

// BenchmarkDownload sends the raw bytes of a file of 25 MiB.
func BenchmarkDownload(b *testing.B) {
	w := benchWorld(b, filepath.Join(b.TempDir(), "meta.db"))
	p := w.register()
	row := p.upload("item", p.parent("item"), make([]byte, api.MaxSealed3))
	b.SetBytes(api.MaxSealed3)
	buf := make([]byte, 1<<20)
	for b.Loop() {
		req, err := http.NewRequest("GET", w.http.URL+api.PathContent(row.ID), nil)
		must(b, err)
		req.Header.Set("Authorization", "Bearer "+p.token)
		res, err := http.DefaultClient.Do(req)
		must(b, err)
		n, err := io.CopyBuffer(io.Discard, res.Body, buf)
		res.Body.Close()
		if err != nil || n != api.MaxSealed3 {
			b.Fatal(n, err)
		}
	}
}
