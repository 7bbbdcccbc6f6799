package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Lengths around every border of the formats.
var lengths = []int{0, 1, 2, 15, 16, 17, 4095, 4096, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 2*ChunkSize + 1, 40000}

func TestV3RoundTrip(t *testing.T) {
	for _, n := range append(lengths, MaxV3) {
		fk := NewKey()
		blob := sealedV3(t, &fk, pattern(n))
		if int64(len(blob)) != SealedSizeV3(int64(n)) {
			t.Errorf("%d bytes: blob of %d", n, len(blob))
		}
		hdr := HdrOfV3(blob)
		got, err := OpenV3(&fk, blob, int64(n), hdr[:])
		if err != nil || !bytes.Equal(got, pattern(n)) || cap(got) != len(got) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestV3SealInPlace(t *testing.T) {
	buf := make([]byte, 0, 100)
	blob, err := SealV3(keyFrom(1), buf, 72)
	if err != nil || &blob[0] != &buf[:1][0] {
		t.Errorf("not in place: %v", err)
	}
	_, err = SealV3(keyFrom(1), buf, 73)
	wantErr(t, "buffer one byte short", err, ErrFormat)
	_, err = SealV3(keyFrom(1), buf, -1)
	wantErr(t, "negative length", err, ErrFormat)
	_, err = SealV3(keyFrom(1), nil, MaxV3+1)
	wantErr(t, "25 MiB and a byte", err, ErrTooLarge)
}

// "blob < 28 bytes / > limit".
func TestV3Length(t *testing.T) {
	for n := range OverheadV3 {
		_, err := OpenV3(keyFrom(1), make([]byte, n), 0, nil)
		wantErr(t, fmt.Sprint(n, " bytes"), err, ErrTruncated)
	}
	_, err := OpenV3(keyFrom(1), make([]byte, MaxV3+OverheadV3+1), MaxV3+1, nil)
	wantErr(t, "above the limit", err, ErrTooLarge)
}

// "plaintext length ≠ size_bytes or the log's size".
func TestV3Size(t *testing.T) {
	fk := keyFrom(1)
	for _, size := range []int64{-1, 0, 999, 1001, 1 << 62} {
		_, err := OpenV3(fk, sealedV3(t, fk, pattern(1000)), size, nil)
		wantErr(t, fmt.Sprint("record says ", size), err, ErrSize)
	}
}

// "tag failure": every bit, every cut, every extension; nothing is released.
func TestV3Mutations(t *testing.T) {
	fk := keyFrom(1)
	plain := []byte(strings.Repeat("canary ", 20))
	blob := sealedV3(t, fk, plain)
	fails := func(what string, b []byte, want error, hdr []byte) {
		t.Helper()
		got, err := OpenV3(fk, b, int64(len(b)-OverheadV3), hdr)
		wantErr(t, what, err, want)
		if got != nil || bytes.Contains(b, []byte("canary")) {
			t.Errorf("%s: plaintext released", what)
		}
	}
	for bit := range 8 * len(blob) {
		fails(fmt.Sprint("bit ", bit), flipped(blob, bit), ErrAuth, nil)
	}
	hdr := HdrOfV3(blob)
	for n := OverheadV3; n < len(blob); n++ {
		fails(fmt.Sprint("cut to ", n), bytes.Clone(blob[:n]), ErrAuth, nil)
		fails(fmt.Sprint("cut in front to ", n), bytes.Clone(blob[len(blob)-n:]), ErrAuth, nil)
		fails(fmt.Sprint("cut, with hdr, to ", n), bytes.Clone(blob[:n]), ErrBlobMismatch, hdr[:])
	}
	for _, n := range []int{1, 16, 28, 4096} {
		fails(fmt.Sprint("extended by ", n), append(bytes.Clone(blob), make([]byte, n)...), ErrAuth, nil)
	}
	_, err := OpenV3(keyFrom(2), bytes.Clone(blob), int64(len(plain)), nil)
	wantErr(t, "another key", err, ErrAuth)
	other := sealedV3(t, fk, plain)
	_, err = OpenV3(fk, other, int64(len(plain)), hdr[:])
	wantErr(t, "another blob of the same key", err, ErrBlobMismatch)
	_, err = OpenV3(fk, bytes.Clone(blob), int64(len(plain)), hdr[:27])
	wantErr(t, "hdr of 27 bytes", err, ErrFormat)
}

func TestRawV3(t *testing.T) {
	fk := keyFrom(1)
	for _, n := range []int{0, 1, 2, 3, 1000} {
		blob := sealedV3(t, fk, pattern(n))
		for _, stored := range [][]byte{blob, []byte(EncodeBase64(blob))} {
			got, err := RawV3(stored, int64(n))
			if err != nil || !bytes.Equal(got, blob) {
				t.Errorf("%d bytes stored as %d: %v", n, len(stored), err)
			}
		}
		_, err := RawV3(blob[1:], int64(n))
		wantErr(t, "neither length", err, ErrSize)
		text := []byte(EncodeBase64(blob))
		text[3] = '\n'
		_, err = RawV3(text, int64(n))
		wantErr(t, "line end in base64", err, ErrEncoding)
	}
	_, err := RawV3(nil, MaxV3+1)
	wantErr(t, "size above the limit", err, ErrTooLarge)
}

// Each step size gives the same blob as one call, and reads it back.
func TestV4RoundTrip(t *testing.T) {
	fk := keyFrom(1)
	for _, n := range lengths {
		plain := pattern(n)
		c, whole := sealedV4(fk, testVault, testBlob, plain)
		for _, step := range []int{ChunkSize, 2 * ChunkSize, 8 * ChunkSize} {
			blob, k := c.Header(), uint64(0)
			rest := plain
			for len(rest) >= step {
				blob = c.SealChunks(blob, rest[:step], k, false)
				rest, k = rest[step:], k+uint64(step/ChunkSize)
			}
			blob = c.SealChunks(blob, rest, k, true)
			if !bytes.Equal(blob, whole) {
				t.Errorf("%d bytes in steps of %d: another blob", n, step)
			}
			readInSteps(t, c, whole, plain, step/ChunkSize)
		}
		if got := ChunksV4(int64(n)); SealedOffV4(uint64(got)) <= int64(len(whole)) || SealedOffV4(uint64(got-1)) > int64(len(whole)) {
			t.Errorf("%d bytes: %d chunks", n, got)
		}
	}
}

func readInSteps(t *testing.T, c *ContentV4, blob, plain []byte, chunks int) {
	t.Helper()
	var got []byte
	buf := make([]byte, chunks*ChunkSize)
	for k := 0; ; k += chunks {
		off := int(SealedOffV4(uint64(k)))
		if off >= len(blob) {
			break
		}
		n, err := c.OpenChunks(buf, blob[off:min(off+chunks*SealedChunk, len(blob))], uint64(k))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, plain) {
		t.Errorf("%d bytes in steps of %d chunks differ", len(plain), chunks)
	}
}

// PlainSizeV4 is the inverse of SealedSizeV4, and nothing else has an inverse.
func TestV4Sizes(t *testing.T) {
	valid := map[int64]int64{}
	for p := range int64(3*ChunkSize + 10) {
		valid[SealedSizeV4(p)] = p
	}
	for c := int64(0); c < SealedSizeV4(3*ChunkSize); c++ {
		p, ok := valid[c]
		got, err := PlainSizeV4(c)
		if ok != (err == nil) || ok && got != p {
			t.Fatalf("blob of %d: got %d, %v", c, got, err)
		}
	}
	for _, p := range []int64{MaxV3, 1<<31 - 1, 1 << 31, 1 << 32, MaxV4 - 1, MaxV4} {
		if got, err := PlainSizeV4(SealedSizeV4(p)); err != nil || got != p {
			t.Errorf("%d: got %d, %v", p, got, err)
		}
		for _, version := range []int{V3, V4} {
			_, err := SealedSize(version, p)
			if ok := version == V4 || p <= MaxV3; ok != (err == nil) {
				t.Errorf("version %d, %d bytes: %v", version, p, err)
			}
		}
	}
	_, err := SealedSize(V4, MaxV4+1)
	wantErr(t, "above 1 TiB", err, ErrTooLarge)
	_, err = SealedSize(V4, -1)
	wantErr(t, "negative", err, ErrSize)
}

// "C < 80, or r = 0 (cut at a chunk border), or short read".
func TestV4Truncated(t *testing.T) {
	for _, c := range []int64{-1, 0, 63, 64, 79} {
		_, err := PlainSizeV4(c)
		wantErr(t, fmt.Sprint(c, " bytes"), err, ErrTruncated)
	}
	for k := range uint64(5) {
		_, err := PlainSizeV4(SealedOffV4(k))
		wantErr(t, fmt.Sprint("cut before chunk ", k), err, ErrTruncated)
	}
	c, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(100))
	_, err := OpenHeaderV4(keyFrom(1), testVault, testBlob, blob[:63])
	wantErr(t, "63 bytes of header", err, ErrTruncated)
	_, err = c.OpenChunks(nil, nil, 0)
	wantErr(t, "no chunk", err, ErrTruncated)
}

// "r in 1…15, wrong magic, C above the limit".
func TestV4Format(t *testing.T) {
	c, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(100))
	for r := int64(1); r < tagSize; r++ {
		_, err := PlainSizeV4(SealedOffV4(3) + r)
		wantErr(t, fmt.Sprint("r = ", r), err, ErrFormat)
		_, err = c.OpenChunks(make([]byte, ChunkSize), make([]byte, SealedChunk+r), 0)
		wantErr(t, fmt.Sprint("chunk and ", r), err, ErrFormat)
	}
	for bit := range 8 * len(magicV4) {
		h := flipped(blob[:HeaderV4], bit)
		_, err := OpenHeaderV4(keyFrom(1), testVault, testBlob, h)
		wantErr(t, fmt.Sprint("magic bit ", bit), err, ErrFormat)
		wantErr(t, "verify", VerifyHeaderV4(h, h), ErrFormat)
	}
	_, err := OpenHeaderV4(keyFrom(1), testVault, testBlob, blob[:HeaderV4+1])
	wantErr(t, "65 bytes of header", err, ErrFormat)
	_, err = PlainSizeV4(SealedSizeV4(MaxV4) + 1)
	wantErr(t, "above the limit", err, ErrTooLarge)
	_, err = c.OpenChunks(make([]byte, 16), make([]byte, 32), maxChunksV4)
	wantErr(t, "chunk number above the limit", err, ErrTooLarge)
}

