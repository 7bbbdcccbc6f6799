package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// copyBuffer is the unit contents travel in.
const copyBuffer = 1 << 20

// routeContent serves the calls whose body is a content.
func (s *server) routeContent(mux *http.ServeMux) {
	mux.HandleFunc("GET "+apiPrefix+callContent, func(w http.ResponseWriter, r *http.Request) {
		s.sendReading(w, func() (*vaultcore.Reading, error) { return s.vault.OpenRead(r.FormValue("path")) })
	})
	mux.HandleFunc("GET "+apiPrefix+callTrashContent, func(w http.ResponseWriter, r *http.Request) {
		s.sendReading(w, func() (*vaultcore.Reading, error) { return s.vault.OpenTrash(r.FormValue("id")) })
	})
	mux.HandleFunc("GET "+apiPrefix+callRescueContent, s.sendRescue)
	mux.HandleFunc("PUT "+apiPrefix+callContent, s.receiveContent)
}

func (s *server) sendReading(w http.ResponseWriter, open func() (*vaultcore.Reading, error)) {
	r, err := open()
	if err != nil {
		writeFailure(w, http.StatusUnprocessableEntity, err)
		return
	}
	defer r.Close()
	info := r.Info()
	w.Header().Set(headerSize, strconv.FormatInt(r.Size(), 10))
	w.Header().Set(headerMode, strconv.FormatUint(uint64(info.Mode), 8))
	w.Header().Set(headerMtime, strconv.FormatInt(info.Mtime.UnixNano(), 10))
	beginContent(w)
	_, err = io.CopyBuffer(onlyWriter{w}, onlyReader{r}, make([]byte, copyBuffer))
	endContent(w, err)
}

func (s *server) sendRescue(w http.ResponseWriter, r *http.Request) {
	beginContent(w)
	_, err := s.vault.Rescue(r.Context(), r.FormValue("ref"), w, r.FormValue("partial") != "")
	endContent(w, err)
}

// beginContent announces the trailer; what goes wrong after the first byte is
// said there.
func beginContent(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", trailerEnd)
}

func endContent(w http.ResponseWriter, err error) {
	end := endOK
	if err != nil {
		if b, jsonErr := json.Marshal(toWire(err)); jsonErr == nil {
			end = strconv.QuoteToASCII(string(b))
		}
	}
	w.Header().Set(trailerEnd, end)
}

// receiveContent stores a body as one new revision, or nothing of it: a body
// that is cut off leaves the old content as it was.
func (s *server) receiveContent(w http.ResponseWriter, r *http.Request) {
	info, err := s.storeBody(r)
	s.settle(r.Context())
	if err != nil {
		writeFailure(w, http.StatusUnprocessableEntity, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(info)
}

func (s *server) storeBody(r *http.Request) (vaultcore.Info, error) {
	options, err := writeOptions(r)
	if err != nil {
		return vaultcore.Info{}, err
	}
	path := r.FormValue("path")
	if r.FormValue("new") != "" {
		if _, err := s.vault.Find(path); err == nil {
			return vaultcore.Info{}, fmt.Errorf("%s: %w", path, vaultcore.ErrExist)
		}
	}
	out, err := s.vault.OpenWrite(path, options)
	if err != nil {
		return vaultcore.Info{}, err
	}
	if _, err := io.CopyBuffer(onlyWriter{out}, onlyReader{r.Body}, make([]byte, copyBuffer)); err != nil {
		out.Abort()
		return vaultcore.Info{}, err
	}
	if err := out.Commit(); err != nil {
		return vaultcore.Info{}, err
	}
	return s.vault.Stat(path)
}

func writeOptions(r *http.Request) (vaultcore.WriteOptions, error) {
	o := vaultcore.WriteOptions{Parents: r.FormValue("parents") != ""}
	if v := r.Header.Get(headerMode); v != "" {
		mode, err := strconv.ParseUint(v, 8, 9)
		if err != nil {
			return o, fmt.Errorf("mode %q: %w", v, vaultcore.ErrInvalid)
		}
		o.Mode = uint32(mode)
	}
	if v := r.Header.Get(headerMtime); v != "" {
		ns, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return o, fmt.Errorf("time %q: %w", v, vaultcore.ErrInvalid)
		}
		o.Mtime = time.Unix(0, ns)
	}
	return o, nil
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, so that copies go in
// pieces of copyBuffer instead of what HTTP would choose.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
