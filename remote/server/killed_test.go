package server

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

// maxSteps is more than any upload has: a case that reaches it counts wrongly.
const maxSteps = 60

// TestKilledAtEachStep kills the server with SIGKILL at every step of every kind
// of upload: as each transaction begins, before, in and behind each call of the
// store, and before the answer. The client comes again and has what it wanted;
// after the sweep there is no object without a row, no row without an object, and
// every sum is right.
func TestKilledAtEachStep(t *testing.T) {
	onChildren(t, NoLimits(), func(t *testing.T, c *child) {
		p := c.register()
		k := &killing{child: c, p: p, parent: p.parent("item"), want: make(map[string][]byte)}
		every, parts := 1, 3 // parts are much to write, and their steps repeat
		if testing.Short() {
			every, parts = 4, 10
		}
		k.each("JSON in memory", every, func(n int) bool { return k.json(n, 1000) })
		k.each("JSON above what is kept in memory", every, func(n int) bool { return k.json(n, smallBody+5000) })
		k.each("multipart in memory", every, func(n int) bool { return k.form(n, 1000) })
		k.each("multipart above that, releasing another", every, func(n int) bool { return k.form(n, smallBody+5000) })
		k.each("in parts", parts, k.parts)
		k.each("delete", every, k.delete)
		for id, content := range k.want {
			if got := p.do("GET", api.PathBlob(p.vault, id), nil).want(200); !bytes.Equal(got.body, content) {
				t.Errorf("blob %s has other bytes", id)
			}
		}
		c.kill()
		c.opened().settled(c.config.Database)
	})
}

type killing struct {
	*child
	p      *person
	parent string
	want   map[string][]byte // by blob, what was promised
	last   string            // a blob to release next
}

// each runs an upload that is killed at step 1, and again some steps later, until
// one has no more.
func (k *killing) each(name string, every int, run func(n int) (ended bool)) {
	k.t.Helper()
	for n := 1; ; n += every {
		if n > maxSteps {
			k.t.Fatalf("%s: it has no end", name)
		}
		if run(n) {
			if n < 4 {
				k.t.Errorf("%s: only %d steps", name, n-1)
			}
			return
		}
	}
}

// or sends it once more to a new process if the first one was killed.
func (k *killing) or(n int, method, path string, body any, headers ...string) (a *answer, killed bool) {
	k.t.Helper()
	if a = k.sendKilled(k.p, n, method, path, body, headers...); a != nil {
		return a, false
	}
	k.again()
	return k.p.do(method, path, body, headers...), true
}

func (k *killing) json(n, size int) bool {
	content := randomBytes(size)
	a, killed := k.or(n, "POST", api.PathAttachments, uploadBody("item", k.parent, content), api.HeaderIdempotency, newID())
	if a.status != 200 {
		a.want(201)
	}
	var row api.Row
	a.into(&row)
	k.want[row.BlobID] = content
	return !killed
}

func (k *killing) form(n, size int) bool {
	content := randomBytes(size)
	m := metadataOf(content)
	if k.last != "" {
		m.Release = []string{k.last}
		delete(k.want, k.last)
	}
	k.last = m.BlobID
	m.Row = &api.Row{ID: newID(), ParentID: k.parent, ParentType: "item", FileNameEncrypted: sealedText(), ContentTypeEncrypted: sealedText(),
		SizeBytes: m.SizeBytes, WrappedFileKey: wrappedKey(), EncryptionVersion: 3}
	body, typ := formBody(m, content)
	a, killed := k.or(n, "POST", api.PathAttachments, body, "Content-Type", typ)
	if a.status != 200 {
		a.want(201)
	}
	k.want[m.BlobID] = content
	k.p.do("DELETE", api.PathAttachment(m.Row.ID), nil).want(204) // so that the next one may release it
	k.p.do("POST", api.PathVault(k.p.vault)+"/blobs/claim", api.BlobIDs{Blobs: []string{m.BlobID}}).want(200)
	return !killed
}

// parts is killed somewhere in one of its requests; a client goes on where it was,
// or begins again where nothing is left.
func (k *killing) parts(n int) bool {
	size, _ := api.SealedSize(4, 33<<20)
	m := api.Metadata{BlobID: fmt.Sprintf("%032x", n), StoredBytes: size, SHA256: zerosHash(size), SizeBytes: 33 << 20, EncryptionVersion: 4}
	killed := false
	ask := func(method, path string, body any) *answer {
		if !killed {
			if a := k.sendKilled(k.p, n, method, path, body); a != nil {
				left, err := strconv.Atoi(a.header.Get(headerKill))
				must(k.t, err)
				n = left
				return a
			}
			killed = true
			k.again()
		}
		return k.p.do(method, path, body)
	}
	for range 3 {
		var st api.UploadState
		a := ask("POST", api.PathVault(k.p.vault)+"/uploads", m)
		if a.status == 200 {
			break // an answer was lost
		}
		a.want(201).into(&st)
		for part, left := 1, size; left > 0; part++ {
			ask("PUT", api.PathPart(k.p.vault, st.Upload, part), make([]byte, min(left, st.PartSize))).want(204)
			left -= min(left, st.PartSize)
		}
		if a = ask("POST", api.PathUpload(k.p.vault, st.Upload)+"/finish", nil); a.status == 404 {
			continue // it was finished, and the answer lost, or it is to begin anew
		}
		a.want(201)
		break
	}
	k.p.do("HEAD", api.PathBlob(k.p.vault, m.BlobID), nil).want(200)
	// It may go: so much is not kept for every step.
	k.p.do("POST", api.PathVault(k.p.vault)+"/blobs/release", api.BlobIDs{Blobs: []string{m.BlobID}}).want(200)
	return !killed
}

func (k *killing) delete(n int) bool {
	row := k.p.upload("item", k.parent, randomBytes(100))
	a, killed := k.or(n, "DELETE", api.PathAttachment(row.ID), nil)
	a.want(204)
	k.p.do("GET", api.PathAttachment(row.ID), nil).code(api.CodeDeleted)
	return !killed
}