// "first 64 bytes ≠ log".
func TestV4BlobMismatch(t *testing.T) {
	_, blob := sealedV4(keyFrom(1), testVault, testBlob, nil)
	row := bytes.Clone(blob[:HeaderV4])
	if err := VerifyHeaderV4(blob[:HeaderV4], row); err != nil {
		t.Error(err)
	}
	for bit := 8 * saltOff; bit < 8*HeaderV4; bit++ {
		wantErr(t, fmt.Sprint("bit ", bit), VerifyHeaderV4(flipped(blob[:HeaderV4], bit), row), ErrBlobMismatch)
	}
	wantErr(t, "short row", VerifyHeaderV4(blob[:HeaderV4], row[:63]), ErrBlobMismatch)
	wantErr(t, "short file", VerifyHeaderV4(blob[:63], row), ErrTruncated)
}

// "commitment ≠ derived": another key, vault, blob, salt or commitment.
func TestV4KeyCommit(t *testing.T) {
	_, blob := sealedV4(keyFrom(1), testVault, testBlob, nil)
	h := blob[:HeaderV4]
	for what, open := range map[string]func() (*ContentV4, error){
		"key":   func() (*ContentV4, error) { return OpenHeaderV4(keyFrom(2), testVault, testBlob, h) },
		"vault": func() (*ContentV4, error) { return OpenHeaderV4(keyFrom(1), testParent, testBlob, h) },
		"blob":  func() (*ContentV4, error) { return OpenHeaderV4(keyFrom(1), testVault, testParent, h) },
	} {
		_, err := open()
		wantErr(t, "another "+what, err, ErrKeyCommit)
	}
	for bit := 8 * saltOff; bit < 8*HeaderV4; bit++ {
		_, err := OpenHeaderV4(keyFrom(1), testVault, testBlob, flipped(h, bit))
		wantErr(t, fmt.Sprint("bit ", bit), err, ErrKeyCommit)
	}
}

