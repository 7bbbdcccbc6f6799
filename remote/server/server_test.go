package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

func TestRoutesHaveHandlers(t *testing.T) {
	if len(handlers) != len(api.Routes) {
		t.Errorf("%d handlers, %d routes", len(handlers), len(api.Routes))
	}
}

// The flow of the seed: item, upload, list, download, delete.

func TestAttachmentFlow(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		for _, who := range []*person{p, p.page()} {
			for _, typ := range api.ParentTypes {
				parent, content := p.parent(typ), randomBytes(1000)
				row := who.upload(typ, parent, content)
				if row.ParentID != parent || row.SizeBytes != 972 || row.EncryptionVersion != 3 || row.State != api.StateLive || row.StoredBytes != 1000 {
					t.Fatalf("%+v", row)
				}
				var list api.List
				who.do("GET", api.PathAttachments+"?parent_id="+parent+"&parent_type="+typ, nil).want(200).into(&list)
				if len(list.Attachments) != 1 || list.Attachments[0].ID != row.ID || list.Next != nil {
					t.Fatalf("%+v", list)
				}
				var d api.Download
				res := who.do("GET", api.PathAttachment(row.ID), nil).want(200)
				res.into(&d)
				if d.EncryptedContent != b64(content) || d.WrappedFileKey.IV != row.WrappedFileKey.IV || d.FileNameEncrypted != row.FileNameEncrypted {
					t.Fatalf("%+v", d.Row)
				}
				if raw := who.do("GET", api.PathContent(row.ID), nil).want(200); !bytes.Equal(raw.body, content) || raw.header.Get("ETag") != `"`+row.BlobID+`"` {
					t.Fatalf("%d bytes", len(raw.body))
				}
				who.do("DELETE", api.PathAttachment(row.ID), nil).want(204)
				who.do("DELETE", api.PathAttachment(row.ID), nil).want(204)
				who.do("GET", api.PathAttachment(row.ID), nil).code(api.CodeDeleted)
			}
		}
	})
}

func TestRanges(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Limits: Limits{Downloads: -1}})
	p := w.register()
	content := randomBytes(1000)
	row := p.upload("item", p.parent("item"), content)
	for _, path := range []string{api.PathContent(row.ID), api.PathBlob(p.vault, row.BlobID)} {
		for _, c := range []struct {
			header   string
			status   int
			from, to int
		}{
			{"bytes=0-9", 206, 0, 10}, {"bytes=990-", 206, 990, 1000}, {"bytes=-10", 206, 990, 1000}, {"bytes=5-5000", 206, 5, 1000}, {"bytes=-5000", 206, 0, 1000},
			{"bytes=1000-", 416, 0, 0}, {"bytes=9-5", 416, 0, 0}, {"bytes=-0", 416, 0, 0}, {"bytes=x-1", 416, 0, 0}, {"bytes=1", 416, 0, 0},
			{"bytes=0-1,5-6", 200, 0, 1000}, {"lines=1-2", 200, 0, 1000},
		} {
			res := p.do("GET", path, nil, "Range", c.header).want(c.status)
			if c.status != 416 && !bytes.Equal(res.body, content[c.from:c.to]) {
				t.Errorf("%s: %d bytes", c.header, len(res.body))
			}
			if c.status == 206 && res.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/1000", c.from, c.to-1) {
				t.Errorf("%s: %s", c.header, res.header.Get("Content-Range"))
			}
		}
		head := p.do("HEAD", path, nil).want(200)
		if head.header.Get("Content-Length") != "1000" || len(head.body) != 0 {
			t.Errorf("HEAD: %v", head.header)
		}
		p.do("GET", path, nil, "If-None-Match", `"`+row.BlobID+`"`).want(304)
		for _, of := range []string{"bytes=0-9", "bytes=1000-", "bytes=x"} {
			if res := p.do("GET", path, nil, "Range", of, "If-Range", `"other"`).want(200); len(res.body) != 1000 {
				t.Errorf("%s, If-Range of something else: %d bytes", of, len(res.body))
			}
		}
	}
}

