package seal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

const testPart = 1 << 10

// partLengths are around every border of blocks and parts.
var partLengths = []int{0, 1, 2, 15, 16, 17, 31, 32, 33, testPart - 1, testPart, testPart + 1, testPart + 16,
	3*testPart - 17, 3*testPart - 16, 3*testPart - 15, 3 * testPart, 3*testPart + 1, 40000}

// borders cuts n bytes into parts of size bytes.
func borders(n, size int) (parts [][2]int) {
	for from := 0; from < n; from += size {
		parts = append(parts, [2]int{from, min(from+size, n)})
	}
	return parts
}

// unevenBorders cuts n bytes where r says.
func unevenBorders(n int, r *rand.Rand) (parts [][2]int) {
	for from := 0; from < n; {
		to := min(from+16*(1+r.IntN(200)), n)
		parts = append(parts, [2]int{from, to})
		from = to
	}
	return parts
}

func shuffled(parts [][2]int, r *rand.Rand) [][2]int {
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return parts
}

// onAll has several goroutines take the parts in their order.
func onAll(goroutines int, parts [][2]int, do func(from, to int)) {
	next := make(chan [2]int, len(parts))
	for _, p := range parts {
		next <- p
	}
	close(next)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for p := range next {
				do(p[0], p[1])
			}
		})
	}
	wg.Wait()
}

// sealParts seals plain under a chosen IV.
func sealParts(fk *Key, iv, plain []byte, goroutines int, parts [][2]int) []byte {
	buf := make([]byte, len(plain)+OverheadV3)
	copy(buf, iv)
	copy(buf[ivSize:], plain)
	p := PartsSealV3{newPartsV3(fk, buf, iv)}
	onAll(goroutines, parts, p.Part)
	return p.Finish()
}

// openParts opens blob in place.
func openParts(fk *Key, blob, hdr []byte, goroutines int, parts [][2]int) ([]byte, error) {
	p, err := NewOpenV3(fk, blob, int64(len(blob)-OverheadV3), hdr)
	if err != nil {
		return nil, err
	}
	onAll(goroutines, parts, p.Part)
	return p.Finish()
}

// The parts are the standard library's message, however it is cut and in
// whatever order it is worked on.
func TestV3PartsAreTheWhole(t *testing.T) {
	fk, iv := keyFrom(1), seq(0xa0, ivSize)
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range partLengths {
		plain := pattern(n)
		want := fixedSeal(fk.b[:], iv, plain, nil)
		hdr := HdrOfV3(want)
		for what, parts := range map[string][][2]int{
			"one":      borders(n, MaxV3),
			"in order": borders(n, testPart),
			"shuffled": shuffled(borders(n, testPart), r),
			"uneven":   shuffled(unevenBorders(n, r), r),
			"blocks":   shuffled(borders(n, 16), r),
		} {
			for _, goroutines := range []int{1, 3} {
				wantBytes(t, fmt.Sprint("seal ", n, " ", what), sealParts(fk, iv, plain, goroutines, parts), want)
				got, err := openParts(fk, bytes.Clone(want), hdr[:], goroutines, parts)
				if err != nil || !bytes.Equal(got, plain) || cap(got) != len(got) {
					t.Errorf("open %d %s: %v", n, what, err)
				}
			}
		}
	}
}

// What one way seals the other opens, up to the largest content.
func TestV3PartsAndWhole(t *testing.T) {
	for _, n := range []int{0, 1, usualPart - 1, usualPart, usualPart + 1, 1<<20 + 5, MaxV3 - 1, MaxV3} {
		fk := NewKey()
		plain := pattern(n)
		parts := borders(n, usualPart)
		blob := sealedV3(t, &fk, plain)
		hdr := HdrOfV3(blob)
		if got, err := openParts(&fk, blob, hdr[:], 2, parts); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes sealed whole: %v", n, err)
		}
		buf := make([]byte, 0, n+OverheadV3)
		copy(buf[ivSize:cap(buf)], plain)
		p := must[PartsSealV3](t)(NewSealV3(&fk, buf, n))
		onAll(2, parts, p.Part)
		blob = p.Finish()
		hdr = HdrOfV3(blob)
		if got, err := OpenV3(&fk, blob, int64(n), hdr[:]); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes sealed in parts: %v", n, err)
		}
	}
}

func TestV3PartsNewIV(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		buf := make([]byte, OverheadV3)
		must[PartsSealV3](t)(NewSealV3(keyFrom(1), buf, 0))
		if iv := string(buf[:ivSize]); seen[iv] {
			t.Fatal("an IV came twice")
		} else {
			seen[iv] = true
		}
	}
}