// "C or P ≠ log, trailing bytes".
func TestV4Size(t *testing.T) {
	fk := keyFrom(1)
	_, blob := sealedV4(fk, testVault, testBlob, pattern(40000))
	for _, size := range []int64{0, 39999, 40001, 1 << 40} {
		_, err := openV4(fk, testVault, testBlob, blob, size)
		wantErr(t, fmt.Sprint("record says ", size), err, ErrSize)
	}
	_, err := openV4(fk, testVault, testBlob, append(bytes.Clone(blob), 0), 40000)
	wantErr(t, "trailing byte", err, ErrSize)
	c, err := OpenHeaderV4(fk, testVault, testBlob, blob[:HeaderV4])
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.OpenChunks(make([]byte, 39999), blob[HeaderV4:], 0)
	wantErr(t, "no room", err, ErrSize)
}

// "any chunk tag": exhaustive on three chunks. Every bit, every order of the
// chunks with any of them doubled or left out, every cut, extension and splice.
func TestV4Mutations(t *testing.T) {
	fk := keyFrom(1)
	size := int64(2*ChunkSize + 100)
	plain := bytes.Repeat([]byte("canary! "), int(size)/8+1)[:size]
	c, blob := sealedV4(fk, testVault, testBlob, plain)
	dst := make([]byte, 4*ChunkSize)
	fails := func(what string, body []byte) {
		if _, err := c.OpenChunks(dst, body, 0); !errors.Is(err, ErrAuth) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
		if bytes.IndexByte(dst, 'c') >= 0 {
			t.Fatalf("%s: plaintext released", what)
		}
	}
	t.Run("flip", func(t *testing.T) {
		body := bytes.Clone(blob[HeaderV4:])
		step := 1
		if testing.Short() {
			step = 17
		}
		for bit := 0; bit < 8*len(body); bit += step {
			body[bit/8] ^= 1 << (bit % 8)
			_, err := c.OpenChunks(dst, body, 0)
			body[bit/8] ^= 1 << (bit % 8)
			want := fmt.Sprintf("chunk %d: ", bit/8/SealedChunk)
			if !errors.Is(err, ErrAuth) || !strings.HasPrefix(err.Error(), want) {
				t.Fatalf("bit %d: %v", bit, err)
			}
		}
	})
	t.Run("order", func(t *testing.T) {
		body := blob[HeaderV4:]
		chunks := [][]byte{body[:SealedChunk], body[SealedChunk : 2*SealedChunk], body[2*SealedChunk:]}
		for _, order := range chunkOrders() {
			var mixed []byte
			for _, i := range order {
				mixed = append(mixed, chunks[i]...)
			}
			if fmt.Sprint(order) == "[0 1 2]" {
				continue
			}
			// A mere prefix of the chunks opens: its length is what gives it away.
			if s := fmt.Sprint(order); s == "[0]" || s == "[0 1]" {
				wantErr(t, s, CheckSizeV4(int64(HeaderV4+len(mixed)), size), ErrTruncated)
				continue
			}
			fails(fmt.Sprint("chunks ", order), mixed)
		}
		if n, err := c.OpenChunks(dst, chunks[1], 1); err != nil || n != ChunkSize {
			t.Errorf("chunk 1 alone: %v", err)
		}
		for k := range uint64(4) {
			if k != 1 {
				if _, err := c.OpenChunks(dst, chunks[1], k); !errors.Is(err, ErrAuth) {
					t.Errorf("chunk 1 as %d: %v", k, err)
				}
			}
		}
	})
	t.Run("cut", func(t *testing.T) {
		for n := HeaderV4; n < len(blob); n++ {
			if CheckSizeV4(int64(n), size) == nil {
				t.Fatalf("cut to %d has the right size", n)
			}
			if n > HeaderV4 && (n-HeaderV4)%SealedChunk != 0 && (n < 300 || n > len(blob)-300 || n%61 == 0) {
				fails(fmt.Sprint("cut to ", n), blob[HeaderV4:n])
			}
		}
	})
	t.Run("extend", func(t *testing.T) {
		for _, n := range []int{1, 15, 16, 17, 100, SealedChunk - 116, SealedChunk - 115, SealedChunk} {
			longer := append(bytes.Clone(blob), make([]byte, n)...)
			if CheckSizeV4(int64(len(longer)), size) == nil {
				t.Errorf("extended by %d has the right size", n)
			}
			fails(fmt.Sprint("extended by ", n), longer[HeaderV4:])
		}
	})
	t.Run("splice", func(t *testing.T) {
		for what, other := range map[string][]byte{
			"salt":  second(sealedV4(fk, testVault, testBlob, plain)),
			"blob":  second(sealedV4(fk, testVault, testParent, plain)),
			"vault": second(sealedV4(fk, testParent, testBlob, plain)),
			"key":   second(sealedV4(keyFrom(2), testVault, testBlob, plain)),
		} {
			for k := range 3 {
				mixed := bytes.Clone(blob[HeaderV4:])
				copy(mixed[k*SealedChunk:min((k+1)*SealedChunk, len(mixed))], other[HeaderV4+k*SealedChunk:])
				fails(fmt.Sprintf("chunk %d of another %s", k, what), mixed)
			}
		}
	})
}

