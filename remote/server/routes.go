package server

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// handler answers a call whose caller may make it. What it returns as an error
// is the answer, unless it has begun one.
type handler func(s *Server, c *call) error

// handlers has one for every route of the API.
var handlers = map[string]handler{
	"POST /v1/vaults":         (*Server).register,
	"POST /v1/auth/challenge": (*Server).challenge,
	"POST /v1/auth/session":   (*Server).login,
	"DELETE /v1/auth/session": (*Server).logout,
	"GET /api/vault/parents":  (*Server).listParents,
	"GET /v1/usage":           (*Server).usage,
	"GET /healthz":            (*Server).healthz,
	"GET /readyz":             (*Server).readyz,
	"GET /v1/openapi.json":    (*Server).openAPI,

	"PUT /api/vault/parents/{type}/{id}":      (*Server).putParent,
	"DELETE /api/vault/parents/{type}/{id}":   (*Server).deleteParent,
	"GET /api/vault/attachments":              (*Server).listAttachments,
	"POST /api/vault/attachments":             (*Server).upload,
	"GET /api/vault/attachments/{id}":         (*Server).download,
	"GET /api/vault/attachments/{id}/content": (*Server).content,
	"DELETE /api/vault/attachments/{id}":      (*Server).deleteAttachment,

	"GET /v1/vaults/{vault}/blobs":          (*Server).listBlobs,
	"GET /v1/vaults/{vault}/blobs/{blob}":   (*Server).getBlob,
	"POST /v1/vaults/{vault}/blobs/release": (*Server).releaseBlobs,
	"POST /v1/vaults/{vault}/blobs/claim":   (*Server).claimBlobs,
	"PUT /v1/vaults/{vault}/rows":           (*Server).putRows,

	"POST /v1/vaults/{vault}/uploads":                 (*Server).beginUpload,
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part}":  (*Server).putUploadPart,
	"GET /v1/vaults/{vault}/uploads/{upload}":         (*Server).getUpload,
	"POST /v1/vaults/{vault}/uploads/{upload}/finish": (*Server).finishUpload,
	"DELETE /v1/vaults/{vault}/uploads/{upload}":      (*Server).dropUpload,

	"GET /v1/vaults/{vault}/headers/{seq}":             (*Server).getHeader,
	"PUT /v1/vaults/{vault}/headers/{seq}":             (*Server).putHeader,
	"GET /v1/vaults/{vault}/log/{device}/{seq}":        (*Server).getBatch,
	"PUT /v1/vaults/{vault}/log/{device}/{seq}":        (*Server).putBatch,
	"GET /v1/vaults/{vault}/checkpoints/{name}/{part}": (*Server).getCheckpoint,
	"PUT /v1/vaults/{vault}/checkpoints/{name}/{part}": (*Server).putCheckpoint,
	"GET /v1/vaults/{vault}/pair/{pair}/{side}":        (*Server).getPair,
	"PUT /v1/vaults/{vault}/pair/{pair}/{side}":        (*Server).putPair,
	"GET /v1/vaults/{vault}/changes":                   (*Server).changes,
	"POST /v1/vaults/{vault}/collect":                  (*Server).collect,
	"PUT /v1/vaults/{vault}/boot":                      (*Server).putBoot,
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range api.Routes {
		h, ok := handlers[r.Method+" "+r.Path]
		if !ok {
			panic("server: no handler for " + r.Method + " " + r.Path) // a constant table, tested
		}
		mux.HandleFunc(r.Method+" "+r.Path, s.serve(r, h))
	}
	s.pageFiles(mux)
	mux.HandleFunc("/", s.nothing)
	return mux
}

// nothing answers what is no route.
func (s *Server) nothing(w http.ResponseWriter, r *http.Request) {
	s.serve(api.Route{Path: "other"}, (*Server).unknown)(w, r)
}

// ServeHTTP answers one request. What the mux would send elsewhere, a path with
// "//" or "..", is no route: nobody who means well asks for it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := r.URL.Path; path.Clean("/"+p) != p {
		s.nothing(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) serve(route api.Route, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r, held: &s.held, rc: http.NewResponseController(w), id: requestID(), route: strings.TrimSpace(route.Method + " " + route.Path)}
		start := s.o.Now()
		w.Header().Set(api.HeaderRequest, c.id)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if s.strict {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000") // a year, as a proxy by the README
		}
		if len(r.TransferEncoding) > 0 {
			// A length beside it is not seen here any more, and a proxy may have gone by
			// that: what follows must not count as a request (RFC 9112 section 6.1).
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("Date", start.UTC().Format(http.TimeFormat))
		defer func() { s.held.Add(-c.holds) }()
		defer s.account(c, start)
		err := s.allow(c, route)
		if err == nil {
			err = h(s, c)
		}
		if err != nil {
			s.fail(c, err)
		}
	}
}

func requestID() string { return newID() }

// account writes down what was answered: no body, no token, no id of a file.
func (s *Server) account(c *call, start time.Time) {
	took := s.o.Now().Sub(start)
	s.metrics.seen(c.route, c.status, took)
	attrs := []any{"request", c.id, "route", c.route, "status", c.status, "ms", took.Milliseconds(), "sent", c.sent}
	if c.account.ID != 0 {
		attrs = append(attrs, "account", c.account.ID)
	}
	var e *api.Error
	if errors.As(c.failure, &e) {
		attrs = append(attrs, "code", string(e.Code))
	}
	s.log.Info("request", attrs...)
}

// unknown answers a path or method that is no route.
func (s *Server) unknown(c *call) error {
	allowed := methodsOf(c.r.URL.Path)
	if len(allowed) == 0 || slices.Contains(allowed, c.r.Method) { // or one that ServeHTTP keeps from the mux
		return api.Errorf(api.CodeNotFound, "no such path")
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return api.Errorf(api.CodeMethodNotAllowed, "%s is not for this path", c.r.Method)
}

// methodsOf lists what may be asked of a path; none where there is nothing.
func methodsOf(path string) (out []string) {
	for _, r := range api.Routes {
		if pathMatches(r.Path, path) {
			out = append(out, r.Method)
		}
	}
	if isPageFile(path) {
		out = append(out, http.MethodGet)
	}
	if slices.Contains(out, http.MethodGet) {
		out = append(out, http.MethodHead) // which the mux has beside GET
	}
	slices.Sort(out)
	return out
}

func (s *Server) healthz(c *call) error {
	writeJSON(c, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// readyz says whether new work should come here.
func (s *Server) readyz(c *call) error {
	if s.draining.Load() {
		return api.Limited(api.CodeUnavailable, defaultRetry, "draining")
	}
	if err := s.o.DB.Ping(c.ctx()); err != nil {
		return api.Limited(api.CodeUnavailable, defaultRetry, "the database does not answer")
	}
	writeJSON(c, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}