// state is all that the feed tells of an account.
func (w *world) state(p *person) (out api.Changes) {
	w.t.Helper()
	p.do("GET", api.PathVault(p.vault)+"/changes", nil).want(200).into(&out)
	return out
}

func TestLoginRefusals(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p, q := w.register(), w.register()
		url := w.http.URL
		good := p.proof(p.nonce(p.device), p.device, p.key, url)
		p.do("POST", api.PathSession, good).want(201)
		p.do("POST", api.PathSession, good).code(api.CodeSessionInvalid) // TestSessionReplay
		refused := func(name string, in api.Login) {
			t.Helper()
			t.Log(name)
			p.do("POST", api.PathSession, in).code(api.CodeSessionInvalid)
		}
		refused("another audience", p.proof(p.nonce(p.device), p.device, p.key, "https://evil.example"))
		refused("another key", p.proof(p.nonce(p.device), p.device, newKey(), url))
		refused("identity as device", p.proof(p.nonce(p.device), p.device, p.identity, url))
		refused("device as page", p.proof(p.nonce(api.ZeroID), api.ZeroID, p.key, url))
		refused("nonce of another device", p.proof(p.nonce(api.ZeroID), p.device, p.key, url))
		refused("nonce of another vault", p.proof(q.nonce(p.device), p.device, p.key, url))
		refused("nonce of nobody", p.proof(b64(randomBytes(32)), p.device, p.key, url))
		refused("unknown device", p.proof(p.nonce(newID()), newID(), p.key, url))
		late := p.nonce(p.device)
		w.pass(api.ChallengeLife + time.Second)
		refused("late", p.proof(late, p.device, p.key, url))
		skewed := p.proof(p.nonce(p.device), p.device, p.key, url)
		skewed.Exp++
		refused("times changed", skewed)
		// The same for an identity that nobody knows.
		stranger := &person{w: w, vault: newID(), identity: newKey(), device: newID(), key: newKey()}
		refused("stranger", stranger.proof(stranger.nonce(stranger.device), stranger.device, stranger.key, url))
		// Tokens end, and are not in the database as they are.
		p.login()
		if row, _, err := w.o.DB.Session(context.Background(), p.token); err == nil {
			t.Errorf("the token itself is kept: %+v", row)
		}
		w.pass(api.TokenLife + time.Second)
		p.do("GET", api.PathUsage, nil).code(api.CodeSessionInvalid)
		p.login()
		p.do("DELETE", api.PathSession, nil).want(204)
		p.do("GET", api.PathUsage, nil).code(api.CodeSessionInvalid)
	})
}

func TestRevokedDevice(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		p.do("PUT", api.PathBatch(p.vault, p.device, 1), p.batch()).want(201)
		second := p.batch()
		p.do("PUT", api.PathHeader(p.vault, 2), []byte(p.header(func(h map[string]any) {
			h["epoch"] = 2
			h["devices"].([]any)[0].(map[string]any)["revoked"] = true
			h["cut"] = map[string]any{p.device: map[string]any{"seq": 1, "hash": p.batches[0].Hash[:]}}
		}))).want(201)
		p.do("GET", api.PathUsage, nil).code(api.CodeSessionInvalid)
		p.do("POST", api.PathSession, p.proof(p.nonce(p.device), p.device, p.key, w.http.URL)).code(api.CodeSessionInvalid)
		page := p.page()
		page.do("PUT", api.PathBatch(p.vault, p.device, 2), second).code(api.CodePageSession)
	})
}

