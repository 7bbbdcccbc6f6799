package seal

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// partsV3 is one version 3 content that is sealed or opened part by part, in
// any order and by several goroutines. The standard library's GCM takes a
// message whole only, so its two halves are done apart here: the counter mode
// by cipher.NewCTR, and the hash by a GCM that is given the ciphertext of a part
// as associated data and nothing to encrypt.
//
// What that GCM returns, with H = E(K, 0), M = E(K, IV ‖ 1) and [n] the block of
// lengths for n bytes of associated data, is
//
//	Seal(IV, nothing, part) = sum(part) + [n]·H + M
//	sum(B1 … Bm)            = B1·H^(m+1) + … + Bm·H^2
//
// so sum(part) comes out by taking away two terms that are known, sums of
// neighbours join as sum(A ‖ B) = sum(A)·H^blocks(B) + sum(B), and the sum over
// all parts, with the lengths of the message, gives the tag of the whole.
//
// Why this use of one IV many times is no repeated nonce: nothing is encrypted
// by that GCM. It is the content's own IV, so the one block it enciphers is the
// M that the content's tag needs anyway, and AES is asked for no block that the
// one call over the whole would not ask for. Two of its results under one M
// would let a reader of them solve for H and forge; they are as secret as H
// itself, which lies beside them, and leave this struct no more than H does.
// Only the finished tag goes out, one per key and IV.
//
// The counter starts at 2 and counts blocks; 25 MiB are 2^20.7 of them, so its
// 32 bits never wrap, and the library's counting in 128 bits is the same.
type partsV3 struct {
	redacted
	block  cipher.Block
	aead   cipher.AEAD
	iv     [ivSize]byte
	h, m   element
	sealed []byte // the whole blob
	body   []byte // its middle: plaintext or ciphertext

	mu   sync.Mutex
	sums []partSum
	over bool // the key has sealed what it ever will
}

// partSum is what one part adds to the tag.
type partSum struct {
	from, to int
	sum      element
}

// usualPart is how many bytes a part is expected to have.
const usualPart = 256 << 10

func newPartsV3(fk *Key, sealed []byte, iv []byte) *partsV3 {
	block, err := aes.NewCipher(fk.b[:])
	if err != nil {
		panic("seal: AES key: " + err.Error()) // a Key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: GCM: " + err.Error())
	}
	n := len(sealed) - OverheadV3
	p := &partsV3{block: block, aead: aead, sealed: sealed, body: sealed[ivSize:][:n:n]}
	copy(p.iv[:], iv)
	p.sums = make([]partSum, 0, n/usualPart+2)
	var b [aes.BlockSize]byte
	block.Encrypt(b[:], b[:])
	p.h = elementOf(b[:])
	b = p.counter(1)
	block.Encrypt(b[:], b[:])
	p.m = elementOf(b[:])
	return p
}

// counter is the block IV ‖ n.
func (p *partsV3) counter(n int) (b [aes.BlockSize]byte) {
	copy(b[:], p.iv[:])
	binary.BigEndian.PutUint32(b[ivSize:], uint32(n))
	return b
}

