package server

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
)

func TestDeviceUpload(t *testing.T) {
	onBoth(t, Options{}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("note")
		content := randomBytes(300_000) // above what is kept in memory
		m := metadataOf(content)
		m.Row = rowWith(&m, parent)
		var up api.Uploaded
		p.form(m, content).want(201).into(&up)
		if up.Row == nil || up.Row.Version != 1 || up.Row.By != p.device {
			t.Fatalf("%+v", up)
		}
		p.form(m, content).want(200) // the bytes again; the row has another version by now
		if got := p.do("GET", api.PathBlob(p.vault, m.BlobID), nil).want(200); !bytes.Equal(got.body, content) {
			t.Error("other bytes came back")
		}
		// Refusals leave nothing behind.
		w.Sweep(context.Background())
		before := w.objects()
		for name, c := range map[string]struct {
			change func(*api.Metadata, *[]byte)
			code   api.Code
		}{
			"other hash":   {func(m *api.Metadata, _ *[]byte) { m.SHA256 = strings.Repeat("0", 64) }, api.CodeHashMismatch},
			"longer":       {func(m *api.Metadata, b *[]byte) { *b = append(*b, 1) }, api.CodeLengthMismatch},
			"shorter":      {func(m *api.Metadata, b *[]byte) { *b = (*b)[1:] }, api.CodeLengthMismatch},
			"sizes":        {func(m *api.Metadata, _ *[]byte) { m.SizeBytes++ }, api.CodeLengthMismatch},
			"version":      {func(m *api.Metadata, _ *[]byte) { m.EncryptionVersion = 2 }, api.CodeUnsupportedVersion},
			"blob id":      {func(m *api.Metadata, _ *[]byte) { m.BlobID = "../../x" }, api.CodeBadRequest},
			"row deleted":  {func(m *api.Metadata, _ *[]byte) { m.Row = rowWith(m, parent); m.Row.State = api.StateDeleted }, api.CodeBadRequest},
			"row's blob":   {func(m *api.Metadata, _ *[]byte) { m.Row = rowWith(m, parent); m.Row.BlobID = strings.Repeat("1", 32) }, api.CodeBadRequest},
			"row's hash":   {func(m *api.Metadata, _ *[]byte) { m.Row = rowWith(m, parent); m.Row.SHA256 = strings.Repeat("1", 64) }, api.CodeBadRequest},
			"row's length": {func(m *api.Metadata, _ *[]byte) { m.Row = rowWith(m, parent); m.Row.StoredBytes++ }, api.CodeBadRequest},
			"row's size":   {func(m *api.Metadata, _ *[]byte) { m.Row = rowWith(m, parent); m.Row.SizeBytes++ }, api.CodeBadRequest},
			"release self": {func(m *api.Metadata, _ *[]byte) { m.Release = []string{m.BlobID} }, api.CodeBadRequest},
		} {
			for _, n := range []int{100, 300_000} {
				body := randomBytes(n)
				bad := metadataOf(body)
				c.change(&bad, &body)
				t.Log(name, n)
				p.form(bad, body).code(c.code)
			}
		}
		w.Sweep(context.Background())
		if n := w.objects(); n != before {
			t.Errorf("%d objects, %d before", n, before)
		}
		others := randomBytes(64)
		other := metadataOf(others)
		other.BlobID = m.BlobID
		p.form(other, others).code(api.CodeOtherBytes)
		// A row that is refused does not refuse the bytes.
		bytesOnly := randomBytes(100)
		stale := metadataOf(bytesOnly)
		stale.Row = &api.Row{}
		*stale.Row = *m.Row
		stale.Row.SizeBytes, stale.Row.Version = stale.SizeBytes, 7
		p.form(stale, bytesOnly).want(201).into(&up)
		if up.RowError == nil || up.RowError.Code != api.CodeRowVersion {
			t.Errorf("%+v", up)
		}
		p.do("GET", api.PathBlob(p.vault, stale.BlobID), nil).want(200)
	})
}

// rowWith is a note's row that says no more of a content than it has to.
func rowWith(m *api.Metadata, parent string) *api.Row {
	return &api.Row{ID: newID(), ParentID: parent, ParentType: "note", FileNameEncrypted: sealedText(), ContentTypeEncrypted: sealedText(),
		SizeBytes: m.SizeBytes, WrappedFileKey: wrappedKey(), EncryptionVersion: m.EncryptionVersion}
}

