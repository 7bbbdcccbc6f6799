package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

func TestBadInput(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Limits: Limits{JSONUploads: -1, Failed: -1, Other: -1, Lists: -1}})
	p := w.register()
	parent := p.parent("item")
	good := uploadBody("item", parent, randomBytes(100))
	raw, _ := json.Marshal(good)
	change := func(name string, v any) map[string]any {
		c := make(map[string]any)
		for k, x := range good {
			c[k] = x
		}
		if c[name] = v; v == nil {
			delete(c, name)
		}
		return c
	}
	for name, c := range map[string]struct {
		body any
		code api.Code
	}{
		"no JSON":          {"x", api.CodeBadRequest},
		"empty":            {" ", api.CodeBadRequest},
		"cut":              {string(raw[:len(raw)-10]), api.CodeBadRequest},
		"behind":           {string(raw) + "x", api.CodeBadRequest},
		"repeated":         {strings.Replace(string(raw), `"size_bytes"`, `"encrypted_content":"","size_bytes"`, 1), api.CodeBadRequest},
		"case":             {strings.Replace(string(raw), `"size_bytes"`, `"Size_bytes"`, 1), api.CodeBadRequest},
		"deep":             {strings.Replace(string(raw), `"size_bytes"`, `"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,"size_bytes"`, 1), api.CodeBadRequest},
		"long field":       {change("file_name_encrypted", strings.Repeat("x", api.MaxField+1)), api.CodeBadRequest},
		"no content":       {change("encrypted_content", nil), api.CodeBadRequest},
		"content number":   {change("encrypted_content", 5), api.CodeBadRequest},
		"base64":           {change("encrypted_content", "!!!!"), api.CodeBadRequest},
		"base64 padding":   {change("encrypted_content", "AA==AA=="), api.CodeBadRequest},
		"base64 line":      {change("encrypted_content", "AAAA\nAAAA"), api.CodeBadRequest},
		"base64 stray":     {change("encrypted_content", "AB=="), api.CodeBadRequest},
		"name":             {change("file_name_encrypted", "x"), api.CodeBadRequest},
		"key":              {change("wrapped_file_key", nil), api.CodeBadRequest},
		"key short":        {change("wrapped_file_key", map[string]string{"iv": "", "ciphertext": ""}), api.CodeBadRequest},
		"parent id":        {change("parent_id", "x"), api.CodeBadRequest},
		"parent type":      {change("parent_type", "vault"), api.CodeBadRequest},
		"version":          {change("encryption_version", 4), api.CodeUnsupportedVersion},
		"size":             {change("size_bytes", 73), api.CodeLengthMismatch},
		"negative size":    {change("size_bytes", -1), api.CodeBadRequest},
		"unknown parent":   {change("parent_id", newID()), api.CodeParentNotFound},
		"another's parent": {change("parent_type", "note"), api.CodeParentNotFound},
	} {
		t.Log(name)
		p.do("POST", api.PathAttachments, c.body).code(c.code)
	}
	p.do("POST", api.PathAttachments, raw, "Content-Type", "text/plain").code(api.CodeUnsupportedMedia)
	p.do("POST", api.PathAttachments, raw, "Content-Type", "").code(api.CodeUnsupportedMedia)
	p.do("POST", api.PathAttachments, raw, "Content-Encoding", "gzip").code(api.CodeUnsupportedMedia)
	p.do("POST", "/v1/auth/challenge", "{}", "Content-Encoding", "identity, br").code(api.CodeUnsupportedMedia)
	p.do("POST", api.PathAttachments, io.MultiReader(bytes.NewReader(raw)), "Content-Type", "application/json").code(api.CodeLengthRequired)
	p.do("GET", "/nothing", nil).code(api.CodeNotFound)
	p.do("PATCH", api.PathAttachments, nil).code(api.CodeMethodNotAllowed)
	if a := p.do("PUT", api.PathAttachments, nil); a.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("Allow: %s", a.header.Get("Allow"))
	}
	p.do("GET", api.PathAttachments+"/%2e%2e", nil).code(api.CodeNotFound)
	p.do("GET", api.PathAttachment("x"), nil).code(api.CodeNotFound)
	p.do("GET", api.PathAttachments+"?parent_type=item&parent_id=x", nil).code(api.CodeBadRequest)
	p.do("GET", api.PathAttachments+"?parent_type=item&limit=201&parent_id="+parent, nil).code(api.CodeBadRequest)
	p.do("GET", api.PathVault(p.vault)+"/changes?wait=56", nil).code(api.CodeBadRequest)
	p.do("PUT", api.PathParent("vault", newID()), api.PutParent{TitleEncrypted: "x"}).code(api.CodeBadRequest)
	for _, auth := range []string{"", "Bearer", "Bearer x", "Basic eA==", "Bearer " + base64.RawURLEncoding.EncodeToString(randomBytes(32))} {
		p.do("GET", api.PathUsage, nil, "Authorization", auth).code(api.CodeSessionInvalid)
	}
	// Unknown fields are skipped, escapes in base64 understood, fields in any order.
	odd := strings.Replace(string(raw), `"size_bytes"`, `"later":{"a":[1,"}"]},"size_bytes"`, 1)
	odd = strings.ReplaceAll(odd, b64(nil)+"/", `\/`)
	p.do("POST", api.PathAttachments, odd).want(201)
	if strings.Contains(w.logs.String(), `"status":500`) {
		t.Error(w.logs.String())
	}
}

