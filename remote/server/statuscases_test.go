package server

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

type statusCase func(e *statusEnv) *answer

func tokenText(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// caseOf finds the case of a route and status: its own, or the one that all
// routes of its kind share.
func caseOf(t *testing.T, route api.Route, status int) statusCase {
	t.Helper()
	if c := ownCases[fmt.Sprintf("%s %s %d", route.Method, route.Path, status)]; c != nil {
		return c
	}
	if c := sharedCase(route, status); c != nil {
		return c
	}
	t.Fatal("the document lists this status, and no case here brings it about")
	return nil
}

// jsonLimits are the routes that read a small JSON body, and its longest.
var jsonLimits = map[string]int{
	"POST /v1/vaults": api.MaxHeader + api.MaxSmall, "POST /v1/auth/challenge": api.MaxSmall, "POST /v1/auth/session": api.MaxSmall,
	"PUT /api/vault/parents/{type}/{id}": api.MaxSmall, "POST /v1/vaults/{vault}/blobs/release": api.MaxSmall,
	"POST /v1/vaults/{vault}/blobs/claim": api.MaxSmall, "PUT /v1/vaults/{vault}/rows": api.MaxJSON,
	"POST /v1/vaults/{vault}/collect": api.MaxSmall, "PUT /v1/vaults/{vault}/boot": api.MaxSmall,
}

// rawLimits are those that read other small bodies.
var rawLimits = map[string]int{
	"PUT /v1/vaults/{vault}/headers/{seq}": api.MaxHeader, "PUT /v1/vaults/{vault}/log/{device}/{seq}": api.MaxFrame,
	"PUT /v1/vaults/{vault}/checkpoints/{name}/{part}": api.MaxFrame, "PUT /v1/vaults/{vault}/pair/{pair}/{side}": api.MaxPair,
	"POST /v1/vaults/{vault}/uploads": api.MaxMetadata,
}

// sharedCase brings about what every route of a kind answers alike.
func sharedCase(route api.Route, status int) statusCase {
	name := route.Method + " " + route.Path
	_, isJSON := jsonLimits[name]
	limit := jsonLimits[name] + rawLimits[name]
	switch {
	case status == 401 && route.Auth != api.AuthNone:
		return func(e *statusEnv) *answer { e.token = ""; return e.call(nil) }
	case status == 403 && (route.Auth == api.AuthDevice || route.Auth == api.AuthBoot && route.Method != "GET"):
		return func(e *statusEnv) *answer { return e.as(e.page(), nil) }
	case status == 403 && route.Auth != api.AuthNone:
		return func(e *statusEnv) *answer { return e.as(e.disabled(), nil) }
	case status == 404 && strings.Contains(route.Path, "{vault}") && route.Auth != api.AuthNone:
		return func(e *statusEnv) *answer { return e.as(e.register(), nil) }
	case status == 400 && isJSON:
		return func(e *statusEnv) *answer { return e.call("x") }
	case status == 415 && isJSON:
		return func(e *statusEnv) *answer { return e.call("{}", "Content-Type", "text/plain") }
	case status == 413 && limit > 0:
		return func(e *statusEnv) *answer { return e.call(spaces(limit + 1)) }
	case status == 400 && limit > 0:
		return func(e *statusEnv) *answer { return e.broken(e.path(), api.TypeBlob, 9, io.ErrUnexpectedEOF) }
	case status == 408 && limit > 0:
		return func(e *statusEnv) *answer { return e.broken(e.path(), api.TypeJSON, 9, errSlow) }
	case status == 503 && limit > 0:
		return func(e *statusEnv) *answer {
			e.held.Add(maxHeld)
			defer e.held.Add(-maxHeld)
			return e.call("{}")
		}
	case status == 503 && route.Auth != api.AuthNone:
		return func(e *statusEnv) *answer { return e.withoutDatabase(func() *answer { return e.call(nil) }) }
	case status == 429:
		return func(e *statusEnv) *answer { return e.until(429, func() *answer { return e.call("{}") }) }
	}
	return nil
}

// ownCases are by method, path and status.
var ownCases = map[string]statusCase{}

func init() {
	for _, cases := range []map[string]statusCase{loginCases, attachmentCases, blobCases, uploadCases, logCases, plainCases} {
		for name, c := range cases {
			ownCases[name] = c
		}
	}
}

var plainCases = map[string]statusCase{
	"GET /v1/openapi.json 200": func(e *statusEnv) *answer { return e.call(nil) },
	"GET /healthz 200":         func(e *statusEnv) *answer { return e.call(nil) },
	"GET /readyz 200":          func(e *statusEnv) *answer { return e.call(nil) },
	"GET /readyz 503": func(e *statusEnv) *answer {
		e.draining.Store(true)
		defer e.draining.Store(false)
		return e.call(nil)
	},
	"GET /v1/usage 200": func(e *statusEnv) *answer { return e.call(nil) },
}

var loginCases = map[string]statusCase{
	"POST /v1/vaults 201": func(e *statusEnv) *answer { return e.call(e.newPerson().registration()) },
	"POST /v1/vaults 200": func(e *statusEnv) *answer {
		in := e.newPerson().registration()
		e.call(in).want(201)
		return e.call(in)
	},
	"POST /v1/vaults 403": func(e *statusEnv) *answer {
		e.o.Registration = RegistrationClosed
		defer func() { e.o.Registration = RegistrationOpen }()
		return e.call(e.newPerson().registration())
	},
	"POST /v1/vaults 409": func(e *statusEnv) *answer {
		other := e.newPerson()
		other.vault = e.person.vault
		return e.call(other.registration())
	},
	"POST /v1/vaults 422": func(e *statusEnv) *answer {
		in := e.newPerson().registration()
		in.Header = []byte(`{"payload":"","sig":""}`)
		return e.call(in)
	},
	"POST /v1/vaults 429": func(e *statusEnv) *answer {
		return e.until(429, func() *answer { return e.call(e.newPerson().registration()) })
	},
	"POST /v1/auth/challenge 200": func(e *statusEnv) *answer { return e.call(e.person.challenge()) },
	"POST /v1/auth/session 201": func(e *statusEnv) *answer {
		return e.call(e.proof(e.nonce(e.person.device), e.person.device, e.person.key, e.http.URL))
	},
	"POST /v1/auth/session 401": func(e *statusEnv) *answer {
		return e.call(e.proof(e.nonce(e.person.device), e.person.device, newKey(), e.http.URL))
	},
	"POST /v1/auth/session 403": func(e *statusEnv) *answer {
		e.disabled()
		return e.call(e.proof(e.nonce(e.person.device), e.person.device, e.person.key, e.http.URL))
	},
	"DELETE /v1/auth/session 204": func(e *statusEnv) *answer { return e.call(nil) },
	"DELETE /v1/auth/session 429": func(e *statusEnv) *answer {
		return e.until(429, func() *answer { e.login(); return e.call(nil) })
	},
}

// key is the same upload under a key of idempotency, or another one.
func (e *statusEnv) again(content string) *answer {
	e.world.t.Helper()
	parent := e.parent("item")
	body := uploadBody("item", parent, randomBytes(100))
	e.call(body, api.HeaderIdempotency, "k").want(201)
	if content != "" {
		body["encrypted_content"] = b64(randomBytes(100))
	}
	return e.call(body, api.HeaderIdempotency, "k")
}

var attachmentCases = map[string]statusCase{
	"GET /api/vault/parents 200":                  func(e *statusEnv) *answer { e.parent("note"); return e.call(nil) },
	"GET /api/vault/parents 400":                  func(e *statusEnv) *answer { return e.do("GET", e.path()+"?limit=x", nil) },
	"PUT /api/vault/parents/{type}/{id} 201":      func(e *statusEnv) *answer { return e.call(api.PutParent{TitleEncrypted: "t", Epoch: 1}) },
	"PUT /api/vault/parents/{type}/{id} 404":      func(e *statusEnv) *answer { return e.do("PUT", api.PathParent("item", "x"), api.PutParent{}) },
	"DELETE /api/vault/parents/{type}/{id} 204":   func(e *statusEnv) *answer { return e.do("DELETE", api.PathParent("item", e.parent("item")), nil) },
	"DELETE /api/vault/parents/{type}/{id} 400":   func(e *statusEnv) *answer { return e.do("DELETE", api.PathParent("x", newID()), nil) },
	"DELETE /api/vault/parents/{type}/{id} 404":   func(e *statusEnv) *answer { return e.call(nil) },
	"DELETE /api/vault/parents/{type}/{id} 409":   func(e *statusEnv) *answer { return e.do("DELETE", api.PathParent("item", e.row().ParentID), nil) },
	"GET /api/vault/attachments 400":              func(e *statusEnv) *answer { return e.do("GET", api.PathAttachments, nil) },
	"GET /api/vault/attachments 404":              func(e *statusEnv) *answer { return e.call(nil) },
	"GET /api/vault/attachments/{id} 200":         func(e *statusEnv) *answer { return e.do("GET", api.PathAttachment(e.row().ID), nil) },
	"GET /api/vault/attachments/{id} 404":         func(e *statusEnv) *answer { return e.call(nil) },
	"DELETE /api/vault/attachments/{id} 204":      func(e *statusEnv) *answer { return e.do("DELETE", api.PathAttachment(e.row().ID), nil) },
	"DELETE /api/vault/attachments/{id} 404":      func(e *statusEnv) *answer { return e.call(nil) },
	"GET /api/vault/attachments/{id}/content 200": func(e *statusEnv) *answer { return e.do("GET", api.PathContent(e.row().ID), nil) },
	"GET /api/vault/attachments/{id}/content 404": func(e *statusEnv) *answer { return e.call(nil) },
	"POST /api/vault/attachments 201":             func(e *statusEnv) *answer { return e.call(uploadBody("item", e.parent("item"), randomBytes(100))) },
	"POST /api/vault/attachments 200":             func(e *statusEnv) *answer { return e.again("") },
	"POST /api/vault/attachments 409":             func(e *statusEnv) *answer { return e.again("other") },
	"POST /api/vault/attachments 400":             func(e *statusEnv) *answer { return e.call("x") },
	"POST /api/vault/attachments 404":             func(e *statusEnv) *answer { return e.call(uploadBody("item", newID(), randomBytes(100))) },
	"POST /api/vault/attachments 408":             func(e *statusEnv) *answer { return e.broken(e.path(), api.TypeJSON, 9, errSlow) },
	"POST /api/vault/attachments 411": func(e *statusEnv) *answer {
		return e.call(io.MultiReader(strings.NewReader("{}")), "Content-Type", api.TypeJSON)
	},
	"POST /api/vault/attachments 413": func(e *statusEnv) *answer { return e.broken(e.path(), api.TypeJSON, api.MaxJSONUpload+1, io.EOF) },
	"POST /api/vault/attachments 415": func(e *statusEnv) *answer { return e.call("{}", "Content-Type", "text/plain") },
	"POST /api/vault/attachments 503": func(e *statusEnv) *answer {
		body := uploadBody("item", e.parent("item"), randomBytes(100))
		return e.whileDown(func() *answer { return e.call(body) })
	},
	"GET /api/vault/attachments 200": func(e *statusEnv) *answer {
		return e.do("GET", api.PathAttachments+"?parent_type=item&parent_id="+e.row().ParentID, nil)
	},
	"PUT /api/vault/parents/{type}/{id} 200": func(e *statusEnv) *answer {
		e.call(api.PutParent{TitleEncrypted: "t", Epoch: 1}).want(201)
		return e.call(api.PutParent{TitleEncrypted: "u", Epoch: 1})
	},
	"POST /api/vault/attachments 422": func(e *statusEnv) *answer {
		body := uploadBody("item", e.parent("item"), randomBytes(100))
		body["size_bytes"] = 5
		return e.call(body)
	},
	"POST /api/vault/attachments 429": func(e *statusEnv) *answer {
		body := uploadBody("item", e.parent("item"), randomBytes(100))
		return e.until(429, func() *answer { return e.call(body) })
	},
	"GET /api/vault/attachments/{id} 410": func(e *statusEnv) *answer {
		row := e.row()
		e.do("DELETE", api.PathAttachment(row.ID), nil).want(204)
		return e.do("GET", api.PathAttachment(row.ID), nil)
	},
	"GET /api/vault/attachments/{id} 412": func(e *statusEnv) *answer {
		row := e.row()
		e.lose()
		return e.do("GET", api.PathAttachment(row.ID), nil)
	},
	"GET /api/vault/attachments/{id} 503": func(e *statusEnv) *answer {
		row := e.row()
		return e.whileDown(func() *answer { return e.do("GET", api.PathAttachment(row.ID), nil) })
	},
	"GET /api/vault/attachments/{id}/content 206": func(e *statusEnv) *answer {
		return e.do("GET", api.PathContent(e.row().ID), nil, "Range", "bytes=0-1")
	},
	"GET /api/vault/attachments/{id}/content 302": func(e *statusEnv) *answer {
		return e.redirected(func(row api.Row) *answer { return e.do("GET", api.PathContent(row.ID), nil) })
	},
	"GET /api/vault/attachments/{id}/content 304": func(e *statusEnv) *answer {
		row := e.row()
		return e.do("GET", api.PathContent(row.ID), nil, "If-None-Match", `"x", W/"`+row.BlobID+`"`)
	},
	"GET /api/vault/attachments/{id}/content 410": func(e *statusEnv) *answer {
		row := e.row()
		e.do("DELETE", api.PathAttachment(row.ID), nil).want(204)
		return e.do("GET", api.PathContent(row.ID), nil)
	},
	"GET /api/vault/attachments/{id}/content 412": func(e *statusEnv) *answer {
		row := e.row()
		e.lose()
		return e.do("GET", api.PathContent(row.ID), nil)
	},
	"GET /api/vault/attachments/{id}/content 416": func(e *statusEnv) *answer {
		return e.do("GET", api.PathContent(e.row().ID), nil, "Range", "bytes=100-")
	},
	"GET /api/vault/attachments/{id}/content 503": func(e *statusEnv) *answer {
		row := e.row()
		return e.whileDown(func() *answer { return e.do("GET", api.PathContent(row.ID), nil) })
	},
}

var blobCases = map[string]statusCase{
	"GET /v1/vaults/{vault}/blobs 200":        func(e *statusEnv) *answer { e.row(); return e.call(nil) },
	"GET /v1/vaults/{vault}/blobs 400":        func(e *statusEnv) *answer { return e.do("GET", e.path()+"?after=x", nil) },
	"GET /v1/vaults/{vault}/blobs/{blob} 200": func(e *statusEnv) *answer { e.row(); return e.call(nil) },
	"GET /v1/vaults/{vault}/blobs/{blob} 206": func(e *statusEnv) *answer { e.row(); return e.call(nil, "Range", "bytes=-1") },
	"GET /v1/vaults/{vault}/blobs/{blob} 302": func(e *statusEnv) *answer {
		return e.redirected(func(row api.Row) *answer { return e.do("GET", api.PathBlob(e.vault, row.BlobID), nil) })
	},
	"GET /v1/vaults/{vault}/blobs/{blob} 304":   func(e *statusEnv) *answer { e.row(); return e.call(nil, "If-None-Match", "*") },
	"GET /v1/vaults/{vault}/blobs/{blob} 412":   func(e *statusEnv) *answer { e.row(); e.lose(); return e.call(nil) },
	"GET /v1/vaults/{vault}/blobs/{blob} 416":   func(e *statusEnv) *answer { e.row(); return e.call(nil, "Range", "bytes=9-1") },
	"GET /v1/vaults/{vault}/blobs/{blob} 503":   func(e *statusEnv) *answer { e.row(); return e.whileDown(func() *answer { return e.call(nil) }) },
	"POST /v1/vaults/{vault}/blobs/release 200": func(e *statusEnv) *answer { e.row(); return e.call(api.BlobIDs{Blobs: []string{e.blob}}) },
	"POST /v1/vaults/{vault}/blobs/claim 200":   func(e *statusEnv) *answer { return e.call(api.BlobIDs{Blobs: []string{e.blob}}) },
	"PUT /v1/vaults/{vault}/rows 200":           func(e *statusEnv) *answer { return e.call(api.PutRows{}) },
	"PUT /v1/vaults/{vault}/rows 409": func(e *statusEnv) *answer {
		// A batch of another device that this one has not seen.
		other := *e.person
		other.device, other.key = newID(), newKey()
		h := e.person.header(func(f map[string]any) {
			f["devices"] = append(f["devices"].([]any), map[string]any{"id": other.device, "pk": []byte(other.key.Public().(ed25519.PublicKey)), "revoked": false})
		})
		e.do("PUT", api.PathHeader(e.person.vault, 2), []byte(h)).want(201)
		e.do("PUT", api.PathBatch(e.person.vault, other.device, 1), other.batch()).want(201)
		return e.call(api.PutRows{At: 0})
	},
}

var uploadCases = map[string]statusCase{
	"POST /v1/vaults/{vault}/uploads 201": func(e *statusEnv) *answer { m, _ := e.parts(); return e.call(m) },
	"POST /v1/vaults/{vault}/uploads 200": func(e *statusEnv) *answer {
		m, _ := e.parts()
		e.commit(m)
		return e.call(m)
	},
	"POST /v1/vaults/{vault}/uploads 409": func(e *statusEnv) *answer {
		m, _ := e.parts()
		e.commit(m)
		m.SizeBytes++
		m.StoredBytes++
		return e.call(m)
	},
	"POST /v1/vaults/{vault}/uploads 413": func(e *statusEnv) *answer {
		m, _ := e.parts()
		m.SizeBytes = 2 << 30
		return e.call(m)
	},
	"POST /v1/vaults/{vault}/uploads 422": func(e *statusEnv) *answer { m, _ := e.parts(); m.StoredBytes++; return e.call(m) },
	"POST /v1/vaults/{vault}/uploads 429": func(e *statusEnv) *answer { m, _ := e.parts(); return e.call(m) },
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 204": func(e *statusEnv) *answer {
		_, st := e.parts()
		return e.call(make([]byte, st.PartSize))
	},
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 400": func(e *statusEnv) *answer {
		_, st := e.parts()
		return e.do("PUT", api.PathPart(e.person.vault, st.Upload, 9), []byte("x"))
	},
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 408": func(e *statusEnv) *answer {
		_, st := e.parts()
		return e.broken(e.path(), api.TypeBlob, st.PartSize, errSlow)
	},
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 411": func(e *statusEnv) *answer {
		e.parts()
		return e.call(io.MultiReader(strings.NewReader("x")))
	},
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 422": func(e *statusEnv) *answer { e.parts(); return e.call([]byte("x")) },
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 429": func(e *statusEnv) *answer {
		_, st := e.parts()
		account, err := e.o.DB.AccountByVault(context.Background(), e.person.vault)
		must(e.world.t, err)
		leave, err := e.bodies.enter(account.ID, false)
		must(e.world.t, err)
		defer leave()
		return e.call(make([]byte, st.PartSize))
	},
	"PUT /v1/vaults/{vault}/uploads/{upload}/{part} 503": func(e *statusEnv) *answer {
		_, st := e.parts()
		return e.whileDown(func() *answer { return e.call(make([]byte, st.PartSize)) })
	},
	"GET /v1/vaults/{vault}/uploads/{upload} 200":    func(e *statusEnv) *answer { e.parts(); return e.call(nil) },
	"GET /v1/vaults/{vault}/uploads/{upload} 503":    func(e *statusEnv) *answer { e.parts(); return e.whileDown(func() *answer { return e.call(nil) }) },
	"DELETE /v1/vaults/{vault}/uploads/{upload} 204": func(e *statusEnv) *answer { e.parts(); return e.call(nil) },
	"DELETE /v1/vaults/{vault}/uploads/{upload} 503": func(e *statusEnv) *answer { e.parts(); return e.whileDown(func() *answer { return e.call(nil) }) },

	"POST /v1/vaults/{vault}/uploads/{upload}/finish 201": func(e *statusEnv) *answer { e.sendParts(e.parts()); return e.call(nil) },
	"POST /v1/vaults/{vault}/uploads/{upload}/finish 503": func(e *statusEnv) *answer { e.parts(); return e.whileDown(func() *answer { return e.call(nil) }) },
	"POST /v1/vaults/{vault}/uploads/{upload}/finish 422": func(e *statusEnv) *answer { e.parts(); return e.call(nil) },
	"POST /v1/vaults/{vault}/uploads/{upload}/finish 200": func(e *statusEnv) *answer {
		return e.finishAfter(func(m api.Metadata) { e.commit(m) })
	},
	"POST /v1/vaults/{vault}/uploads/{upload}/finish 408": func(e *statusEnv) *answer {
		return e.finishAfter(func(m api.Metadata) {
			_, _, err := e.o.DB.Admit(context.Background(), e.rival(m))
			must(e.world.t, err)
		})
	},
	"POST /v1/vaults/{vault}/uploads/{upload}/finish 413": func(e *statusEnv) *answer {
		row := e.upload("item", e.parent("item"), randomBytes(1000))
		m, st := e.partsFor(row.BlobID) // which stays, for its row does
		e.sendParts(m, st)
		full := m.StoredBytes
		e.person.set(nil, &full, nil)
		return e.call(nil)
	},
	"POST /v1/vaults/{vault}/uploads/{upload}/finish 409": func(e *statusEnv) *answer {
		return e.finishAfter(func(m api.Metadata) {
			m.SHA256 = strings.Repeat("0", 64)
			e.commit(m)
		})
	},
}

