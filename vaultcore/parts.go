package vaultcore

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

const (
	// partsMin is the smallest version 3 content that is opened and sealed in
	// parts: below it waking a second core costs more than it does.
	partsMin = 256 << 10
	// partSize is how much is opened or sealed at a time: what the hash has read
	// is still in the core's cache when the cipher comes to it.
	partSize = 256 << 10
	// partsWrite is how much sealed is written at a time.
	partsWrite = mib

	partsCores  = 4  // more than these no disk keeps busy
	cipherBlock = 16 // borders of parts are multiples of it
)

// onCores runs f on as many goroutines as help; the result waits for them.
func onCores(f func()) (wait func()) {
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), partsCores) {
		wg.Go(f)
	}
	return wg.Wait
}

// openParts reads a version 3 content from its file and opens what has come
// while the rest is on its way. Nothing of it is shown before all is verified.
func (c *content) openParts(s *store, key *seal.Key) (buf *plainBuf, data []byte, err error) {
	buf = s.bufs.plainSized(int(c.ref.sealedLen))
	buf.b = buf.b[:c.ref.sealedLen]
	p, err := seal.NewOpenV3(key, buf.b, c.ref.size, c.ref.hdr[:seal.HdrV3])
	if err == nil {
		o := opening{parts: p, size: int(c.ref.size), met: map[int]bool{}}
		if err = o.read(s.attachments, binName(c.ref.blob), buf.b); err != nil {
			p.Drop()
		} else {
			data, err = p.Finish()
		}
	}
	if err != nil {
		s.bufs.putPlain(buf)
		return nil, nil, damaged(err)
	}
	return buf, data, nil
}

// opening opens the pieces of a file in the order they come. The plaintext lies
// behind the IV, so pieces end within a block of the cipher; such a block is
// opened with the later of the two pieces it lies in.
type opening struct {
	parts seal.PartsOpenV3
	size  int

	mu  sync.Mutex
	met map[int]bool // sealed offsets on one side of which a piece has come
}

// read fills dst from a file. The openers are goroutines of their own, so that
// the disk never waits for them.
func (o *opening) read(dir *blob.Dir, name string, dst []byte) error {
	type piece struct{ from, to int }
	pieces := make(chan piece, 16)
	wait := onCores(func() {
		for p := range pieces {
			o.piece(p.from, p.to)
		}
	})
	err := dir.ReadPieces(name, dst, func(from, to int) { pieces <- piece{from, to} })
	close(pieces)
	wait()
	return err
}

// piece opens what the sealed bytes from one offset to another make possible.
func (o *opening) piece(from, to int) {
	first, last := o.border(from, true), o.border(to, false)
	for first < last {
		next := first + partSize
		if last <= next+cipherBlock {
			next = last
		}
		o.parts.Part(first, next)
		first = next
	}
}

// border gives the plaintext offset up to which, or from which on, a piece that
// ends or starts at a sealed offset is opened. Of two pieces that meet there,
// the first to ask leaves the block between them to the second.
func (o *opening) border(sealedOff int, start bool) int {
	off := max(sealedOff-plainHead, 0)
	if off >= o.size {
		return o.size
	}
	before := off &^ (cipherBlock - 1)
	if before == off {
		return off
	}
	o.mu.Lock()
	second := o.met[sealedOff]
	o.met[sealedOff] = true
	o.mu.Unlock()
	if start == second {
		return before
	}
	return min(before+cipherBlock, o.size)
}

// sealBin seals n bytes of plaintext in place, as SealV3 does, and writes them to
// the blob's file, what is sealed while the rest is being. sealed is the buffer
// if it holds ciphertext afterwards, all of it, also when there is an error.
func (s *store) sealBin(key *seal.Key, id seal.ID, buf []byte, n int) (sealed []byte, err error) {
	err = s.makeBin(id, n+seal.OverheadV3, func(f *blob.File) (err error) {
		if n >= partsMin {
			sealed, err = sealInParts(key, f, buf, n)
			return err
		}
		if sealed, err = seal.SealV3(key, buf, n); err == nil {
			_, err = f.WriteAt(sealed, 0)
		}
		return err
	})
	return sealed, err
}

// makeBin makes the file of a finished blob of size bytes, which write writes.
func (s *store) makeBin(id seal.ID, size int, write func(*blob.File) error) error {
	f, err := s.makeFile(s.attachments, partName(id))
	if err != nil {
		return err
	}
	if err := s.publishBin(f, id, write(f)); err != nil {
		return err
	}
	s.space.written(int64(size))
	return nil
}

// publishBin closes a blob's file and gives it its name, or removes it if
// writing it ended in an error, which is the result then.
func (s *store) publishBin(f *blob.File, id seal.ID, err error) error {
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.attachments.Rename(partName(id), binName(id))
	}
	if err != nil {
		s.removeFile(partName(id))
	}
	return err
}

// sealInParts is the part of sealBin for which several cores are worth it.
func sealInParts(key *seal.Key, f *blob.File, buf []byte, n int) (sealed []byte, err error) {
	p, err := seal.NewSealV3(key, buf, n)
	if err != nil {
		return nil, err
	}
	return sealRest(p, &sealedWriter{f: f, buf: buf[:n+seal.OverheadV3]}, n)
}

// sealRest seals what comes behind w.next, where a part begins, and writes it
// behind what w has written. sealed is all of the content, also with an error.
func sealRest(p seal.PartsSealV3, w *sealedWriter, n int) (sealed []byte, err error) {
	begin := w.next
	done := make(chan int, (n-begin)/partSize+1) // room for all, so nobody waits for the disk
	var next atomic.Int64
	next.Store(int64(begin))
	wait := onCores(func() {
		for {
			from := int(next.Add(partSize)) - partSize
			if from >= n {
				return
			}
			p.Part(from, min(from+partSize, n))
			done <- from
		}
	})
	w.come = map[int]bool{}
	for range (n - begin + partSize - 1) / partSize {
		w.add(<-done) // an error stays with w: what is begun is sealed to its end
	}
	wait()
	sealed = p.Finish()
	return sealed, w.end()
}

// sealedWriter writes parts that come in any order in that of the file, each
// page of it once.
type sealedWriter struct {
	f       *blob.File
	buf     []byte
	come    map[int]bool // parts behind next
	next    int          // plaintext offset up to which all is sealed
	written int
	err     error // of the first write that failed
}

// add takes note of a sealed part, and writes if there is enough.
func (w *sealedWriter) add(from int) {
	for w.come[from] = true; w.come[w.next]; w.next += partSize {
		delete(w.come, w.next)
	}
	to := (plainHead + w.next) &^ (pageSize - 1)
	if to <= len(w.buf)-seal.OverheadV3 && to-w.written >= partsWrite {
		w.write(to)
	}
}

func (w *sealedWriter) write(to int) {
	if w.err == nil {
		w.err = w.f.WriteDirect(w.buf[w.written:to], int64(w.written))
		w.written = to
	}
}

// end writes the rest, the tag with it.
func (w *sealedWriter) end() error {
	w.write(len(w.buf))
	return w.err
}
