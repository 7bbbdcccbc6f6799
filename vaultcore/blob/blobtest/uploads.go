package blobtest

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

func runUploads(t *testing.T, open func(*testing.T) blob.Store, partSize int64) {
	cases := []struct {
		name string
		run  func(*testing.T, blob.Store, int64)
	}{
		{"Upload", testUpload},
		{"UploadResumed", testUploadResumed},
		{"UploadPartAgain", testUploadPartAgain},
		{"UploadRefused", testUploadRefused},
		{"UploadAbandoned", testUploadAbandoned},
		{"UploadCreateOnly", testUploadCreateOnly},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t), partSize) })
	}
}

func start(t *testing.T, s blob.Store, key string, partSize int64) blob.Upload {
	t.Helper()
	up, err := s.Start(t.Context(), blob.Upload{Key: key, PartSize: partSize})
	if err != nil || up.ID == "" || up.Key != key || up.PartSize != partSize || len(up.Parts) != 0 {
		t.Fatalf("Start: %+v, %v", up, err)
	}
	return up
}

func sendPart(t *testing.T, s blob.Store, up blob.Upload, number int, b []byte) blob.Part {
	t.Helper()
	part, err := s.Part(t.Context(), up, number, bytes.NewReader(b), int64(len(b)))
	if err != nil || part.Number != number || part.Size != int64(len(b)) {
		t.Fatalf("Part %d: %+v, %v", number, part, err)
	}
	return part
}

func testUpload(t *testing.T, s blob.Store, partSize int64) {
	whole := Bytes(3*partSize + 100)
	up := start(t, s, "d/big", partSize)
	up.Parts = make([]blob.Part, 4)
	var wg sync.WaitGroup
	for _, number := range []int{4, 1, 3, 2} {
		wg.Go(func() {
			from := int64(number-1) * partSize
			b := whole[from:min(from+partSize, int64(len(whole)))]
			up.Parts[number-1] = sendPart(t, s, up, number, b)
		})
	}
	wg.Wait()
	wantKeys(t, s.List(t.Context(), "", "")) // an upload is no blob
	if err := s.Finish(t.Context(), up, true); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "d/big", whole)
	wantKeys(t, s.List(t.Context(), "", ""), "d/big")
	_, err := s.Start(t.Context(), up)
	wantErr(t, "Start of a finished upload", err, blob.ErrNotFound)
}

func testUploadResumed(t *testing.T, s blob.Store, partSize int64) {
	whole := Bytes(2*partSize + 1)
	up := start(t, s, "big", partSize)
	third := sendPart(t, s, up, 3, whole[2*partSize:])
	first := sendPart(t, s, up, 1, whole[:partSize])

	found, err := s.Start(t.Context(), blob.Upload{Key: "big", ID: up.ID, PartSize: partSize})
	if err != nil || !slices.Equal(found.Parts, []blob.Part{first, third}) {
		t.Fatalf("taken up again with %+v, %v", found.Parts, err)
	}
	second := sendPart(t, s, found, 2, whole[partSize:2*partSize])
	found.Parts = []blob.Part{first, second, third}
	if err := s.Finish(t.Context(), found, true); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "big", whole)
}

func testUploadPartAgain(t *testing.T, s blob.Store, partSize int64) {
	up := start(t, s, "big", partSize)
	stale := sendPart(t, s, up, 1, Bytes(partSize))
	again := bytes.Repeat([]byte("x"), int(partSize)-1)
	up.Parts = []blob.Part{sendPart(t, s, up, 1, again)}
	if err := s.Finish(t.Context(), blob.Upload{Key: "big", ID: up.ID, PartSize: partSize, Parts: []blob.Part{stale}}, true); err == nil {
		t.Error("a part that was replaced was taken")
	}
	if err := s.Finish(t.Context(), up, true); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "big", again)
}

func testUploadRefused(t *testing.T, s blob.Store, partSize int64) {
	ctx := t.Context()
	_, err := s.Start(ctx, blob.Upload{Key: "big", PartSize: 0})
	wantErr(t, "Start without a part size", err, blob.ErrSize)
	for _, id := range []string{"nothing", "../../etc/passwd", strings.Repeat("0", 32)} {
		none := blob.Upload{Key: "big", ID: id, PartSize: partSize}
		_, err = s.Start(ctx, none)
		wantErr(t, "Start of "+id, err, blob.ErrNotFound)
		_, err = s.Part(ctx, none, 1, strings.NewReader("x"), 1)
		wantErr(t, "Part of "+id, err, blob.ErrNotFound)
	}
	up := start(t, s, "big", partSize)
	for _, number := range []int{0, -1} {
		_, err = s.Part(ctx, up, number, strings.NewReader("x"), 1)
		wantErr(t, "Part without a place", err, blob.ErrSize)
	}
	_, err = s.Part(ctx, up, 1, bytes.NewReader(Bytes(partSize+1)), partSize+1)
	wantErr(t, "too large a part", err, blob.ErrSize)
	_, err = s.Part(ctx, up, 1, strings.NewReader("x"), 2)
	wantErr(t, "part of another size", err, blob.ErrSize)

	one := sendPart(t, s, up, 1, Bytes(partSize))
	three := sendPart(t, s, up, 3, []byte("x"))
	for _, parts := range [][]blob.Part{{one, three}, {three}, {three, one}} {
		up.Parts = parts
		wantErr(t, "Finish with a gap", s.Finish(ctx, up, true), blob.ErrSize)
	}
	wantKeys(t, s.List(ctx, "", ""))
}

func testUploadAbandoned(t *testing.T, s blob.Store, partSize int64) {
	up := start(t, s, "big", partSize)
	sendPart(t, s, up, 1, Bytes(partSize))
	up.Parts = nil
	for range 2 {
		if err := s.Finish(t.Context(), up, true); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Start(t.Context(), up)
	wantErr(t, "Start of an abandoned upload", err, blob.ErrNotFound)
	wantKeys(t, s.List(t.Context(), "", ""))
}

func testUploadCreateOnly(t *testing.T, s blob.Store, partSize int64) {
	up := start(t, s, "big", partSize)
	up.Parts = []blob.Part{sendPart(t, s, up, 1, []byte("new"))}
	put(t, s, "big", []byte("first"))
	wantErr(t, "Finish over a blob", s.Finish(t.Context(), up, true), blob.ErrExist)
	wantContent(t, s, "big", []byte("first"))
	if err := s.Finish(t.Context(), up, false); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "big", []byte("new"))
}
