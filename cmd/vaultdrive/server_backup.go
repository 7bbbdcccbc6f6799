package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/backup"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// maxNamed is how many paths a header carries.
const maxNamed = 100

// routeBackup serves the calls that make a backup, and those that take contents
// back from one.
func (s *server) routeBackup(mux *http.ServeMux) {
	mux.HandleFunc("GET "+apiPrefix+callBackup, s.sendBackup)
	streaming(mux, callLost, func(ctx context.Context, in lostRequest, k *sink) error {
		lost, err := s.vault.LostBlobs(ctx, in.Deep, k.progress)
		if err != nil {
			return err
		}
		for _, w := range lost {
			if err := k.item(lostBlob{Blob: w.Blob.Hex(), Len: w.Len, SHA256: w.SHA256[:]}); err != nil {
				return err
			}
		}
		return nil
	})
	mux.HandleFunc("PUT "+apiPrefix+callLost, func(w http.ResponseWriter, r *http.Request) {
		id, err := seal.ParseHex(r.FormValue("blob"))
		if err == nil {
			err = s.vault.MendBlob(r.Context(), id, onlyReader{r.Body})
		}
		if err != nil {
			writeFailure(w, http.StatusUnprocessableEntity, err)
		}
	})
	unary(mux, callIdentity, func(context.Context, none) (identityAnswer, error) {
		return identityAnswer{Vault: s.vault.VaultID().UUID(), DID: s.vault.DID()}, nil
	})
}

func (s *server) sendBackup(w http.ResponseWriter, r *http.Request) {
	b, err := backup.Prepare(r.Context(), s.vault, backup.Options{
		Name: r.FormValue("name"), Now: time.Now(), AllowMissing: r.FormValue("missing") != "",
	})
	if err != nil {
		writeFailure(w, http.StatusUnprocessableEntity, err)
		return
	}
	defer b.Close()
	if gone := b.Incomplete(); len(gone) > 0 {
		if text, err := json.Marshal(gone[:min(len(gone), maxNamed)]); err == nil {
			w.Header().Set(headerMissing, strconv.QuoteToASCII(string(text)))
		}
	}
	w.Header().Set(headerSize, strconv.FormatInt(b.Size, 10))
	beginContent(w)
	endContent(w, b.WriteTo(r.Context(), onlyWriter{w}))
}

// lostBlob travels from who has the vault to who has the backup.
type lostBlob struct {
	Blob   string `json:"blob"`
	Len    int64  `json:"len"`
	SHA256 []byte `json:"sha256"`
}

func (l *lostBlob) wanted() (w vaultcore.WantedBlob, err error) {
	w.Blob, err = seal.ParseHex(l.Blob)
	w.Len = l.Len
	copy(w.SHA256[:], l.SHA256)
	return w, err
}

type lostRequest struct {
	Deep bool `json:"deep"`
}

type identityAnswer struct {
	Vault string `json:"vault"`
	DID   string `json:"did"`
}
