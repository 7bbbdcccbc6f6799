package api

import (
	"fmt"
	"strconv"
)

// Media types and names of headers of HTTP.
const (
	TypeJSON = "application/json"
	TypeBlob = "application/octet-stream"

	HeaderDirect      = "Vault-Direct"    // the bytes themselves, not a redirect to the bucket: "1"
	HeaderBoot        = "Vault-Boot"      // boot token, for a header or a pairing before there is a session
	HeaderIdempotency = "Idempotency-Key" // of uploads
	HeaderRequest     = "Request-Id"      // of every answer
	HeaderSeq         = "Vault-Header"    // beside a header: its number
	HeaderRemote      = "Vault-Remote"    // beside a header: the id of the vault's place here
)

// Names of the two parts of a multipart upload, in this order.
const (
	PartMetadata = "metadata"
	PartContent  = "content"
)

// Route is one method and path. The path is in the form of http.ServeMux.
type Route struct {
	Method, Path string
	Auth         Auth
	// Premium: only with that plan.
	Premium bool
}

// Auth says who may use a route.
type Auth int

const (
	// AuthNone needs no token.
	AuthNone Auth = iota
	// AuthAny takes a token of a device or of a page.
	AuthAny
	// AuthDevice takes that of a device only.
	AuthDevice
	// AuthBoot takes either, or the boot token of the vault.
	AuthBoot
)

// Routes lists everything the server answers. Its tests and those of the
// published document go through this list.
var Routes = []Route{
	{"POST", "/v1/vaults", AuthNone, false},
	{"POST", "/v1/auth/challenge", AuthNone, false},
	{"POST", "/v1/auth/session", AuthNone, false},
	{"DELETE", "/v1/auth/session", AuthAny, false},

	{"GET", "/api/vault/parents", AuthAny, false},
	{"PUT", "/api/vault/parents/{type}/{id}", AuthAny, false},
	{"DELETE", "/api/vault/parents/{type}/{id}", AuthAny, false},

	{"GET", "/api/vault/attachments", AuthAny, false},
	{"POST", "/api/vault/attachments", AuthAny, false},
	{"GET", "/api/vault/attachments/{id}", AuthAny, false},
	{"GET", "/api/vault/attachments/{id}/content", AuthAny, false},
	{"DELETE", "/api/vault/attachments/{id}", AuthAny, false},

	{"GET", "/v1/vaults/{vault}/blobs", AuthDevice, true},
	{"GET", "/v1/vaults/{vault}/blobs/{blob}", AuthDevice, false},
	{"POST", "/v1/vaults/{vault}/blobs/release", AuthDevice, true},
	{"POST", "/v1/vaults/{vault}/blobs/claim", AuthDevice, true},
	{"PUT", "/v1/vaults/{vault}/rows", AuthDevice, true},

	{"POST", "/v1/vaults/{vault}/uploads", AuthDevice, true},
	{"PUT", "/v1/vaults/{vault}/uploads/{upload}/{part}", AuthDevice, true},
	{"GET", "/v1/vaults/{vault}/uploads/{upload}", AuthDevice, true},
	{"POST", "/v1/vaults/{vault}/uploads/{upload}/finish", AuthDevice, true},
	{"DELETE", "/v1/vaults/{vault}/uploads/{upload}", AuthDevice, true},

	{"GET", "/v1/vaults/{vault}/headers/{seq}", AuthBoot, false},
	{"PUT", "/v1/vaults/{vault}/headers/{seq}", AuthNone, false},
	{"GET", "/v1/vaults/{vault}/log/{device}/{seq}", AuthDevice, false},
	{"PUT", "/v1/vaults/{vault}/log/{device}/{seq}", AuthDevice, true},
	{"GET", "/v1/vaults/{vault}/checkpoints/{name}/{part}", AuthDevice, false},
	{"PUT", "/v1/vaults/{vault}/checkpoints/{name}/{part}", AuthDevice, true},
	{"GET", "/v1/vaults/{vault}/pair/{pair}/{side}", AuthBoot, false},
	{"PUT", "/v1/vaults/{vault}/pair/{pair}/{side}", AuthBoot, false},

	{"GET", "/v1/vaults/{vault}/changes", AuthDevice, false},
	{"POST", "/v1/vaults/{vault}/collect", AuthDevice, true},
	{"PUT", "/v1/vaults/{vault}/boot", AuthDevice, false},
	{"GET", "/v1/usage", AuthAny, false},

	{"GET", "/v1/openapi.json", AuthNone, false},
	{"GET", "/healthz", AuthNone, false},
	{"GET", "/readyz", AuthNone, false},
}

// Paths of the calls; ids are lower-case text.
const (
	PathVaults      = "/v1/vaults"
	PathChallenge   = "/v1/auth/challenge"
	PathSession     = "/v1/auth/session"
	PathParents     = "/api/vault/parents"
	PathAttachments = "/api/vault/attachments"
	PathUsage       = "/v1/usage"
	PathOpenAPI     = "/v1/openapi.json"
)

// PathVault is the root of a vault's own calls.
func PathVault(vault string) string { return PathVaults + "/" + vault }

// PathParent names a parent.
func PathParent(typ, id string) string { return PathParents + "/" + typ + "/" + id }

// PathAttachment names an attachment, PathContent its raw bytes.
func PathAttachment(id string) string { return PathAttachments + "/" + id }

// PathContent names the raw bytes of an attachment.
func PathContent(id string) string { return PathAttachment(id) + "/content" }

// PathBlob names a blob of a vault.
func PathBlob(vault, blob string) string { return PathVault(vault) + "/blobs/" + blob }

// PathHeader names a header.
func PathHeader(vault string, seq uint64) string {
	return PathVault(vault) + "/headers/" + strconv.FormatUint(seq, 10)
}

// PathBoot names the hash of the boot token.
func PathBoot(vault string) string { return PathVault(vault) + "/boot" }

// PathBatch names a batch.
func PathBatch(vault, device string, seq uint64) string {
	return fmt.Sprintf("%s/log/%s/%d", PathVault(vault), device, seq)
}

// PathCheckpoint names a part of a checkpoint, "m" the last.
func PathCheckpoint(vault, name, part string) string {
	return PathVault(vault) + "/checkpoints/" + name + "/" + part
}

// PathPair names a message of a pairing, side q or a.
func PathPair(vault, pair, side string) string {
	return PathVault(vault) + "/pair/" + pair + "/" + side
}

// PathUpload names an upload in parts, and PathPart one of its parts from 1.
func PathUpload(vault, upload string) string { return PathVault(vault) + "/uploads/" + upload }

// PathPart names a part of an upload, from 1.
func PathPart(vault, upload string, part int) string {
	return PathUpload(vault, upload) + "/" + strconv.Itoa(part)
}