// Every bit, with the hdr of what was sealed and with that of what is there.
func TestV3PartsMutations(t *testing.T) {
	fk := keyFrom(1)
	plain := []byte(strings.Repeat("canary ", 20))
	blob := sealedV3(t, fk, plain)
	parts := borders(len(plain), 48)
	fails := func(what string, b, hdr []byte, want error, parts [][2]int) {
		t.Helper()
		got, err := openParts(fk, b, hdr, 1, parts)
		wantErr(t, what, err, want)
		if got != nil || bytes.Contains(b, []byte("canary")) {
			t.Errorf("%s: plaintext released", what)
		}
	}
	hdr := HdrOfV3(blob)
	for bit := range 8 * len(blob) {
		b := flipped(blob, bit)
		own := HdrOfV3(b)
		fails(fmt.Sprint("bit ", bit, ", own hdr"), b, own[:], ErrAuth, parts)
		want := ErrAuth
		if own != hdr {
			want = ErrBlobMismatch
		}
		fails(fmt.Sprint("bit ", bit), flipped(blob, bit), hdr[:], want, parts)
	}
	for n := OverheadV3; n < len(blob); n++ {
		b := bytes.Clone(blob[:n])
		own := HdrOfV3(b)
		fails(fmt.Sprint("cut to ", n), b, own[:], ErrAuth, borders(n-OverheadV3, 48))
	}
	swapped := bytes.Clone(blob)
	copy(swapped[ivSize:], blob[ivSize+48:][:48])
	copy(swapped[ivSize+48:], blob[ivSize:][:48])
	fails("parts exchanged", swapped, hdr[:], ErrAuth, parts)
	for i := range parts {
		fails(fmt.Sprint("without part ", i), bytes.Clone(blob), hdr[:], ErrAuth, append(parts[:i:i], parts[i+1:]...))
	}
	fails("no part", bytes.Clone(blob), hdr[:], ErrAuth, nil)
	_, err := openParts(keyFrom(2), bytes.Clone(blob), hdr[:], 1, parts)
	wantErr(t, "another key", err, ErrAuth)
}

// A content is sealed whole or not at all; an empty one has no parts.
func TestV3PartsMissing(t *testing.T) {
	fk := keyFrom(1)
	blob := sealedV3(t, fk, nil)
	hdr := HdrOfV3(blob)
	if _, err := openParts(fk, blob, hdr[:], 1, nil); err != nil {
		t.Errorf("empty content: %v", err)
	}
	p := must[PartsSealV3](t)(NewSealV3(fk, make([]byte, 32+OverheadV3), 32))
	p.Part(16, 32)
	if !panics(func() { p.Finish() }) {
		t.Error("sealed without its first part")
	}
}

func TestV3PartsDrop(t *testing.T) {
	fk := keyFrom(1)
	blob := sealedV3(t, fk, []byte(strings.Repeat("canary ", 20)))
	hdr := HdrOfV3(blob)
	p := must[PartsOpenV3](t)(NewOpenV3(fk, blob, 140, hdr[:]))
	p.Part(0, 64)
	if !bytes.Contains(blob, []byte("canary")) {
		t.Error("not opened in place")
	}
	p.Drop()
	if bytes.Contains(blob, []byte("canary")) {
		t.Error("plaintext left")
	}
}

// A part outside the content, off its blocks, or met before is a bug that must
// not turn ciphertext into plaintext.
func TestV3PartsMisuse(t *testing.T) {
	for _, part := range [][2]int{{-16, 16}, {0, 0}, {16, 0}, {8, 32}, {0, 24}, {0, 112}, {96, 112}, {32, 48}, {0, 48}, {40, 100}} {
		p := must[PartsSealV3](t)(NewSealV3(keyFrom(1), make([]byte, 100+OverheadV3), 100))
		p.Part(32, 64)
		before := bytes.Clone(p.sealed)
		if !panics(func() { p.Part(part[0], part[1]) }) || !bytes.Equal(before, p.sealed) {
			t.Errorf("part %v was taken", part)
		}
	}
}