// A vault that moves here after a year has no batches of its first days any more:
// its checkpoint stands for them.
func TestReplicaLogBeginsLate(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		_, _, three, four := p.batch(), p.batch(), p.batch(), p.batch()
		path := func(seq uint64) string { return api.PathBatch(p.vault, p.device, seq) }
		p.do("PUT", path(3), three).code(api.CodeSeqGap)
		name := fmt.Sprintf("%020d-%s", 2, p.device)
		p.do("PUT", api.PathCheckpoint(p.vault, name, "1"), p.frame(1, 1, [32]byte{})).want(200)
		p.do("PUT", path(3), three).code(api.CodeSeqGap) // it is not whole yet
		p.do("PUT", api.PathCheckpoint(p.vault, name, "m"), p.frame(1, 2, [32]byte{1})).want(201)
		p.do("PUT", path(4), three).code(api.CodeBadBatch)
		p.do("PUT", path(3), three).want(201)
		p.do("PUT", path(2), p.frame(0, 2, [32]byte{9})).code(api.CodeOtherBytes)
		p.do("PUT", path(4), four).want(201)
	})
}

func TestReplicaLog(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		one, two, three := p.batch(), p.batch(), p.batch()
		path := func(seq uint64) string { return api.PathBatch(p.vault, p.device, seq) }
		p.do("PUT", path(2), two).code(api.CodeSeqGap)
		p.do("PUT", path(1), one).want(201)
		p.do("PUT", path(1), one).want(200)
		p.do("PUT", path(1), two).code(api.CodeBadBatch)
		p.do("PUT", path(1), p.frame(0, 1, [32]byte{})).code(api.CodeOtherBytes)
		p.do("PUT", path(2), p.frame(0, 2, [32]byte{9})).code(api.CodeChainBroken)
		altered := bytes.Clone(two)
		altered[150] ^= 1
		p.do("PUT", path(2), altered).code(api.CodeBadBatch)
		p.do("PUT", path(2), []byte("x")).code(api.CodeBadBatch)
		p.do("PUT", path(2), make([]byte, api.MaxFrame+1)).code(api.CodeBodyTooLarge)
		p.do("PUT", path(2), two).want(201)
		p.do("PUT", path(3), three).want(201)
		if got := p.do("GET", path(2), nil).want(200); !bytes.Equal(got.body, two) {
			t.Error("other bytes came back")
		}
		p.do("GET", path(9), nil).code(api.CodeNotFound)
		p.do("GET", api.PathVault(p.vault)+"/log/"+p.device+"/02", nil).code(api.CodeNotFound)

		name := fmt.Sprintf("%020d-%s", 3, p.device)
		part := p.frame(1, 1, [32]byte{})
		p.do("PUT", api.PathCheckpoint(p.vault, name, "1"), part).want(200)
		p.do("PUT", api.PathCheckpoint(p.vault, name, "1"), p.frame(1, 1, [32]byte{})).code(api.CodeOtherBytes)
		p.do("PUT", api.PathCheckpoint(p.vault, name, "2"), one).code(api.CodeBadBatch)
		p.do("PUT", api.PathCheckpoint(p.vault, name, "m"), p.frame(1, 2, [32]byte{1})).want(201)
		if got := p.do("GET", api.PathCheckpoint(p.vault, name, "1"), nil).want(200); !bytes.Equal(got.body, part) {
			t.Error("another part came back")
		}

		h2 := p.header(nil)
		p.do("PUT", api.PathHeader(p.vault, 2)+"?at=1", []byte(h2)).code(api.CodeCutBehind)
		p.do("PUT", api.PathHeader(p.vault, 3), []byte(h2)).code(api.CodeBadHeader)
		p.do("PUT", api.PathHeader(p.vault, 2), []byte(h2)).want(201)
		p.do("PUT", api.PathHeader(p.vault, 2), []byte(h2)).want(200)
		p.headers = p.headers[:1]
		p.do("PUT", api.PathHeader(p.vault, 2), []byte(p.header(func(h map[string]any) { h["write"] = "v4" }))).code(api.CodeSeqTaken)
		boot := *p
		boot.token = ""
		boot.do("GET", api.PathHeader(p.vault, 0), nil, api.HeaderBoot, fmt.Sprintf("%x", p.boot)).want(200)
		boot.do("GET", api.PathHeader(p.vault, 0), nil, api.HeaderBoot, "00").code(api.CodeSessionInvalid)
		boot.do("GET", api.PathHeader(newID(), 0), nil, api.HeaderBoot, fmt.Sprintf("%x", p.boot)).code(api.CodeSessionInvalid)
		boot.do("GET", path(1), nil, api.HeaderBoot, fmt.Sprintf("%x", p.boot)).code(api.CodeSessionInvalid)

		pair := fmt.Sprintf("%032x", 7)
		boot.do("PUT", api.PathPair(p.vault, pair, "q"), []byte("q"), api.HeaderBoot, fmt.Sprintf("%x", p.boot)).want(201)
		p.do("GET", api.PathPair(p.vault, pair, "q"), nil).want(200)
		p.do("PUT", api.PathPair(p.vault, pair, "q"), []byte("other")).code(api.CodeOtherBytes)
		p.do("PUT", api.PathPair(p.vault, pair, "a"), make([]byte, api.MaxPair+1)).code(api.CodeBodyTooLarge)
		w.pass(api.PairLife + time.Second)
		p.login()
		p.do("GET", api.PathPair(p.vault, pair, "q"), nil).code(api.CodeNotFound)

		state := w.state(p)
		kinds := map[string]int{}
		for i, c := range state.Changes {
			kinds[c.Kind]++
			if i > 0 && c.N <= state.Changes[i-1].N {
				t.Errorf("%d after %d", c.N, state.Changes[i-1].N)
			}
		}
		if kinds["batch"] != 3 || kinds["checkpoint"] != 1 || kinds["header"] != 1 {
			t.Errorf("%v", kinds)
		}
		p.do("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d", state.Head), nil).want(204)
		if e := p.do("GET", api.PathVault(p.vault)+fmt.Sprintf("/changes?after=%d", state.Head+1), nil).code(api.CodeStartOver); e.Head == nil || *e.Head != state.Head {
			t.Errorf("%+v", e)
		}
	})
}

