// Package blobtest is what every blob.Store has to do, as tests; a store in
// memory that does it; and a wrapper that makes any store fail on purpose.
//
// It refuses to know any real store. Only tests import it.
package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Memory is a Store in memory.
type Memory struct {
	mu      sync.Mutex
	blobs   map[string]content
	uploads map[string]map[int]piece // by upload id, then number
	serial  int                      // of ETags, tags and upload ids
}

type content struct {
	bytes []byte
	attrs blob.Attrs
}

type piece struct {
	bytes []byte
	part  blob.Part
}

var _ blob.Store = (*Memory)(nil)

// NewMemory gives an empty store.
func NewMemory() *Memory {
	return &Memory{blobs: map[string]content{}, uploads: map[string]map[int]piece{}}
}

// Put implements blob.Store.
func (m *Memory) Put(ctx context.Context, key string, r io.Reader, size int64, createOnly bool) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	b, err := readExactly(r, size)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setLocked(key, b, createOnly)
}

func (m *Memory) setLocked(key string, b []byte, createOnly bool) error {
	if _, ok := m.blobs[key]; ok && createOnly {
		return fmt.Errorf("put %s: %w", key, blob.ErrExist)
	}
	for other := range m.blobs {
		if strings.HasPrefix(other, key+"/") || strings.HasPrefix(key, other+"/") {
			return fmt.Errorf("put %s beside %s: %w", key, other, blob.ErrKey)
		}
	}
	m.blobs[key] = content{b, blob.Attrs{
		Key: key, Size: int64(len(b)), ModTime: time.Now(), ETag: m.nextLocked(),
	}}
	return nil
}

func (m *Memory) nextLocked() string {
	m.serial++
	return strconv.Itoa(m.serial)
}

// Get implements blob.Store.
func (m *Memory) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	c, err := m.find(ctx, key)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(c.bytes)) {
		n = int64(len(c.bytes))
	}
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(c.bytes), off, n)), nil
}

// Head implements blob.Store.
func (m *Memory) Head(ctx context.Context, key string) (blob.Attrs, error) {
	c, err := m.find(ctx, key)
	return c.attrs, err
}

func (m *Memory) find(ctx context.Context, key string) (content, error) {
	if err := check(ctx, key); err != nil {
		return content{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.blobs[key]
	if !ok {
		return content{}, fmt.Errorf("%s: %w", key, blob.ErrNotFound)
	}
	return c, nil
}

// List implements blob.Store.
func (m *Memory) List(ctx context.Context, prefix, after string) iter.Seq2[blob.Attrs, error] {
	return func(yield func(blob.Attrs, error) bool) {
		m.mu.Lock()
		found := maps.Clone(m.blobs)
		m.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(found)) {
			if err := ctx.Err(); err != nil {
				yield(blob.Attrs{}, err)
				return
			}
			if strings.HasPrefix(key, prefix) && key > after && !yield(found[key].attrs, nil) {
				return
			}
		}
	}
}

// Delete implements blob.Store.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, key)
	return nil
}

// Start implements blob.Store.
func (m *Memory) Start(ctx context.Context, up blob.Upload) (blob.Upload, error) {
	if err := check(ctx, up.Key); err != nil {
		return blob.Upload{}, err
	}
	if up.PartSize < 1 {
		return blob.Upload{}, fmt.Errorf("start %s: %w", up.Key, blob.ErrSize)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if up.ID == "" {
		up.ID, up.Parts = m.nextLocked(), nil
		m.uploads[up.ID] = map[int]piece{}
		return up, nil
	}
	pieces, ok := m.uploads[up.ID]
	if !ok {
		return blob.Upload{}, fmt.Errorf("upload of %s: %w", up.Key, blob.ErrNotFound)
	}
	up.Parts = nil
	for _, number := range slices.Sorted(maps.Keys(pieces)) {
		up.Parts = append(up.Parts, pieces[number].part)
	}
	return up, nil
}

// Part implements blob.Store.
func (m *Memory) Part(ctx context.Context, up blob.Upload, number int, r io.Reader, size int64) (blob.Part, error) {
	if err := check(ctx, up.Key); err != nil {
		return blob.Part{}, err
	}
	if err := blob.CheckPart(up, number, size); err != nil {
		return blob.Part{}, err
	}
	b, err := readExactly(r, size)
	if err != nil {
		return blob.Part{}, fmt.Errorf("part %d of %s: %w", number, up.Key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	pieces, ok := m.uploads[up.ID]
	if !ok {
		return blob.Part{}, fmt.Errorf("upload of %s: %w", up.Key, blob.ErrNotFound)
	}
	part := blob.Part{Number: number, Size: size, Tag: m.nextLocked()}
	pieces[number] = piece{b, part}
	return part, nil
}

// Finish implements blob.Store.
func (m *Memory) Finish(ctx context.Context, up blob.Upload, createOnly bool) error {
	if err := check(ctx, up.Key); err != nil {
		return err
	}
	if err := blob.CheckParts(up); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	pieces, ok := m.uploads[up.ID]
	if len(up.Parts) == 0 {
		delete(m.uploads, up.ID)
		return nil
	}
	if !ok {
		return fmt.Errorf("upload of %s: %w", up.Key, blob.ErrNotFound)
	}
	var whole []byte
	for _, p := range up.Parts {
		if pieces[p.Number].part != p {
			return fmt.Errorf("part %d of %s is not the one stored: %w", p.Number, up.Key, blob.ErrSize)
		}
		whole = append(whole, pieces[p.Number].bytes...)
	}
	if err := m.setLocked(up.Key, whole, createOnly); err != nil {
		return err
	}
	delete(m.uploads, up.ID)
	return nil
}

func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return blob.CheckKey(key)
}

func readExactly(r io.Reader, size int64) ([]byte, error) {
	b, err := io.ReadAll(r)
	if err == nil && int64(len(b)) != size {
		err = blob.ErrSize
	}
	return b, err
}
