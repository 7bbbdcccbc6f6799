package api

import _ "embed"

// OpenAPI is the published document, OpenAPI 3.1, written by hand; the tests
// hold it against Routes and the types.
//
//go:embed openapi.json
var OpenAPI []byte