// A slot of the hour is given back when nothing came of the upload.

func TestRegistration(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{Registration: RegistrationInvite})
	must(t, w.o.DB.AddInvite(context.Background(), InviteHash("come in"), w.clock.Load()+1000))
	p := &person{w: w, vault: newID(), identity: newKey(), device: newID(), key: newKey()}
	in := api.Register{Header: p.header(nil), Boot: strings.Repeat("0", 64)}
	p.do("POST", api.PathVaults, in).code(api.CodeInviteInvalid)
	in.Invite = "no"
	p.do("POST", api.PathVaults, in).code(api.CodeInviteInvalid)
	in.Invite = "come in"
	p.do("POST", api.PathVaults, in).want(201)
	p.do("POST", api.PathVaults, in).want(200) // the same again needs no invitation
	q := &person{w: w, vault: newID(), identity: newKey(), device: newID(), key: newKey()}
	in.Header = q.header(nil)
	q.do("POST", api.PathVaults, in).code(api.CodeInviteInvalid) // used
	q.vault, q.headers = p.vault, nil
	in.Header = q.header(nil)
	q.do("POST", api.PathVaults, in).code(api.CodeSeqTaken)
	w.o.Registration = RegistrationClosed
	r := &person{w: w, vault: newID(), identity: newKey(), device: newID(), key: newKey()}
	in.Header = r.header(nil)
	r.do("POST", api.PathVaults, in).code(api.CodeRegistrationClosed)
	in.Header = json.RawMessage(`{"payload":"","sig":""}`)
	r.do("POST", api.PathVaults, in).code(api.CodeBadHeader)
}

// What is malformed gets its documented answer, never a 500.

// The largest legal body is taken; a little more is file_too_large, and what no

// body can be is refused without being read.

// untilWaiting waits until n long polls do.