func TestV3PartsArguments(t *testing.T) {
	_, err := NewSealV3(keyFrom(1), make([]byte, 100), 73)
	wantErr(t, "buffer one byte short", err, ErrFormat)
	_, err = NewSealV3(keyFrom(1), nil, MaxV3+1)
	wantErr(t, "25 MiB and a byte", err, ErrTooLarge)
	_, err = NewOpenV3(keyFrom(1), make([]byte, 27), 0, make([]byte, HdrV3))
	wantErr(t, "27 bytes", err, ErrTruncated)
	_, err = NewOpenV3(keyFrom(1), make([]byte, 100), 71, make([]byte, HdrV3))
	wantErr(t, "another size", err, ErrSize)
	_, err = NewOpenV3(keyFrom(1), make([]byte, 100), 72, nil)
	wantErr(t, "no hdr", err, ErrFormat)
}

// The field's laws, and a product that can be checked by hand: x^127 times x
// is x^7 + x^2 + x + 1.
func TestElement(t *testing.T) {
	one, x := element{hi: 1 << 63}, element{hi: 1 << 62}
	if got := (element{lo: 1}).mul(x); got != (element{hi: 0xe1 << 56}) {
		t.Errorf("x^128: got %x", got)
	}
	r := rand.New(rand.NewPCG(3, 4))
	random := func() element { return element{r.Uint64(), r.Uint64()} }
	for range 200 {
		a, b, c := random(), random(), random()
		if a.mul(b) != b.mul(a) || a.mul(one) != a || a.mul(b).mul(c) != a.mul(b.mul(c)) || a.add(b).mul(c) != a.mul(c).add(b.mul(c)) {
			t.Fatalf("%x %x %x", a, b, c)
		}
		m, n := r.IntN(5000), r.IntN(5000)
		if a.power(m).mul(a.power(n)) != a.power(m+n) {
			t.Fatalf("%x to the %d and %d", a, m, n)
		}
		bytes := a.bytes()
		if elementOf(bytes[:]) != a {
			t.Fatalf("%x as bytes", a)
		}
	}
}

func FuzzV3Parts(f *testing.F) {
	f.Add([]byte{}, []byte{}, uint64(0))
	f.Add(seq(1, 40), pattern(100), uint64(7))
	f.Add(seq(9, 44), pattern(3000), uint64(8))
	f.Fuzz(func(t *testing.T, key, plain []byte, order uint64) {
		var fk Key
		iv := make([]byte, ivSize)
		copy(iv, key[copy(fk.b[:], key):])
		r := rand.New(rand.NewPCG(order, 0))
		parts := shuffled(unevenBorders(len(plain), r), r)
		want := fixedSeal(fk.b[:], iv, plain, nil)
		if got := sealParts(&fk, iv, plain, 1, parts); !bytes.Equal(got, want) {
			t.Error("sealed to something else than the standard library's")
		}
		hdr := HdrOfV3(want)
		got, err := openParts(&fk, want, hdr[:], 1, parts)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("open: %v", err)
		}
	})
}

// BenchmarkV3Parts compares parts on one and two goroutines with one call, in
// turns, so that a slow second of the machine hits all.
func BenchmarkV3Parts(b *testing.B) {
	for _, n := range []int{256 << 10, 1 << 20, 20 << 20} {
		fk := keyFrom(1)
		parts := borders(n, usualPart)
		for _, open := range []bool{false, true} {
			work := sealedV3(b, fk, pattern(n))
			whole := newGCM(fk.b[:])
			once := func() {
				if open { // the same steps whether it verifies or not, but for the clearing
					work = whole.Seal(work[:ivSize], work[:ivSize], work[ivSize:][:n], nil)
					return
				}
				SealV3(fk, work, n)
			}
			split := func(goroutines int) {
				if open {
					hdr := HdrOfV3(work)
					p, _ := NewOpenV3(fk, work, int64(n), hdr[:])
					onAll(goroutines, parts, p.Part)
					p.tag()
					return
				}
				p, _ := NewSealV3(fk, work, n)
				onAll(goroutines, parts, p.Part)
				p.Finish()
			}
			b.Run(fmt.Sprintf("open=%v/%d", open, n), func(b *testing.B) {
				var took [3]time.Duration
				for b.Loop() {
					for i := range took {
						start := time.Now()
						if i == 0 {
							once()
						} else {
							split(i)
						}
						took[i] += time.Since(start)
					}
				}
				for i, unit := range []string{"GB/s-whole", "GB/s-parts", "GB/s-parts2"} {
					b.ReportMetric(float64(n*b.N)/1e9/took[i].Seconds(), unit)
				}
			})
		}
	}
}