// claim takes a part for its only use and returns its bytes. Using one twice
// would turn it back into what it was, so that is a bug that ends the program
// before a plaintext is taken for a ciphertext.
func (p *partsV3) claim(from, to int) (part []byte, index int) {
	if from < 0 || from >= to || to > len(p.body) || from%aes.BlockSize != 0 || to%aes.BlockSize != 0 && to != len(p.body) {
		panic(fmt.Sprintf("seal: part %d…%d of a v3 content of %d bytes", from, to, len(p.body)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		panic("seal: part of a v3 content that is finished or given up")
	}
	for _, s := range p.sums {
		if from < s.to && s.from < to {
			panic(fmt.Sprintf("seal: part %d…%d of a v3 content meets %d…%d", from, to, s.from, s.to))
		}
	}
	p.sums = append(p.sums, partSum{from: from, to: to})
	return p.body[from:to:to], len(p.sums) - 1
}

// crypt turns plaintext into ciphertext and back.
func (p *partsV3) crypt(part []byte, from int) {
	counter := p.counter(2 + from/aes.BlockSize)
	cipher.NewCTR(p.block, counter[:]).XORKeyStream(part, part)
}

// hash notes what the ciphertext of a part adds to the tag.
func (p *partsV3) hash(part []byte, index int) {
	sum := p.sum(part)
	p.mu.Lock()
	p.sums[index].sum = sum
	p.mu.Unlock()
}

func (p *partsV3) sum(part []byte) element {
	s := getScratch()
	tag := p.aead.Seal(s.aad[:0], p.iv[:], nil, part)
	sum := elementOf(tag).add(p.m).add(lengthBlock(len(part), 0).mul(p.h))
	clear(tag)
	s.put()
	return sum
}

// lengthBlock is the last block GCM hashes: the bits of the associated data and of
// the ciphertext.
func lengthBlock(aad, text int) element { return element{uint64(aad) << 3, uint64(text) << 3} }

// tag joins the parts. ok is false unless they are the whole content.
func (p *partsV3) tag() (tag [tagSize]byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortFunc(p.sums, func(a, b partSum) int { return cmp.Compare(a.from, b.from) })
	var sum element
	end, powers := 0, map[int]element{} // few, since most parts have the same length
	for _, s := range p.sums {
		if s.from != end {
			return tag, false
		}
		n := (s.to - s.from + aes.BlockSize - 1) / aes.BlockSize
		power, ok := powers[n]
		if !ok {
			power = p.h.power(n)
			powers[n] = power
		}
		sum, end = sum.mul(power).add(s.sum), s.to
	}
	sum = sum.add(lengthBlock(0, end).mul(p.h)).add(p.m)
	return sum.bytes(), end == len(p.body)
}

// PartsSealV3 is SealV3 in parts. Its methods may be called by several
// goroutines at once, for parts that do not meet; Finish by one, once the other
// calls have returned.
type PartsSealV3 struct{ *partsV3 }

// NewSealV3 begins to seal in place what SealV3 would seal at once, and draws the
// IV, which is in the buffer when it returns. The plaintext may still be coming
// in: a part is read when it is sealed. Arguments and errors are those of SealV3.
func NewSealV3(fk *Key, buf []byte, n int) (PartsSealV3, error) {
	if err := checkSealV3(buf, n); err != nil {
		return PartsSealV3{}, err
	}
	buf = buf[:n+OverheadV3]
	rand.Read(buf[:ivSize])
	return PartsSealV3{newPartsV3(fk, buf, buf[:ivSize])}, nil
}

// Part seals the plaintext from one offset to another. Both are multiples of
// 16, or the end of the content; no part is sealed twice. It panics otherwise.
func (p PartsSealV3) Part(from, to int) {
	part, index := p.claim(from, to)
	p.crypt(part, from)
	p.hash(part, index)
}

// Extend says that the content has grown to n bytes, in the same buffer. It must
// not run beside Part. Errors: ErrTooLarge, ErrFormat for a buffer too small;
// then nothing has changed. It panics for a content that would be shorter, and
// if a part ends where only the last may.
func (p PartsSealV3) Extend(n int) error {
	if err := checkSealV3(p.sealed, n); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sums {
		if s.to%aes.BlockSize != 0 && n != len(p.body) {
			panic(fmt.Sprintf("seal: v3 content goes on behind its last part, which ends at %d", s.to))
		}
	}
	if n < len(p.body) || p.over {
		panic(fmt.Sprintf("seal: v3 content of %d bytes made one of %d", len(p.body), n))
	}
	p.sealed = p.sealed[:n+OverheadV3]
	p.body = p.sealed[ivSize:][:n:n]
	return nil
}

// Peek opens into dst what lies from offset off on of what was sealed, and leaves
// it sealed. No part that dst touches may be under way.
func (p PartsSealV3) Peek(dst []byte, off int) {
	counter := p.counter(2 + off/aes.BlockSize)
	stream := cipher.NewCTR(p.block, counter[:])
	if skip := off % aes.BlockSize; skip > 0 {
		var passed [aes.BlockSize]byte
		stream.XORKeyStream(passed[:skip], passed[:skip])
		clear(passed[:])
	}
	stream.XORKeyStream(dst, p.body[off:][:len(dst)])
}

// PartAt says which of the parts that were sealed an offset lies in; ok is false
// if it lies in none.
func (p PartsSealV3) PartAt(off int) (from, to int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sums {
		if s.from <= off && off < s.to {
			return s.from, s.to, true
		}
	}
	return 0, 0, false
}

// OpenPart opens in place the ciphertext of a whole part that was sealed, from
// wherever it was kept meanwhile. The sum of the part authenticates it: only who
// knows H could make another ciphertext with the same one. On error nothing of
// it is left. Error: ErrAuth, also for bytes that are no part.
func (p PartsSealV3) OpenPart(part []byte, from int) error {
	p.mu.Lock()
	i := slices.IndexFunc(p.sums, func(s partSum) bool { return s.from == from && s.to-s.from == len(part) })
	var want [tagSize]byte
	if i >= 0 {
		want = p.sums[i].sum.bytes()
	}
	p.mu.Unlock()
	got := p.sum(part).bytes()
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || i < 0 {
		clear(part)
		return fmt.Errorf("v3 content, part at %d: %w", from, ErrAuth)
	}
	p.crypt(part, from)
	return nil
}

// Undo gives the content up: the parts that were sealed are plaintext again, and
// no other can be sealed under the key and IV, which would give away what both
// have in common. It is called once the other calls have returned.
func (p PartsSealV3) Undo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, s := range p.sums {
		p.crypt(p.body[s.from:s.to], s.from)
	}
	p.sums = nil
}

// Finish writes the tag and returns the blob. It panics unless the parts are
// the whole content.
func (p PartsSealV3) Finish() []byte {
	tag, ok := p.tag()
	if !ok {
		panic("seal: v3 content sealed in part")
	}
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	copy(p.sealed[len(p.sealed)-tagSize:], tag[:])
	return p.sealed
}

// PartsOpenV3 is OpenV3 in parts, to be used as PartsSealV3 is. What Part has
// opened is not authenticated: nobody may look at the buffer before Finish has
// returned without an error. Whoever gives up without Finish calls Drop.
type PartsOpenV3 struct {
	*partsV3
	hdr [HdrV3]byte
}

// NewOpenV3 begins to open a blob in place. sealed has the length of the blob;
// its bytes may still be coming in, since the IV is taken from hdr, the 28 bytes
// of the record. Errors: ErrTruncated, ErrTooLarge, ErrSize, ErrFormat.
func NewOpenV3(fk *Key, sealed []byte, size int64, hdr []byte) (PartsOpenV3, error) {
	if err := checkOpenV3(sealed, size); err != nil {
		return PartsOpenV3{}, err
	}
	if len(hdr) != HdrV3 {
		return PartsOpenV3{}, fmt.Errorf("%w: v3 hdr of %d bytes", ErrFormat, len(hdr))
	}
	return PartsOpenV3{newPartsV3(fk, sealed, hdr[:ivSize]), [HdrV3]byte(hdr)}, nil
}

// Part opens the ciphertext of what lies from one plaintext offset to another,
// under the conditions of PartsSealV3.Part.
func (p PartsOpenV3) Part(from, to int) {
	part, index := p.claim(from, to)
	p.hash(part, index)
	p.crypt(part, from)
}

// Finish authenticates the whole, the IV and tag in the buffer included, and
// returns the plaintext, which lies in sealed[12:]. On error nothing of it is
// left. Errors: ErrBlobMismatch, and ErrAuth, also for parts that are missing.
func (p PartsOpenV3) Finish() ([]byte, error) {
	if got := HdrOfV3(p.sealed); subtle.ConstantTimeCompare(got[:], p.hdr[:]) != 1 {
		p.Drop()
		return nil, ErrBlobMismatch
	}
	tag, ok := p.tag()
	if subtle.ConstantTimeCompare(tag[:], p.hdr[ivSize:]) != 1 || !ok {
		p.Drop()
		return nil, fmt.Errorf("v3 content: %w", ErrAuth)
	}
	return p.body, nil
}

// Drop clears what was opened.
func (p PartsOpenV3) Drop() { clear(p.body) }