func TestUploadInParts(t *testing.T) {
	onBoth(t, Options{FileLimit: 1 << 30}, func(t *testing.T, w *world) {
		p := w.register()
		size, _ := api.SealedSize(4, 40<<20)
		content := randomBytes(int(size))
		m := metadataOf(content)
		m.SizeBytes, m.EncryptionVersion = 40<<20, 4
		var st api.UploadState
		uploads := api.PathVault(p.vault) + "/uploads"
		p.do("POST", uploads, m).want(201).into(&st)
		part := func(n int) []byte {
			from := int64(n-1) * st.PartSize
			return content[from:min(size, from+st.PartSize)]
		}
		p.do("PUT", api.PathPart(p.vault, st.Upload, 2), part(2)).want(204)
		p.do("PUT", api.PathPart(p.vault, st.Upload, 1), part(2)[:100]).code(api.CodeLengthMismatch)
		p.do("PUT", api.PathPart(p.vault, st.Upload, 9), part(2)).code(api.CodeBadRequest)
		p.do("POST", api.PathUpload(p.vault, st.Upload)+"/finish", nil).code(api.CodeLengthMismatch)
		p.do("PUT", api.PathPart(p.vault, st.Upload, 1), part(1)).want(204)
		var now api.UploadState
		p.do("GET", api.PathUpload(p.vault, st.Upload), nil).want(200).into(&now)
		if len(now.Parts) != 2 {
			t.Fatalf("%+v", now)
		}
		p.do("PUT", api.PathPart(p.vault, st.Upload, 3), part(3)).want(204)
		p.do("POST", api.PathUpload(p.vault, st.Upload)+"/finish", nil).want(201)
		if got := p.do("GET", api.PathBlob(p.vault, m.BlobID), nil).want(200); !bytes.Equal(got.body, content) {
			t.Error("other bytes came back")
		}
		p.do("GET", api.PathUpload(p.vault, st.Upload), nil).code(api.CodeNotFound)
		p.do("POST", uploads, m).want(200)
		// One that is given up gives its reservation back.
		m.BlobID = strings.Repeat("1", 32)
		p.do("POST", uploads, m).want(201).into(&st)
		p.do("DELETE", api.PathUpload(p.vault, st.Upload), nil).want(204)
		var u api.Usage
		p.do("GET", api.PathUsage, nil).want(200).into(&u)
		if u.Usage != size || u.Remaining != u.Limit-size {
			t.Errorf("%+v", u)
		}
	})
}

func TestQuotaAnswer(t *testing.T) {
	onBoth(t, Options{Quota: 1000}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("item")
		p.upload("item", parent, randomBytes(900))
		e := p.do("POST", api.PathAttachments, uploadBody("item", parent, randomBytes(200))).code(api.CodeQuotaExceeded)
		if e.Quota == nil || e.Usage != 900 || e.Limit != 1000 || e.Remaining != 100 {
			t.Errorf("%+v", e.Quota)
		}
		big := uploadBody("item", parent, randomBytes(300_000))
		p.do("POST", api.PathAttachments, big).code(api.CodeQuotaExceeded)
		w.Sweep(context.Background())
		if n := w.objects(); n != 1 {
			t.Errorf("%d objects", n)
		}
	})
}

func TestRateAnswers(t *testing.T) {
	onBoth(t, Options{Plan: api.PlanFree}, func(t *testing.T, w *world) {
		p := w.register()
		parent := p.parent("item")
		var row api.Row
		for range 10 {
			row = p.upload("item", parent, randomBytes(100))
		}
		res := p.do("POST", api.PathAttachments, uploadBody("item", parent, randomBytes(100)))
		res.code(api.CodeRateLimited)
		if after := res.header.Get("Retry-After"); after != "3600" {
			t.Errorf("Retry-After %s", after)
		}
		for range 30 {
			p.do("GET", api.PathAttachments+"?parent_type=item&parent_id="+parent, nil).want(200)
			p.do("GET", api.PathAttachment(row.ID), nil).want(200)
		}
		p.do("GET", api.PathAttachments+"?parent_type=item&parent_id="+parent, nil).code(api.CodeRateLimited)
		p.do("GET", api.PathAttachment(row.ID), nil).code(api.CodeRateLimited)
		w.pass(time.Minute + time.Second)
		p.do("GET", api.PathAttachment(row.ID), nil).want(200)
		// Synchronisation is for premium.
		p.do("PUT", api.PathBatch(p.vault, p.device, 1), p.batch()).code(api.CodePlanRequired)
		var u api.Usage
		p.do("GET", api.PathUsage, nil).want(200).into(&u)
		if u.Plan != api.PlanFree || u.Limit != freeQuota || len(u.Gates) == 0 || u.Gates[0].Used != 10 {
			t.Errorf("%+v", u)
		}
	})
}

func TestFailedUploadCostsNoSlot(t *testing.T) {
	w := newWorld(t, t.TempDir()+"/m.db", Options{})
	p := w.register()
	parent := p.parent("item")
	for range 15 {
		body := uploadBody("item", parent, randomBytes(100))
		body["size_bytes"] = 5
		p.do("POST", api.PathAttachments, body).code(api.CodeLengthMismatch)
	}
	p.upload("item", parent, randomBytes(100))
}
