// Package web is the page that a server shows to browsers: a vault opens in it,
// and its keys never leave it. The server only hands out these files.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
	"strings"
)

// File is one file of the page.
type File struct {
	Path string // of its address
	Type string // media type
	ETag string // quoted, of its bytes
	Body []byte
}

//go:embed index.html style.css icon.svg *.js hash-wasm/argon2.umd.min.js hash-wasm/LICENSE
var embedded embed.FS

// Root is where the page itself is; what it loads lies below Prefix.
const (
	Root   = "/"
	Prefix = "/web/"
)

// Policy is the Content-Security-Policy of every file: code, styles, pictures
// and connections of this server alone, nothing inline, WebAssembly for Argon2id,
// no frame around the page, and no text that becomes markup or code.
const Policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types vault-worker"

// Headers go with every file beside its type and ETag.
var Headers = map[string]string{
	"Content-Security-Policy":      Policy,
	"Referrer-Policy":              "no-referrer",
	"X-Frame-Options":              "DENY",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=()",
	"Cache-Control":                "no-cache", // kept, but asked for again by its ETag
}

// Files are all files, in the order of their paths.
var Files = load()

func load() (files []File) {
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		f := File{Path: Prefix + name, Type: mediaType(name), ETag: `"` + hex.EncodeToString(sum[:16]) + `"`, Body: body}
		if name == "index.html" {
			f.Path = Root
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		panic("web: " + err.Error()) // a constant directory of this program
	}
	return files
}

// mediaType does not ask the machine's own tables, which may know it otherwise.
func mediaType(name string) string {
	types := map[string]string{".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", "": "text/plain"}
	return types[path.Ext(name)] + "; charset=utf-8"
}

// Matches says whether an If-None-Match names the file as it is.
func (f *File) Matches(ifNoneMatch string) bool {
	for tag := range strings.SplitSeq(ifNoneMatch, ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == f.ETag || tag == "*" {
			return true
		}
	}
	return false
}
