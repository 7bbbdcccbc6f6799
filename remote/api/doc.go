// Package api is everything that a client and the server of a vault say to each
// other: request and response types, routes, error codes with their statuses,
// limits, and what can be checked of headers, batches and logins without a key
// of the vault.
//
// It refuses to know who is client and who is server, SQL, and keys. API.md has
// the same in words, openapi.json in a form for programs.
package api
