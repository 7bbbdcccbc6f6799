package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Run puts a store through everything the contract promises. open gives an
// empty store; partSize is the smallest part it takes.
func Run(t *testing.T, open func(*testing.T) blob.Store, partSize int64) {
	cases := []struct {
		name string
		run  func(*testing.T, blob.Store)
	}{
		{"PutGet", testPutGet},
		{"Ranges", testRanges},
		{"Missing", testMissing},
		{"CreateOnly", testCreateOnly},
		{"CreateOnlyRace", testCreateOnlyRace},
		{"Replace", testReplace},
		{"ReplaceUnderReaders", testReplaceUnderReaders},
		{"WrongSize", testWrongSize},
		{"BrokenReader", testBrokenReader},
		{"Cancelled", testCancelled},
		{"List", testList},
		{"ListStops", testListStops},
		{"Delete", testDelete},
		{"HostileKeys", testHostileKeys},
		{"KeyAndFolder", testKeyAndFolder},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
	runUploads(t, open, partSize)
}

// Bytes gives n bytes that look random and are the same for the same n.
func Bytes(n int64) []byte {
	var seed [32]byte
	seed[0], seed[1] = byte(n), byte(n>>8)
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

func put(t *testing.T, s blob.Store, key string, b []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, bytes.NewReader(b), int64(len(b)), true); err != nil {
		t.Fatalf("Put %s: %v", key, err)
	}
}

func get(ctx context.Context, s blob.Store, key string, off, n int64) ([]byte, error) {
	r, err := s.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func wantContent(t *testing.T, s blob.Store, key string, want []byte) {
	t.Helper()
	got, err := get(t.Context(), s, key, 0, -1)
	if err != nil {
		t.Fatalf("Get %s: %v", key, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("Get %s: %d bytes, not the %d that were stored", key, len(got), len(want))
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func testPutGet(t *testing.T, s blob.Store) {
	for _, n := range []int64{0, 1, 4095, 4096, 300_000} {
		key := fmt.Sprintf("vaults/x/blobs/%d.bin", n)
		put(t, s, key, Bytes(n))
		wantContent(t, s, key, Bytes(n))
		attrs, err := s.Head(t.Context(), key)
		if err != nil || attrs.Size != n || attrs.Key != key || attrs.ETag == "" || attrs.ModTime.IsZero() {
			t.Errorf("Head %s: %+v, %v", key, attrs, err)
		}
	}
}

func testRanges(t *testing.T, s blob.Store) {
	whole := Bytes(1000)
	put(t, s, "a", whole)
	for _, off := range []int64{0, 1, 500, 999, 1000, 1001, 5000} {
		for _, n := range []int64{-1, 0, 1, 499, 1000, 5000} {
			want := whole[min(off, 1000):]
			if n >= 0 {
				want = want[:min(n, int64(len(want)))]
			}
			got, err := get(t.Context(), s, "a", off, n)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Get %d+%d: %d bytes, %v, want %d", off, n, len(got), err, len(want))
			}
		}
	}
}

func testMissing(t *testing.T, s blob.Store) {
	put(t, s, "folder/there", nil)
	for _, key := range []string{"a", "folder/a", "other/a", "folder"} {
		_, err := s.Get(t.Context(), key, 0, -1)
		wantErr(t, "Get "+key, err, blob.ErrNotFound)
		_, err = s.Head(t.Context(), key)
		wantErr(t, "Head "+key, err, blob.ErrNotFound)
		wantErr(t, "Delete "+key, s.Delete(t.Context(), key), nil)
	}
	wantContent(t, s, "folder/there", nil)
}

func testCreateOnly(t *testing.T, s blob.Store) {
	put(t, s, "d/a", []byte("first"))
	err := s.Put(t.Context(), "d/a", strings.NewReader("second"), 6, true)
	wantErr(t, "second Put", err, blob.ErrExist)
	wantContent(t, s, "d/a", []byte("first"))
}

func testCreateOnlyRace(t *testing.T, s blob.Store) {
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body := Bytes(int64(1000 + i))
			err := s.Put(t.Context(), "race/a", bytes.NewReader(body), int64(len(body)), true)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, blob.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers created the same blob", won.Load())
	}
}

func testReplace(t *testing.T, s blob.Store) {
	put(t, s, "tip", []byte("one"))
	before, _ := s.Head(t.Context(), "tip")
	if err := s.Put(t.Context(), "tip", strings.NewReader("three"), 5, false); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "tip", []byte("three"))
	after, err := s.Head(t.Context(), "tip")
	if err != nil || after.ETag == before.ETag {
		t.Errorf("ETag %q stayed after the content changed: %v", after.ETag, err)
	}
}

func testReplaceUnderReaders(t *testing.T, s blob.Store) {
	const n = 50_000
	put(t, s, "tip", bytes.Repeat([]byte{'0'}, n))
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 20 {
				b := bytes.Repeat([]byte{byte('a' + w*10 + i%10)}, n)
				if err := s.Put(t.Context(), "tip", bytes.NewReader(b), n, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 50 {
				b, err := get(t.Context(), s, "tip", 0, -1)
				if err != nil || len(b) != n || bytes.Count(b, b[:1]) != n {
					t.Errorf("reader saw a mixture of %d bytes: %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
}

func testWrongSize(t *testing.T, s blob.Store) {
	put(t, s, "d/a", []byte("old"))
	for _, announced := range []int64{0, 4, 6, 1 << 20} {
		err := s.Put(t.Context(), "d/a", strings.NewReader("12345"), announced, false)
		wantErr(t, fmt.Sprintf("Put of 5 bytes as %d", announced), err, blob.ErrSize)
		err = s.Put(t.Context(), "d/b", strings.NewReader("12345"), announced, true)
		wantErr(t, fmt.Sprintf("new Put of 5 bytes as %d", announced), err, blob.ErrSize)
	}
	wantContent(t, s, "d/a", []byte("old"))
	wantKeys(t, s.List(t.Context(), "", ""), "d/a")
}

func testBrokenReader(t *testing.T, s blob.Store) {
	put(t, s, "d/a", []byte("old"))
	broken := errors.New("the reader broke")
	r := io.MultiReader(bytes.NewReader(Bytes(100_000)), failing{broken})
	err := s.Put(t.Context(), "d/a", r, 200_000, false)
	wantErr(t, "Put", err, broken)
	wantContent(t, s, "d/a", []byte("old"))
	wantKeys(t, s.List(t.Context(), "", ""), "d/a")
}

func testCancelled(t *testing.T, s blob.Store) {
	put(t, s, "d/a", []byte("old"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "Put", s.Put(ctx, "d/a", strings.NewReader("new"), 3, false), context.Canceled)
	_, err := get(ctx, s, "d/a", 0, -1)
	wantErr(t, "Get", err, context.Canceled)
	_, err = s.Head(ctx, "d/a")
	wantErr(t, "Head", err, context.Canceled)
	wantErr(t, "Delete", s.Delete(ctx, "d/a"), context.Canceled)
	_, err = collect(s.List(ctx, "", ""))
	wantErr(t, "List", err, context.Canceled)
	wantContent(t, s, "d/a", []byte("old"))
}

func collect(list iter.Seq2[blob.Attrs, error]) (keys []string, err error) {
	for attrs, err := range list {
		if err != nil {
			return keys, err
		}
		keys = append(keys, attrs.Key)
	}
	return keys, nil
}

func wantKeys(t *testing.T, list iter.Seq2[blob.Attrs, error], want ...string) {
	t.Helper()
	got, err := collect(list)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("List: %q, %v, want %q", got, err, want)
	}
}

func testList(t *testing.T, s blob.Store) {
	// '-' sorts before '/', '0' behind it: a store of folders must not sort
	// folder by folder.
	keys := []string{"a-b", "a/b", "a/c/d", "a/c0", "a0", "b/00000000000000000001.json", "tip"}
	for i := range keys {
		put(t, s, keys[(i*3)%len(keys)], Bytes(int64(i)))
	}
	prefixes := []string{"", "a", "a/", "a/c", "a/c/", "a/c/d", "a/c/d/", "b/0", "t", "x", "a/x"}
	afters := append([]string{"", "a", "a/", "a/c", "a/c/", "a/c/z", "a/b0", "zzz"}, keys...)
	for _, prefix := range prefixes {
		for _, after := range afters {
			var want []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			got, err := collect(s.List(t.Context(), prefix, after))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("List(%q, %q): %q, %v, want %q", prefix, after, got, err, want)
			}
		}
	}
}

func testListStops(t *testing.T, s blob.Store) {
	for i := range 5 {
		put(t, s, fmt.Sprintf("d%d/a", i), Bytes(int64(i)))
	}
	seen := 0
	for attrs, err := range s.List(t.Context(), "d", "") {
		if err != nil || attrs.Size != int64(seen) {
			t.Errorf("entry %d: %+v, %v", seen, attrs, err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("%d entries before the stop", seen)
	}
}

func testDelete(t *testing.T, s blob.Store) {
	put(t, s, "d/a", []byte("x"))
	put(t, s, "d/b", []byte("y"))
	for range 2 {
		wantErr(t, "Delete", s.Delete(t.Context(), "d/a"), nil)
		_, err := s.Head(t.Context(), "d/a")
		wantErr(t, "Head of the deleted", err, blob.ErrNotFound)
	}
	wantKeys(t, s.List(t.Context(), "", ""), "d/b")
	put(t, s, "d/a", []byte("again"))
	wantContent(t, s, "d/a", []byte("again"))
}

// HostileKeys are keys that every store refuses.
var HostileKeys = []string{
	"", "/", "/etc/passwd", "..", "../a", "a/..", "a/../b", "a/../../b", ".", "./a", "a/.", "a//b", "a/", "/a",
	"a\x00b", "a\x00", "\x00", "a\nb", "a b", `a\b`, "a:b", "ä", "\xff", ".tmp-a", ".up-a", "d/.hidden", "~", "$(x)", "%2e%2e/a",
	strings.Repeat("x", blob.MaxComponent+1), strings.Repeat("x/", blob.MaxKey/2) + "x",
}

func testHostileKeys(t *testing.T, s blob.Store) {
	ctx := t.Context()
	for _, key := range HostileKeys {
		what := fmt.Sprintf(" %.30q", key)
		wantErr(t, "Put"+what, s.Put(ctx, key, strings.NewReader("x"), 1, false), blob.ErrKey)
		_, err := s.Get(ctx, key, 0, -1)
		wantErr(t, "Get"+what, err, blob.ErrKey)
		_, err = s.Head(ctx, key)
		wantErr(t, "Head"+what, err, blob.ErrKey)
		wantErr(t, "Delete"+what, s.Delete(ctx, key), blob.ErrKey)
		_, err = s.Start(ctx, blob.Upload{Key: key, PartSize: 1})
		wantErr(t, "Start"+what, err, blob.ErrKey)
	}
	wantKeys(t, s.List(ctx, "", ""))
	longest := strings.Repeat("x", blob.MaxComponent)
	put(t, s, longest, []byte("x"))
	wantContent(t, s, longest, []byte("x"))
}

// testKeyAndFolder lets a flat store keep both, if it keeps them apart.
func testKeyAndFolder(t *testing.T, s blob.Store) {
	put(t, s, "a/b", []byte("x"))
	put(t, s, "c", []byte("y"))
	for _, createOnly := range []bool{false, true} {
		for _, key := range []string{"a", "c/d"} {
			if err := s.Put(t.Context(), key, strings.NewReader("z"), 1, createOnly); err == nil {
				wantContent(t, s, key, []byte("z"))
				wantErr(t, "Delete "+key, s.Delete(t.Context(), key), nil)
			}
		}
	}
	wantContent(t, s, "a/b", []byte("x"))
	wantContent(t, s, "c", []byte("y"))
}
