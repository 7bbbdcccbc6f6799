package seal

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkGate is the condition on the chunk size: eight chunks of 16 KiB
// through OpenChunks are to reach 90 % of one GCM message of 128 KiB. Both run in
// turns, so that a slow second of the machine hits both.
func BenchmarkGate(b *testing.B) {
	const size = 8 * ChunkSize
	c := NewV4(keyFrom(1), testVault, testBlob)
	chunks := c.SealChunks(nil, pattern(size), 0, false)
	aead, nonce := newGCM(keyFrom(2).b[:]), seq(0, ivSize)
	one := aead.Seal(nil, nonce, pattern(size), nil)
	dst := make([]byte, size)
	var inChunks, inOne time.Duration
	b.ReportAllocs()
	b.SetBytes(16 * size) // eight times each way
	for b.Loop() {
		start := time.Now()
		for range 8 {
			if _, err := c.OpenChunks(dst, chunks, 0); err != nil {
				b.Fatal(err)
			}
		}
		middle := time.Now()
		for range 8 {
			if _, err := aead.Open(dst[:0], nonce, one, nil); err != nil {
				b.Fatal(err)
			}
		}
		inChunks, inOne = inChunks+middle.Sub(start), inOne+time.Since(middle)
	}
	total := float64(8*size*b.N) / 1e9
	b.ReportMetric(total/inChunks.Seconds(), "GB/s-chunks")
	b.ReportMetric(total/inOne.Seconds(), "GB/s-one")
	b.ReportMetric(100*float64(inOne)/float64(inChunks), "%-of-one")
}

var benchSizes = []int{0, 4 << 10, 16 << 10, 128 << 10, 1 << 20, 24 << 20}

func BenchmarkV3(b *testing.B) {
	for _, n := range benchSizes {
		fk := keyFrom(1)
		plain, blob := pattern(n), sealedV3(b, fk, pattern(n))
		work := make([]byte, len(blob))
		b.Run(fmt.Sprintf("seal/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(work[ivSize:], plain)
				if _, err := SealV3(fk, work, n); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("open/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(work, blob)
				if _, err := OpenV3(fk, work, int64(n), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkV4(b *testing.B) {
	for _, n := range benchSizes {
		c, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(n))
		plain, sealed := pattern(n), make([]byte, 0, len(blob))
		b.Run(fmt.Sprintf("seal/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				c.SealChunks(sealed, plain, 0, true) // the same indices again: only here
			}
		})
		b.Run(fmt.Sprintf("open/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if _, err := c.OpenChunks(plain, blob[HeaderV4:], 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	header := NewV4(keyFrom(1), testVault, testBlob).Header()
	b.Run("header", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := OpenHeaderV4(keyFrom(1), testVault, testBlob, header); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRow(b *testing.B) {
	l := DeriveLocal(keyFrom(1), testVault)
	fields, aad := pattern(120), pattern(300)
	row, dst := l.SealRow(nil, fields, aad), make([]byte, 0, 256)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.SealRow(dst, fields, aad)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.OpenRow(dst, row, aad)
		}
	})
}

func BenchmarkFileKey(b *testing.B) {
	e, fk := DeriveEpoch(keyFrom(0x60), testVault, 1), keyFrom(1)
	wrapped, _ := e.WrapFileKey(fk)
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.WrapFileKey(fk)
		}
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.UnwrapFileKey(wrapped)
		}
	})
}

func BenchmarkField(b *testing.B) {
	for _, version := range []int{V3, V4} {
		b.Run(fmt.Sprintf("seal/v%d", version), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				SealField(version, keyFrom(1), testVault, testAttachment, FieldName, "recovery-codes.pdf")
			}
		})
	}
}

func BenchmarkDraftRecord(b *testing.B) {
	d := NewDraftLog(keyFrom(1), testVault, testBlob)
	data, dst := pattern(4096), make([]byte, 0, 8192)
	b.ReportAllocs()
	b.SetBytes(4096)
	for b.Loop() {
		d.SealRecord(dst, 1, 2, data)
	}
}
