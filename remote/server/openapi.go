package server

import "github.com/vaultdrive/vaultdrive/remote/api"

// openAPI serves the published document.
func (s *Server) openAPI(c *call) error { return s.sendSmall(c, api.TypeJSON, api.OpenAPI) }
