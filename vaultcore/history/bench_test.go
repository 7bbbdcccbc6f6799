package history

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// linear gives n attachments in n/100 assets, each with one line of revs records.
func linear(n, revs int) (out Ops) {
	for i := range n / 100 {
		out.Assets = append(out.Assets, AssetRecord{
			At: At{seal.ID{1}, 1, 1}, ID: benchID(2, i), Digest: benchDigest(i, 0), Rev: 1, Type: 3, Title: fmt.Sprint("asset ", i),
		})
	}
	for i := range n {
		var prev Digest
		for rev := range revs {
			d := benchDigest(n+i, rev)
			out.Records = append(out.Records, Record{
				At: At{seal.ID{1}, uint64(1 + i/512), HLC(i*revs + rev)}, ID: benchID(3, i), Digest: d, Prev: prev, Rev: uint64(rev + 1),
				Parent: Parent{3, benchID(2, i/100)}, Name: fmt.Sprintf("folder %d/document %d.pdf", i/10, i), MIME: "application/pdf",
				Mode: 0o600, Size: 4096, Blob: benchID(4, i*revs+rev),
			})
			prev = d
		}
	}
	return out
}

func benchID(kind byte, n int) (id seal.ID) {
	id[0] = kind
	binary.BigEndian.PutUint64(id[8:], uint64(n)*0x9e3779b97f4a7c15)
	return id
}

func benchDigest(n, rev int) (d Digest) {
	binary.BigEndian.PutUint64(d[:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(d[24:], uint64(rev))
	return d
}

// BenchmarkAdd enters 100,000 attachments in batches of 512 and says what one
// weighs with its place in the name tables; the bytes of names are shared with
// the ops and not counted.
func BenchmarkAdd(b *testing.B) {
	for _, revs := range []int{1, 5} {
		b.Run(fmt.Sprint("revs=", revs), func(b *testing.B) {
			const n = 100_000
			for b.Loop() {
				b.StopTimer()
				ops := linear(n, revs)
				h, before := New(), heap()
				b.StartTimer()
				h.Add(Ops{Assets: ops.Assets})
				for records := ops.Records; len(records) > 0; {
					k := min(512, len(records))
					h.Add(Ops{Records: records[:k]})
					records = records[k:]
				}
				b.StopTimer()
				b.ReportMetric(float64(heap()-before)/n, "B/attachment")
				runtime.KeepAlive(ops)
				runtime.KeepAlive(h)
				b.StartTimer()
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkAttachment evaluates one id: a single record, a line, and a fork.
func BenchmarkAttachment(b *testing.B) {
	for _, revs := range []int{1, 5, 1000} {
		h := New()
		h.Add(linear(100, revs))
		b.Run(fmt.Sprint("revs=", revs), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Attachment(benchID(3, 42), nil)
			}
		})
	}
	w := newWorld(b, "ada", "bob")
	ada, bob := w.devices[0], w.devices[1]
	ada.mkdirAsset("Tax")
	id := ada.create("Tax/note.txt", "first")
	w.sync()
	ada.write("Tax/note.txt", "ada's")
	bob.write("Tax/note.txt", "bob's")
	w.sync()
	b.Run("fork", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ada.h.Attachment(id, nil)
		}
	})
}

// BenchmarkEdit enters one more record into a history of 100,000 attachments.
func BenchmarkEdit(b *testing.B) {
	ops := linear(100_000, 1)
	h := New()
	h.Add(ops)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r := ops.Records[i%len(ops.Records)]
		r.Prev, r.Rev, r.Blob = r.Digest, 2, benchID(5, i)
		r.Digest, r.HLC = benchDigest(i, 99), r.HLC+1_000_000
		h.Add(Ops{Records: []Record{r}})
		i++
	}
}
