package server

import (
	"net/http"
	"strconv"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/web"
)

// pageFiles adds the files of the page to what is served. They are no calls of
// the API, so they are not in its list.
func (s *Server) pageFiles(mux *http.ServeMux) {
	for i := range web.Files {
		f := &web.Files[i]
		path := f.Path
		if path == web.Root {
			path += "{$}" // the page alone, not all that is below it
		}
		mux.HandleFunc("GET "+path, s.serve(api.Route{Method: http.MethodGet, Path: "page"}, func(_ *Server, c *call) error { return sendFile(c, f) }))
	}
}

func isPageFile(path string) bool {
	for i := range web.Files {
		if web.Files[i].Path == path {
			return true
		}
	}
	return false
}

func sendFile(c *call, f *web.File) error {
	h := c.w.Header()
	for name, value := range web.Headers {
		h.Set(name, value)
	}
	h.Set("ETag", f.ETag)
	if f.Matches(c.r.Header.Get("If-None-Match")) {
		c.begin(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", f.Type)
	h.Set("Content-Length", strconv.Itoa(len(f.Body)))
	c.begin(http.StatusOK)
	if c.r.Method != http.MethodHead {
		c.send(f.Body)
	}
	return nil
}
