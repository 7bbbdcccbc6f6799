package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
)

// pathOf is where a small object lies on the server. The marker has no place of
// its own: the account is it.
func (r *Remote) pathOf(k syncer.Key) string {
	switch k.Kind {
	case syncer.KeyHeader:
		return api.PathHeader(r.o.Vault, k.Seq)
	case syncer.KeyBatch:
		return api.PathBatch(r.o.Vault, k.Device, k.Seq)
	case syncer.KeyCheckpoint:
		return api.PathCheckpoint(r.o.Vault, k.Name, k.Part)
	}
	return api.PathPair(r.o.Vault, k.Name, k.Part)
}

// Get implements syncer.Remote.
func (r *Remote) Get(ctx context.Context, key string) ([]byte, error) {
	k, err := syncer.ParseKey(key)
	if err != nil {
		return nil, err
	}
	if k.Kind == syncer.KeyMarker {
		return r.marker(ctx)
	}
	res, err := r.do(ctx, request{method: http.MethodGet, path: r.pathOf(k)})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer res.Body.Close()
	b, err := readAll(ctx, res.Body, k.Limit())
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return b, nil
}

// marker says whose place this is, with what the server says beside the newest
// header. A vault without an account has none.
func (r *Remote) marker(ctx context.Context) ([]byte, error) {
	res, err := r.do(ctx, request{method: http.MethodGet, path: api.PathHeader(r.o.Vault, 0)})
	if api.IsCode(err, api.CodeSessionInvalid) {
		// The server tells nobody whether it knows a vault.
		return nil, fmt.Errorf("the server has no account of this vault, or not of this address: %w", errors.Join(syncer.ErrNotFound, err))
	}
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	m := syncer.Marker{Vault: r.o.Vault, Remote: res.Header.Get(api.HeaderRemote)}
	if !syncer.ValidBlob(m.Remote) {
		return nil, fmt.Errorf("%w: it does not say which remote it is: is it a vaultdrive server?", syncer.ErrUnavailable)
	}
	return m.Encode(), nil
}

// Put implements syncer.Remote.
func (r *Remote) Put(ctx context.Context, key string, content []byte) error {
	k, err := syncer.ParseKey(key)
	if err != nil {
		return err
	}
	if int64(len(content)) > k.Limit() {
		return fmt.Errorf("put %s: %d bytes of at most %d: %w", key, len(content), k.Limit(), syncer.ErrTooLarge)
	}
	if k.Kind == syncer.KeyMarker {
		return r.putMarker(ctx, content)
	}
	_, err = r.read(ctx, request{method: http.MethodPut, path: r.pathOf(k), header: http.Header{"Content-Type": {api.TypeBlob}},
		anonymous: k.Kind == syncer.KeyHeader, body: func() (io.Reader, int64) { return bytes.NewReader(content), int64(len(content)) }}, nil)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// putMarker registers the vault. The server draws the remote's id itself, so a
// fresh marker finds another one in its place, as in a race.
func (r *Remote) putMarker(ctx context.Context, content []byte) error {
	m, err := syncer.ParseMarker(content)
	if err != nil {
		return err
	}
	if m.Vault != r.o.Vault {
		return fmt.Errorf("%w: %s", syncer.ErrForeign, m.Vault)
	}
	out, err := r.register(ctx)
	if err != nil {
		return fmt.Errorf("register the vault: %w", err)
	}
	if out.Remote != m.Remote {
		return fmt.Errorf("the server's id is %s: %w", out.Remote, syncer.ErrOtherBytes)
	}
	return nil
}