// A content may grow while it is sealed; it is then the same as if its length
// had been known.
func TestV3PartsExtended(t *testing.T) {
	fk, iv := keyFrom(1), seq(0xa0, ivSize)
	const n = 5*testPart + 3
	plain := pattern(n)
	want := fixedSeal(fk.b[:], iv, plain, nil)
	buf := make([]byte, n+OverheadV3)
	copy(buf, iv)
	copy(buf[ivSize:], plain[:2*testPart])
	p := PartsSealV3{newPartsV3(fk, buf[:2*testPart+OverheadV3], iv)}
	p.Part(testPart, 2*testPart)
	copy(buf[ivSize+2*testPart:], plain[2*testPart:])
	for _, to := range []int{3 * testPart, 3 * testPart, n} {
		if err := p.Extend(to); err != nil {
			t.Fatal(err)
		}
	}
	onAll(2, [][2]int{{0, testPart}, {2 * testPart, n}}, p.Part)
	wantBytes(t, "extended", p.Finish(), want)
	if !panics(func() { p.Part(0, 16) }) {
		t.Error("part of a finished content", "was taken")
	}
}

func TestV3PartsExtendMisuse(t *testing.T) {
	fk := NewKey()
	buf := make([]byte, 100+OverheadV3)
	p := must[PartsSealV3](t)(NewSealV3(&fk, buf, 40))
	wantErr(t, "beyond the buffer", p.Extend(101), ErrFormat)
	wantErr(t, "too large", p.Extend(MaxV3+1), ErrTooLarge)
	if !panics(func() { _ = p.Extend(39) }) {
		t.Error("shorter", "was taken")
	}
	p.Part(32, 40)
	if !panics(func() { _ = p.Extend(48) }) {
		t.Error("behind the last part", "was taken")
	}
}

// What is given up is plaintext again, and nothing more is sealed under its key.
func TestV3PartsUndo(t *testing.T) {
	fk := NewKey()
	plain := pattern(3 * testPart)
	buf := make([]byte, len(plain)+OverheadV3)
	copy(buf[ivSize:], plain)
	p := must[PartsSealV3](t)(NewSealV3(&fk, buf, len(plain)))
	p.Part(0, testPart)
	p.Part(2*testPart, 3*testPart)
	if bytes.Equal(buf[ivSize:][:testPart], plain[:testPart]) {
		t.Fatal("not sealed")
	}
	for _, at := range [][2]int{{0, testPart}, {3, 20}, {15, 1}, {16, 16}, {2*testPart + 1, testPart - 1}} {
		got := make([]byte, at[1])
		p.Peek(got, at[0])
		wantBytes(t, fmt.Sprint("peek ", at), got, plain[at[0]:][:at[1]])
	}
	p.Undo()
	wantBytes(t, "given up", buf[ivSize:][:len(plain)], plain)
	if !panics(func() { p.Part(testPart, 2*testPart) }) {
		t.Error("part", "was taken")
	}
	if !panics(func() { p.Finish() }) {
		t.Error("finish", "was taken")
	}
	if !panics(func() { _ = p.Extend(len(plain)) }) {
		t.Error("extend", "was taken")
	}
}

// A part that was kept elsewhere is opened if it is the part that was sealed: not
// with another bit, nor as another part, nor in part.
func TestV3PartsKeptElsewhere(t *testing.T) {
	const n = 3*testPart + 5
	fk, plain := NewKey(), pattern(n)
	buf := make([]byte, n+OverheadV3)
	copy(buf[ivSize:], plain)
	p := must[PartsSealV3](t)(NewSealV3(&fk, buf, n))
	parts := borders(n, testPart)
	onAll(1, parts[:3], p.Part)
	if _, _, ok := p.PartAt(parts[3][0]); ok {
		t.Error("a part that was not sealed")
	}
	p.Part(parts[3][0], parts[3][1])
	for finished := range 2 {
		for _, at := range parts {
			from, to, ok := p.PartAt(at[0] + finished)
			if !ok || from != at[0] || to != at[1] {
				t.Fatalf("part at %d: %d…%d, %v", at[0], from, to, ok)
			}
			kept := bytes.Clone(buf[ivSize:][from:to])
			altered := bytes.Clone(kept)
			altered[len(kept)-1] ^= 1
			wantErr(t, "altered", p.OpenPart(altered, from), ErrAuth)
			wantBytes(t, "what is left of an altered part", altered, make([]byte, len(kept)))
			wantErr(t, "in part", p.OpenPart(bytes.Clone(kept[1:]), from), ErrAuth)
			wantErr(t, "elsewhere", p.OpenPart(bytes.Clone(kept), (from+testPart)%(3*testPart)), ErrAuth)
			if err := p.OpenPart(kept, from); err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "part", kept, plain[from:to])
		}
		if finished == 0 {
			p.Finish()
		}
	}
}
