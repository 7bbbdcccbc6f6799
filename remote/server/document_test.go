package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// document is the published one, as far as answers are checked against it. Every
// answer of every test of this package is.
type document struct {
	Paths map[string]map[string]struct {
		RequestBody json.RawMessage             `json:"requestBody"`
		Responses   map[string]documentedAnswer `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

type documentedAnswer struct {
	Content map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	MaxItems   *int               `json:"maxItems"`
	Enum       []any              `json:"enum"`
	Pattern    string             `json:"pattern"`
	Format     string             `json:"format"`
	Encoding   string             `json:"contentEncoding"`
	AnyOf      []*schema          `json:"anyOf"`
	AllOf      []*schema          `json:"allOf"`
	Additional *schema            `json:"additionalProperties"`
}

var published = sync.OnceValue(func() *document {
	var d document
	if err := json.Unmarshal(api.OpenAPI, &d); err != nil {
		panic(err)
	}
	return &d
})

// routeOf finds the route of a request; HEAD is GET.
func routeOf(method, path string) (api.Route, bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	i := slices.IndexFunc(api.Routes, func(r api.Route) bool { return r.Method == method && pathMatches(r.Path, path) })
	if i < 0 {
		return api.Route{}, false
	}
	return api.Routes[i], true
}

// asDocumented checks an answer against the document: its status is listed for
// the route, its body is of the schema, and every error has the one form.
func (a *answer) asDocumented(req *http.Request) {
	a.t.Helper()
	if a.header.Get(api.HeaderRequest) == "" {
		a.t.Errorf("%s: %d without a request id", a.what, a.status)
	}
	if a.status >= 400 && req.Method != http.MethodHead {
		a.isError()
	}
	route, ok := routeOf(req.Method, req.URL.EscapedPath())
	if !ok {
		return
	}
	d := published()
	listed, ok := d.Paths[route.Path][strings.ToLower(route.Method)].Responses[strconv.Itoa(a.status)]
	if !ok {
		a.t.Errorf("%s: %d %.300s is not a documented status", a.what, a.status, a.body)
		return
	}
	if len(listed.Content) == 0 && len(a.body) > 0 {
		a.t.Errorf("%s: %d has a body, and none is documented: %.200q", a.what, a.status, a.body)
	}
	for typ, content := range listed.Content {
		if got := a.header.Get("Content-Type"); got != typ {
			a.t.Errorf("%s: %d of type %q, documented is %q", a.what, a.status, got, typ)
		}
		if content.Schema == nil || typ != api.TypeJSON || req.Method == http.MethodHead {
			continue
		}
		var v any
		if err := json.Unmarshal(a.body, &v); err != nil {
			a.t.Errorf("%s: %d is no JSON: %v", a.what, a.status, err)
		} else if wrong := d.wrong(content.Schema, v, "body"); wrong != "" {
			a.t.Errorf("%s: %d: %s in %.300s", a.what, a.status, wrong, a.body)
		}
	}
}

// isError: {error, code, request_id}, the status of the code, and Retry-After
// where one is promised.
func (a *answer) isError() {
	a.t.Helper()
	var e api.Error
	if err := json.Unmarshal(a.body, &e); err != nil || e.Text == "" || e.Code.Status() != a.status || e.RequestID != a.header.Get(api.HeaderRequest) {
		a.t.Errorf("%s: %d %.300s is not the form of an error", a.what, a.status, a.body)
	}
	if a.status >= 500 && e.Code != api.CodeUnavailable && e.Code != api.CodeStorageFull {
		a.t.Errorf("%s: %d %.300s", a.what, a.status, a.body)
	}
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); (a.status == 429 || a.status == 503) && (err != nil || after < 1) {
		a.t.Errorf("%s: %d %s with Retry-After %q", a.what, a.status, e.Code, a.header.Get("Retry-After"))
	}
	if (a.status == http.StatusMethodNotAllowed) != (a.header.Get("Allow") != "") || (a.status == http.StatusUnauthorized) != (a.header.Get("WWW-Authenticate") != "") {
		a.t.Errorf("%s: %d with Allow %q, WWW-Authenticate %q", a.what, a.status, a.header.Get("Allow"), a.header.Get("WWW-Authenticate"))
	}
	if (e.Code == api.CodeQuotaExceeded || e.Code == api.CodeLogFull) && e.Quota == nil {
		a.t.Errorf("%s: %s does not say how full it is: %.300s", a.what, e.Code, a.body)
	}
}

var formats = map[string]*regexp.Regexp{
	"uuid":      regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"date-time": regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`),
}

// wrong says what of a value is not as the schema has it; "" for nothing.
func (d *document) wrong(s *schema, v any, at string) string {
	if s.Ref != "" {
		return d.wrong(d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")], v, at)
	}
	for _, part := range s.AllOf {
		if wrong := d.wrong(part, v, at); wrong != "" {
			return wrong
		}
	}
	if s.AnyOf != nil && !slices.ContainsFunc(s.AnyOf, func(one *schema) bool { return d.wrong(one, v, at) == "" }) {
		return at + " is none of its forms"
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		return fmt.Sprintf("%s is none of %v: %v", at, s.Enum, v)
	}
	switch v := v.(type) {
	case nil:
		return notOf(s, at, "null")
	case bool:
		return notOf(s, at, "boolean")
	case float64:
		if v != float64(int64(v)) {
			return at + " is no integer"
		}
		return notOf(s, at, "integer")
	case string:
		return d.wrongText(s, v, at)
	case []any:
		return d.wrongArray(s, v, at)
	}
	return d.wrongObject(s, v.(map[string]any), at)
}

func notOf(s *schema, at, kind string) string {
	if s.Type != "" && s.Type != kind {
		return fmt.Sprintf("%s is %s, not %s", at, kind, s.Type)
	}
	return ""
}

func (d *document) wrongText(s *schema, v, at string) string {
	if _, err := base64.StdEncoding.Strict().DecodeString(v); s.Encoding == "base64" && err != nil {
		return at + " is no base64"
	}
	if form := formats[s.Format]; form != nil && !form.MatchString(v) {
		return fmt.Sprintf("%s is no %s: %.60q", at, s.Format, v)
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
		return fmt.Sprintf("%s does not match %s: %.60q", at, s.Pattern, v)
	}
	return notOf(s, at, "string")
}

func (d *document) wrongArray(s *schema, v []any, at string) string {
	if s.MaxItems != nil && len(v) > *s.MaxItems {
		return fmt.Sprintf("%s has %d items", at, len(v))
	}
	for i, item := range v {
		if s.Items == nil {
			break
		}
		if wrong := d.wrong(s.Items, item, fmt.Sprintf("%s[%d]", at, i)); wrong != "" {
			return wrong
		}
	}
	return notOf(s, at, "array")
}

func (d *document) wrongObject(s *schema, v map[string]any, at string) string {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Sprintf("%s has no %s", at, name)
		}
	}
	for name, field := range v {
		of := s.Properties[name]
		if of == nil {
			of = s.Additional
		}
		if of == nil {
			continue
		}
		if wrong := d.wrong(of, field, at+"."+name); wrong != "" {
			return wrong
		}
	}
	return notOf(s, at, "object")
}