// commit has another attempt at the same blob come to its end.
func (e *statusEnv) commit(m api.Metadata) {
	e.world.t.Helper()
	_, err := e.o.DB.Commit(context.Background(), e.rival(m), false)
	must(e.world.t, err)
}

// finishAfter finishes an upload, and something happens in the middle of that.
func (e *statusEnv) finishAfter(between func(m api.Metadata)) *answer {
	e.world.t.Helper()
	m, st := e.parts()
	e.sendParts(m, st)
	e.store.finish = func() { between(m) }
	defer func() { e.store.finish = nil }()
	return e.call(nil)
}

var logCases = map[string]statusCase{
	"GET /v1/vaults/{vault}/headers/{seq} 200": func(e *statusEnv) *answer { return e.call(nil) },
	"PUT /v1/vaults/{vault}/headers/{seq} 201": func(e *statusEnv) *answer {
		return e.do("PUT", api.PathHeader(e.person.vault, 2), []byte(e.person.header(nil)))
	},
	"PUT /v1/vaults/{vault}/headers/{seq} 200": func(e *statusEnv) *answer {
		h := []byte(e.person.header(nil))
		e.do("PUT", api.PathHeader(e.person.vault, 2), h).want(201)
		return e.do("PUT", api.PathHeader(e.person.vault, 2), h)
	},
	"PUT /v1/vaults/{vault}/headers/{seq} 404": func(e *statusEnv) *answer {
		p := e.newPerson()
		return e.do("PUT", api.PathHeader(p.vault, 1), []byte(p.header(nil)))
	},
	"PUT /v1/vaults/{vault}/headers/{seq} 409": func(e *statusEnv) *answer {
		e.person.headers = nil
		return e.call([]byte(e.person.header(func(f map[string]any) { f["write"] = "v4" })))
	},
	"PUT /v1/vaults/{vault}/headers/{seq} 412": func(e *statusEnv) *answer {
		e.person.header(nil)
		return e.do("PUT", api.PathHeader(e.person.vault, 3), []byte(e.person.header(nil)))
	},
	"PUT /v1/vaults/{vault}/headers/{seq} 422": func(e *statusEnv) *answer { return e.call([]byte("x")) },
	"GET /v1/vaults/{vault}/log/{device}/{seq} 200": func(e *statusEnv) *answer {
		e.do("PUT", e.path(), e.person.batch()).want(201)
		return e.call(nil)
	},
	"PUT /v1/vaults/{vault}/log/{device}/{seq} 201": func(e *statusEnv) *answer { return e.call(e.person.batch()) },
	"PUT /v1/vaults/{vault}/log/{device}/{seq} 200": func(e *statusEnv) *answer {
		b := e.person.batch()
		e.call(b).want(201)
		return e.call(b)
	},
	"PUT /v1/vaults/{vault}/log/{device}/{seq} 409": func(e *statusEnv) *answer {
		e.call(e.person.batch()).want(201)
		e.person.batches = nil
		return e.call(e.person.batch())
	},
	"PUT /v1/vaults/{vault}/log/{device}/{seq} 412": func(e *statusEnv) *answer {
		e.person.batch()
		return e.do("PUT", api.PathBatch(e.person.vault, e.person.device, 2), e.person.batch())
	},
	"PUT /v1/vaults/{vault}/log/{device}/{seq} 422": func(e *statusEnv) *answer { return e.call([]byte("x")) },
	"GET /v1/vaults/{vault}/checkpoints/{name}/{part} 200": func(e *statusEnv) *answer {
		e.do("PUT", e.path(), e.frame(1, 1, [32]byte{})).want(200)
		return e.call(nil)
	},
	"PUT /v1/vaults/{vault}/checkpoints/{name}/{part} 200": func(e *statusEnv) *answer { return e.call(e.frame(1, 1, [32]byte{})) },
	"PUT /v1/vaults/{vault}/checkpoints/{name}/{part} 201": func(e *statusEnv) *answer {
		return e.do("PUT", strings.TrimSuffix(e.path(), "1")+"m", e.frame(1, 1, [32]byte{}))
	},
	"PUT /v1/vaults/{vault}/checkpoints/{name}/{part} 409": func(e *statusEnv) *answer {
		e.call(e.frame(1, 1, [32]byte{})).want(200)
		return e.call(e.frame(1, 1, [32]byte{}))
	},
	"PUT /v1/vaults/{vault}/checkpoints/{name}/{part} 422": func(e *statusEnv) *answer { return e.call([]byte("x")) },
	"GET /v1/vaults/{vault}/pair/{pair}/{side} 200": func(e *statusEnv) *answer {
		e.do("PUT", e.path(), []byte("q")).want(201)
		return e.call(nil)
	},
	"PUT /v1/vaults/{vault}/pair/{pair}/{side} 201": func(e *statusEnv) *answer { return e.call([]byte("q")) },
	"PUT /v1/vaults/{vault}/pair/{pair}/{side} 409": func(e *statusEnv) *answer {
		e.call([]byte("q")).want(201)
		return e.call([]byte("r"))
	},
	"GET /v1/vaults/{vault}/changes 200": func(e *statusEnv) *answer { return e.call(nil) },
	"GET /v1/vaults/{vault}/changes 204": func(e *statusEnv) *answer { return e.do("GET", e.path()+"?after=1", nil) },
	"GET /v1/vaults/{vault}/changes 400": func(e *statusEnv) *answer { return e.do("GET", e.path()+"?wait=99", nil) },
	"GET /v1/vaults/{vault}/changes 410": func(e *statusEnv) *answer { return e.do("GET", e.path()+"?after=99", nil) },
	"POST /v1/vaults/{vault}/collect 409": func(e *statusEnv) *answer {
		return e.call(api.Collect{Heads: map[string]uint64{e.person.device: 1}})
	},
	"POST /v1/vaults/{vault}/collect 200": func(e *statusEnv) *answer {
		for seq := range 2 {
			name := fmt.Sprintf("%020d-%s", seq+1, e.person.device)
			e.do("PUT", api.PathCheckpoint(e.person.vault, name, "m"), e.frame(1, 1, [32]byte{})).want(http.StatusCreated)
		}
		e.pass(31 * 24 * time.Hour)
		e.login()
		return e.call(api.Collect{Heads: map[string]uint64{e.person.device: 1}})
	},
	"PUT /v1/vaults/{vault}/boot 204": func(e *statusEnv) *answer { return e.call(api.PutBoot{Boot: strings.Repeat("0", 64)}) },
}
