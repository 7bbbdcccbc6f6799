package vaultcore

import (
	"mime"
	"path"
	"strings"
	"unique"

	"github.com/gabriel-vasile/mimetype"
)

// knownTypes are the endings of the documents people attach; the system's
// table is asked for the rest, so that the common ones are the same on every
// machine.
var knownTypes = map[string]string{
	".pdf": "application/pdf", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
	".gif": "image/gif", ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff", ".svg": "image/svg+xml",
	".heic": "image/heic", ".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".html": "text/html",
	".htm": "text/html", ".xml": "application/xml", ".json": "application/json", ".zip": "application/zip",
	".gz": "application/gzip", ".tar": "application/x-tar", ".7z": "application/x-7z-compressed",
	".doc": "application/msword", ".xls": "application/vnd.ms-excel", ".ppt": "application/vnd.ms-powerpoint",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".odt":  "application/vnd.oasis.opendocument.text", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
	".odp": "application/vnd.oasis.opendocument.presentation", ".rtf": "application/rtf", ".epub": "application/epub+zip",
	".eml": "message/rfc822", ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".sqlite": "application/vnd.sqlite3",
	".pem": "application/x-pem-file", ".key": "application/octet-stream", ".asc": "application/pgp-signature",
	".go": "text/x-go", ".c": "text/x-c", ".h": "text/x-c", ".s": "text/x-asm", ".py": "text/x-python", ".sh": "application/x-sh",
}

// typeByName gives the MIME type a name says, "" when it says nothing.
func typeByName(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if t := knownTypes[ext]; t != "" {
		return t
	}
	if ext == "" || len(ext) > 16 {
		return ""
	}
	t, _, _ := strings.Cut(mime.TypeByExtension(ext), ";")
	if t == mimeFolder || t == mimeSymlink || len(t) > MaxMIME {
		return ""
	}
	return t
}

// sniffLen is what of a file's head decides when its name says nothing.
const sniffLen = 512

// guessMIME gives the type of a file about to be committed; o.mu is held.
func (v *Vault) guessMIME(o *openState) string {
	v.tree.RLock()
	name := o.node.name
	v.tree.RUnlock()
	if t := typeByName(name); t != "" {
		return t
	}
	var head [sniffLen]byte
	n, err := o.draft.readAt(head[:min(sniffLen, o.draft.size())], 0)
	defer clear(head[:])
	if err != nil || n == 0 {
		return mimeDefault
	}
	t, _, _ := strings.Cut(mimetype.Detect(head[:n]).String(), ";")
	return t
}

func (v *Vault) setMIME(n *Node, t string) {
	v.tree.Lock()
	n.mime = intern(t)
	v.tree.Unlock()
}

// intern keeps one copy of each type, however many files have it.
func intern(s string) string { return unique.Make(s).Value() }

// mimeOf gives the type a node's row carries; tree is held.
func (v *Vault) mimeOf(n *Node) string {
	switch n.kind {
	case KindFolder:
		return mimeFolder
	case KindSymlink:
		return mimeSymlink
	}
	if t := typeByName(n.name); t != "" {
		return t
	}
	if n.mime != "" {
		return n.mime
	}
	return mimeDefault
}