// A value of the wrong type is named by its field, whatever the call.
func TestWrongTypeNamesField(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("item")
		body := uploadBody("item", parent, randomBytes(10))
		body["size_bytes"] = "10"
		m := `{"blob_id":"` + strings.Repeat("1", 32) + `","row":{"size_bytes":"1"}}`
		for _, c := range []struct {
			method, path, field string
			body                any
		}{
			{"POST", api.PathAttachments, "size_bytes", body},
			{"PUT", api.PathParent("item", newID()), "epoch", `{"title_encrypted":"x","epoch":-1}`},
			{"PUT", api.PathVault(p.vault) + "/rows", "at", `{"at":"1"}`},
			{"PUT", api.PathVault(p.vault) + "/rows", "rows.version", `{"at":1,"rows":[{"version":true}]}`},
			{"POST", api.PathVault(p.vault) + "/blobs/release", "blobs", `{"blobs":"x"}`},
			{"POST", api.PathVault(p.vault) + "/collect", "heads", `{"heads":{"` + p.device + `":-1}}`},
			{"POST", api.PathVault(p.vault) + "/uploads", "row.size_bytes", m},
			{"POST", api.PathChallenge, "did", `{"did":1}`},
			{"POST", api.PathSession, "iat", `{"iat":"now"}`},
			{"POST", api.PathVaults, "boot", `{"boot":{}}`},
		} {
			if e := p.do(c.method, c.path, c.body).code(api.CodeBadRequest); e.Field != c.field {
				t.Errorf("%s %s: field %q, want %q: %s", c.method, c.path, e.Field, c.field, e.Text)
			}
		}
	})
}

func TestLargestBody(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Limits: Limits{Failed: -1}})
	p := w.register()
	parent := p.parent("item")
	body := uploadBody("item", parent, make([]byte, api.MaxSealed3))
	if n := len(body["encrypted_content"].(string)); n != 34_952_572 {
		t.Fatal(n)
	}
	p.do("POST", api.PathAttachments, body).want(201)
	body["encrypted_content"] = strings.Repeat("A", api.MaxBase64Legal)
	p.do("POST", api.PathAttachments, body).code(api.CodeFileTooLarge)
	body["encrypted_content"] = strings.Repeat("A", api.MaxBase64Legal+4)
	p.do("POST", api.PathAttachments, body).code(api.CodeBodyTooLarge)

	// One byte more than any body may have: the answer comes before the body.
	conn, err := net.Dial("tcp", w.http.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		api.PathAttachments, p.token, api.MaxJSONUpload+1)
	must(t, conn.SetReadDeadline(time.Now().Add(5*time.Minute)))
	head := make([]byte, 12)
	_, err = io.ReadFull(conn, head)
	must(t, err)
	if string(head) != "HTTP/1.1 413" {
		t.Errorf("%q", head)
	}
}