func second[A, B any](_ A, b B) B { return b }

// chunkOrders returns every sequence of one to four of the chunks 0, 1, 2.
func chunkOrders() (orders [][]int) {
	var extend func(prefix []int)
	extend = func(prefix []int) {
		if len(prefix) > 0 {
			orders = append(orders, append([]int(nil), prefix...))
		}
		if len(prefix) == 4 {
			return
		}
		for i := range 3 {
			extend(append(prefix, i))
		}
	}
	extend(nil)
	return orders
}

// An error in a later chunk takes back what earlier chunks of the call gave.
func TestV4ClearsAll(t *testing.T) {
	c, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(3*ChunkSize))
	dst := bytes.Repeat([]byte{0xff}, 4*ChunkSize)
	body := flipped(blob[HeaderV4:], 8*(2*SealedChunk+5))
	_, err := c.OpenChunks(dst, body, 0)
	wantErr(t, "third chunk", err, ErrAuth)
	if len(bytes.Trim(dst, "\x00")) > 0 {
		t.Error("dst is not cleared")
	}
}

// A retry resends bytes; sealing again starts a new blob under a new salt, whose
// key, nonces and ciphertext have nothing in common with the first.
func TestRetryNewSalt(t *testing.T) {
	fk := keyFrom(1)
	a, blobA := sealedV4(fk, testVault, testBlob, pattern(100))
	b, blobB := sealedV4(fk, testVault, testBlob, pattern(100))
	if bytes.Equal(a.header[saltOff:commitOff], b.header[saltOff:commitOff]) || a.base == b.base {
		t.Error("salt or base nonce repeats")
	}
	if bytes.Equal(blobA[HeaderV4:], blobB[HeaderV4:]) {
		t.Error("ciphertext repeats")
	}
	seen := map[[ivSize]byte]bool{}
	for range 1000 {
		blob := sealedV3(t, fk, nil)
		iv := [ivSize]byte(blob)
		if seen[iv] {
			t.Fatal("v3 IV repeats")
		}
		seen[iv] = true
	}
}

