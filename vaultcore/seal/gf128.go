package seal

import "encoding/binary"

// element is one of GF(2^128) in GCM's order of bits: the coefficient of x^0 is
// the top bit of hi, that of x^127 the lowest of lo.
type element struct{ hi, lo uint64 }

func elementOf(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (x element) bytes() (b [tagSize]byte) {
	binary.BigEndian.PutUint64(b[:], x.hi)
	binary.BigEndian.PutUint64(b[8:], x.lo)
	return b
}

func (x element) add(y element) element { return element{x.hi ^ y.hi, x.lo ^ y.lo} }

// mul multiplies modulo x^128 + x^7 + x^2 + x + 1, bit by bit and with masks in
// place of branches and tables, so that its time tells nothing about the hash
// key. That is slow (a third of a microsecond), and a few calls for each part
// of a content are all there are.
func (x element) mul(y element) (z element) {
	for _, word := range [2]uint64{x.hi, x.lo} {
		for range 64 {
			take := -(word >> 63)
			z.hi ^= y.hi & take
			z.lo ^= y.lo & take
			word <<= 1
			carry := -(y.lo & 1)
			y.lo = y.lo>>1 | y.hi<<63
			y.hi = y.hi>>1 ^ 0xe1<<56&carry
		}
	}
	return z
}

// power is x to the n, for an n that is no secret.
func (x element) power(n int) element {
	z := element{hi: 1 << 63} // one
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			z = z.mul(x)
		}
		x = x.mul(x)
	}
	return z
}
