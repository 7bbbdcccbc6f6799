package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// theirs asks for what is another account's where no id in the path names it.
// Every route without an id is here; nil is for one that has no ids at all.
var theirs = map[string]func(who *person, parent string) *answer{
	"DELETE /v1/auth/session": nil,
	"GET /api/vault/parents":  nil,
	"GET /v1/usage":           nil,
	"GET /api/vault/attachments": func(who *person, parent string) *answer {
		return who.do("GET", api.PathAttachments+"?parent_type=item&parent_id="+parent, nil)
	},
	"POST /api/vault/attachments": func(who *person, parent string) *answer {
		return who.do("POST", api.PathAttachments, uploadBody("item", parent, randomBytes(100)))
	},
}

// TestOwnership: every operation of the route list on every id of an account is
// 404 for another one, by a device and by a page, and changes nothing.
func TestOwnership(t *testing.T) {
	onBoth(t, Options{FileLimit: 1 << 30, Limits: NoLimits()}, func(t *testing.T, w *world) {
		a, b := w.register(), w.register()
		row := a.upload("item", a.parent("item"), randomBytes(100))
		a.do("PUT", api.PathBatch(a.vault, a.device, 1), a.batch()).want(201)
		checkpoint, pair := fmt.Sprintf("%020d-%s", 1, a.device), strings.Repeat("7", 32)
		a.do("PUT", api.PathCheckpoint(a.vault, checkpoint, "1"), a.frame(1, 1, [32]byte{})).want(200)
		a.do("PUT", api.PathPair(a.vault, pair, "q"), []byte("q")).want(201)
		m := metadataOf(nil)
		m.EncryptionVersion, m.SizeBytes = 4, 40<<20
		m.StoredBytes, _ = api.SealedSize(4, m.SizeBytes)
		var upload api.UploadState
		a.do("POST", api.PathVault(a.vault)+"/uploads", m).want(201).into(&upload)
		ids := func(vault string) *strings.Replacer {
			return strings.NewReplacer("{vault}", vault, "{blob}", row.BlobID, "{device}", a.device, "{seq}", "1", "{name}", checkpoint,
				"{part}", "1", "{pair}", pair, "{side}", "q", "{upload}", upload.Upload, "{type}", "item")
		}
		before, used := mustJSON(w.state(a)), a.used()
		for _, who := range []*person{b, b.page()} {
			for _, r := range api.Routes {
				name := r.Method + " " + r.Path
				path := ids(a.vault).Replace(r.Path)
				switch {
				case r.Auth == api.AuthNone, name == "PUT /api/vault/parents/{type}/{id}": // b's own; see below
				case strings.Contains(r.Path, "{id}"):
					for _, id := range []string{row.ID, row.ParentID} {
						who.do(r.Method, strings.Replace(path, "{id}", id, 1), "{}").want(404)
					}
				case strings.Contains(r.Path, "{"):
					who.do(r.Method, path, []byte("{}")).code(api.CodeNotFound)
				default:
					ask, known := theirs[name]
					if !known {
						t.Errorf("%s: say here how it may reach what is another's", name)
					} else if ask != nil {
						ask(who, row.ParentID).want(404)
					}
				}
			}
		}
		// Nor by way of b's own vault. Pairings and rows have no ids in the way.
		for _, r := range api.Routes {
			if strings.Contains(r.Path, "{vault}") && r.Method == "GET" && strings.Count(r.Path, "{") > 1 && !strings.HasSuffix(r.Path, "/headers/{seq}") {
				b.do(r.Method, ids(b.vault).Replace(r.Path), nil).code(api.CodeNotFound)
			}
		}
		ownershipOfWrites(b, a, row)
		if after := mustJSON(w.state(a)); !bytes.Equal(before, after) || a.used() != used {
			t.Errorf("the account changed:\n%s\n%s", before, after)
		}
	})
}

// ownershipOfWrites names ids of a in what b writes to its own vault.
func ownershipOfWrites(b, a *person, row api.Row) {
	t := b.w.t
	t.Helper()
	b.do("PUT", api.PathHeader(a.vault, 2), []byte(b.header(nil))).code(api.CodeNotFound) // needs no login, and is nobody else's to write
	var blobs api.BlobResults
	b.do("POST", api.PathVault(b.vault)+"/blobs/release", api.BlobIDs{Blobs: []string{row.BlobID}}).want(200).into(&blobs)
	if blobs.Results[0].State != api.BlobMissing {
		t.Errorf("another's blob: %+v", blobs)
	}
	mine := row
	mine.State, mine.Version = api.StateDeleted, row.Version
	var rows api.PutRowsAnswer
	b.do("PUT", api.PathVault(b.vault)+"/rows", api.PutRows{Rows: []api.Row{mine, row}}).want(200).into(&rows)
	for _, r := range rows.Results {
		if r.Error == nil {
			t.Errorf("another's row: %+v", r)
		}
	}
	content := randomBytes(100)
	m := metadataOf(content)
	m.Release = []string{row.BlobID}
	b.form(m, content).want(201)
	// Another's parent under the same id is b's alone.
	b.do("PUT", api.PathParent("item", row.ParentID), api.PutParent{TitleEncrypted: "mine", Epoch: 1}).want(201)
}

// used is how much an account has, of everything that is counted.
func (p *person) used() string {
	p.w.t.Helper()
	var u api.Usage
	p.do("GET", api.PathUsage, nil).want(200).into(&u)
	u.Gates = nil
	b, _ := json.Marshal(u)
	return string(b)
}
