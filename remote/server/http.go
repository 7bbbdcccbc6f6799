package server

import (
	"log/slog"
	"net/http"
	"time"
)

// Bounds of a connection before anything of a request is understood.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeaders = 16 << 10 // bytes
)

// HTTP is what the server listens with: its bounds are part of what it promises.
func (s *Server) HTTP() *http.Server {
	return &http.Server{Handler: s, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaders,
		DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
}
