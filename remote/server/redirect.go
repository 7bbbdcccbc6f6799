package server

import (
	"net/http"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
)

const (
	// redirectLeast is from how many bytes on another request is worth its time.
	redirectLeast = 256 << 10
	// redirectLife is how long a signed address is good for, to begin with.
	redirectLife = 2 * time.Minute
)

// redirects says whether the client is to fetch n bytes from the bucket. A page
// is not: its policy lets it talk to this server alone.
func (s *Server) redirects(c *call, n int64) bool {
	return s.o.Sign != nil && n >= redirectLeast && c.r.Method == http.MethodGet && c.session.Device != api.ZeroID && c.r.Header.Get(api.HeaderDirect) == ""
}

// redirect answers with a signed address of the object. Whether the object is
// there shows at the bucket; who does not get it there asks again, directly.
func (s *Server) redirect(c *call, b metadb.Blob) error {
	at, err := s.o.Sign(c.ctx(), b.StorageKey, redirectLife)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", at)
	s.metrics.redirects.Inc()
	c.begin(http.StatusFound)
	return nil
}
