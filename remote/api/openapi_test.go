package api

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type document struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Security  []map[string][]string `json:"security"`
	Responses map[string]any        `json:"responses"`
}

type schema struct {
	Properties map[string]any `json:"properties"`
	AllOf      []schema       `json:"allOf"`
	Ref        string         `json:"$ref"`
}

func published(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The document has every route and no other, with the login it needs.
func TestDocumentHasRoutes(t *testing.T) {
	d := published(t)
	count := 0
	for _, methods := range d.Paths {
		count += len(methods)
	}
	if count != len(Routes) {
		t.Errorf("the document has %d calls, the server %d", count, len(Routes))
	}
	for _, r := range Routes {
		op, ok := d.Paths[r.Path][strings.ToLower(r.Method)]
		if !ok {
			t.Errorf("%s %s is not in the document", r.Method, r.Path)
			continue
		}
		want := map[Auth]int{AuthNone: 0, AuthAny: 1, AuthDevice: 1, AuthBoot: 2}[r.Auth]
		if len(op.Security) != want {
			t.Errorf("%s %s: %d ways to log in, want %d", r.Method, r.Path, len(op.Security), want)
		}
		if r.Auth != AuthNone && (op.Responses["401"] == nil || op.Responses["403"] == nil) {
			t.Errorf("%s %s: no 401 or 403", r.Method, r.Path)
		}
	}
}

// Every schema has the fields of its type.
func TestDocumentHasFields(t *testing.T) {
	d := published(t)
	for name, v := range map[string]any{
		"Error": Error{}, "WrappedKey": WrappedKey{}, "Row": Row{}, "Download": Download{}, "List": List{}, "Metadata": Metadata{},
		"UploadState": UploadState{}, "Parent": Parent{}, "PutParent": PutParent{}, "Parents": Parents{}, "PutRows": PutRows{},
		"RowResult": RowResult{}, "PutRowsAnswer": PutRowsAnswer{}, "Blob": Blob{}, "BlobList": BlobList{}, "BlobIDs": BlobIDs{},
		"BlobResults": BlobResults{}, "Register": Register{}, "Registered": Registered{}, "PutBoot": PutBoot{}, "AskChallenge": AskChallenge{},
		"Challenge": Challenge{}, "Login": Login{}, "Session": Session{}, "Change": Change{}, "Changes": Changes{}, "Pushed": Pushed{},
		"Collect": Collect{}, "Collected": Collected{}, "Gate": Gate{}, "Usage": Usage{},
	} {
		want := fieldsOf(reflect.TypeOf(v))
		got := d.fields(d.Components.Schemas[name])
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the document has %q, the type %q", name, got, want)
		}
	}
	upload := append(fieldsOf(reflect.TypeFor[UploadJSON]()), "encrypted_content")
	got := d.fields(d.Components.Schemas["Upload"])
	slices.Sort(got)
	slices.Sort(upload)
	if !slices.Equal(got, upload) {
		t.Errorf("Upload: the document has %q, the type %q", got, upload)
	}
}

func (d document) fields(s schema) []string {
	out := slices.Collect(maps.Keys(s.Properties))
	for _, part := range s.AllOf {
		if name, ok := strings.CutPrefix(part.Ref, "#/components/schemas/"); ok {
			part = d.Components.Schemas[name]
		}
		out = append(out, d.fields(part)...)
	}
	return out
}

func fieldsOf(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Pointer:
			out = append(out, fieldsOf(f.Type.Elem())...)
		case f.Anonymous:
			out = append(out, fieldsOf(f.Type)...)
		case name != "-" && name != "" && f.IsExported():
			out = append(out, name)
		}
	}
	return out
}