func TestPutRows(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		content := randomBytes(100)
		m := metadataOf(content)
		p.form(m, content).want(201)
		item := api.Parent{Type: "item", ID: newID(), TitleEncrypted: "t", Epoch: 1, State: api.StateLive}
		row := api.Row{ID: newID(), ParentID: item.ID, ParentType: "item", FileNameEncrypted: sealedText(), ContentTypeEncrypted: sealedText(), SizeBytes: m.SizeBytes,
			WrappedFileKey: wrappedKey(), EncryptionVersion: 3, BlobID: m.BlobID, State: api.StateLive}
		gone := row
		gone.ID, gone.BlobID = newID(), strings.Repeat("e", 32)
		var out api.PutRowsAnswer
		rows := api.PathVault(p.vault) + "/rows"
		p.do("PUT", rows, api.PutRows{Rows: []api.Row{row, gone}, Parents: []api.Parent{item}}).want(200).into(&out)
		if len(out.Results) != 3 || out.Results[0].Version != 1 || out.Results[1].Error == nil || out.Results[1].Error.Code != api.CodeBlobGone || out.Results[2].Error != nil {
			t.Fatalf("%+v", out)
		}
		p.do("PUT", rows, api.PutRows{Rows: []api.Row{row}}).want(200).into(&out)
		if out.Results[0].Error == nil || out.Results[0].Error.Code != api.CodeRowVersion {
			t.Fatalf("%+v", out)
		}
		// A blob that a row names stays; once the row is deleted it may go, and be
		// taken back.
		blobs := api.BlobIDs{Blobs: []string{m.BlobID}}
		var res api.BlobResults
		p.do("POST", api.PathVault(p.vault)+"/blobs/release", blobs).want(200).into(&res)
		if res.Results[0].State != api.BlobPresent {
			t.Fatalf("%+v", res)
		}
		row.State, row.Version = api.StateDeleted, 1
		p.do("PUT", rows, api.PutRows{Rows: []api.Row{row}}).want(200)
		p.do("POST", api.PathVault(p.vault)+"/blobs/release", blobs).want(200).into(&res)
		if res.Results[0].State != api.BlobReleased {
			t.Fatalf("%+v", res)
		}
		p.do("POST", api.PathVault(p.vault)+"/blobs/claim", blobs).want(200).into(&res)
		if res.Results[0].State != api.BlobPresent {
			t.Fatalf("%+v", res)
		}
		var list api.BlobList
		p.do("GET", api.PathVault(p.vault)+"/blobs", nil).want(200).into(&list)
		if len(list.Blobs) != 1 || list.Next != nil {
			t.Fatalf("%+v", list)
		}
	})
}

// Nothing that a client sealed or signed with shows in the log, nor any token.

func TestLogIsBlind(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{})
	p := w.register()
	row := p.upload("item", p.parent("item"), randomBytes(100))
	p.do("GET", api.PathAttachment(row.ID)+"?secret=query", nil).want(200)
	p.do("POST", api.PathAttachments, `{"secret":"body"`).code(api.CodeBadRequest)
	logs := w.logs.String()
	for _, secret := range []string{p.token, "secret", row.FileNameEncrypted, row.WrappedFileKey.Ciphertext, row.ID, fmt.Sprintf("%x", p.boot), p.did()} {
		if strings.Contains(logs, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	if !strings.Contains(logs, "POST /api/vault/attachments") {
		t.Error("the log has no requests")
	}
}

// An object that is gone is announced, so that a device brings it again.

func TestMissingObject(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{})
	p := w.register()
	content := randomBytes(100)
	m := metadataOf(content)
	p.form(m, content).want(201)
	for attrs, err := range w.blobs.List(context.Background(), "", "") {
		must(t, err)
		must(t, w.blobs.Delete(context.Background(), attrs.Key))
	}
	w.look(context.Background(), "")
	p.do("GET", api.PathBlob(p.vault, m.BlobID), nil).code(api.CodeBlobGone)
	if c := w.state(p).Changes; c[len(c)-1].State != api.BlobMissing {
		t.Errorf("%+v", c[len(c)-1])
	}
	p.form(m, content).want(201)
	p.do("GET", api.PathBlob(p.vault, m.BlobID), nil).want(200)
}

// A change through one process wakes who waits at another.