// Every chunk of a blob has a nonce of its own, to the last of 1 TiB.
func TestV4Nonces(t *testing.T) {
	c := NewV4(keyFrom(1), testVault, testBlob)
	seen := map[[ivSize]byte]uint64{}
	for _, k := range []uint64{0, 1, 2, 255, 256, 65535, 65536, 1 << 24, 1<<26 - 1, maxChunksV4 - 1} {
		var n [ivSize]byte
		c.setNonce(&n, k)
		if old, ok := seen[n]; ok {
			t.Errorf("chunks %d and %d share a nonce", old, k)
		}
		seen[n] = k
	}
	for _, misuse := range []func(){
		func() { c.SealChunks(nil, make([]byte, 5), 0, false) },
		func() { c.SealChunks(nil, nil, maxChunksV4, true) },
		func() { c.SealChunks(nil, make([]byte, ChunkSize), maxChunksV4-1, true) },
	} {
		if !panics(misuse) {
			t.Error("misuse does not panic")
		}
	}
	if got := c.SealChunks(nil, nil, maxChunksV4-1, true); len(got) != tagSize {
		t.Error("the last chunk of 1 TiB")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// The length of a blob says the length of the file and nothing about its bytes.
func TestNoCompression(t *testing.T) {
	for _, n := range []int{0, 1, 5000, 16384, 100000} {
		same, random := bytes.Repeat([]byte("a"), n), make([]byte, n)
		for i := range random {
			random[i] = byte(i*i*31 + i>>3)
		}
		for _, plain := range [][]byte{same, random} {
			if got := int64(len(sealedV3(t, keyFrom(1), plain))); got != SealedSizeV3(int64(n)) {
				t.Errorf("v3 of %d bytes: %d", n, got)
			}
			if _, blob := sealedV4(keyFrom(1), testVault, testBlob, plain); int64(len(blob)) != SealedSizeV4(int64(n)) {
				t.Errorf("v4 of %d bytes: %d", n, len(blob))
			}
		}
	}
}
