package vaultcore

import (
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// ahead is the start of a flat draft that is sealed where it lies, and on its
// way to the disk, while the program still writes behind it: closing the file
// then has its end left to do. The buffer must not move meanwhile, nor go to
// another draft, nor become plaintext again while the disk reads from it; so
// whatever needs one of these lets what is in flight land first.
type ahead struct {
	key    seal.Key
	blob   seal.ID
	f      *blob.File
	parts  seal.PartsSealV3
	mem    []byte     // the buffer, as long as it may become
	sealed int64      // the plaintext before it is, or is becoming, ciphertext
	sent   int64      // bytes of the file that are written, or in flight
	from   int64      // where in the file what is in flight, or was last, begins
	flight chan error // the answer to what is in flight; nil if nothing is
	err    error      // of a flight

	shed      int64 // up to here the buffer's pages were given back, see shedLocked
	whole     bool  // all of the content is sealed, its tag with it
	published bool  // the file is whole too, and has its name
}

// aheadShare is the part of the largest flat file that is sealed ahead. One that
// outgrows the buffer has its start sealed anew as a stream, which makes the
// work done ahead a waste.
const aheadShare = 2

// sealAheadLocked seals some more of the start of a draft that is written in
// order, if there is enough of it and the disk has taken what came before.
// Nothing is sealed ahead of a draft that the log holds a part of, nor while
// memory is short and drafts may have to leave it.
func (d *draft) sealAheadLocked() {
	f, step := d.flat, d.s.limits.SealAhead
	to := step // one step at a time: what is in flight at the end has to be waited for
	if f.ahead != nil {
		to += f.ahead.sealed
	}
	switch {
	case f.plain || d.log != nil || d.isKept || d.s.writeV4() || f.buf.mapping == nil:
		return
	case cap(f.buf.b) < int(d.flatMax())+seal.OverheadV3:
		return // it will move
	case d.s.budget.used.Load() > d.s.budget.total/2:
		return
	case to+step > f.filled || to > d.flatMax()/aheadShare:
		return
	}
	if f.ahead == nil && !d.beginAheadLocked(to) || f.ahead.flying() {
		return
	}
	if f.ahead.err != nil {
		d.aheadFailedLocked() // closing the file tries again, and says what is wrong
		return
	}
	d.s.space.written(f.ahead.launch(f.buf.b, to))
}

// beginAheadLocked makes the file. What goes wrong here is nobody's business yet.
func (d *draft) beginAheadLocked(n int64) bool {
	a := &ahead{key: seal.NewKey(), blob: seal.NewBlobID(), mem: d.flat.buf.mapping}
	var err error
	if a.parts, err = seal.NewSealV3(&a.key, d.flat.buf.b, int(n)); err == nil {
		a.f, err = d.s.makeFile(d.s.attachments, partName(a.blob))
	}
	if err != nil {
		d.flat.plain = true
		return false
	}
	d.flat.ahead = a
	return true
}

// flying says whether something is in flight, without waiting.
func (a *ahead) flying() bool {
	if a.flight == nil {
		return false
	}
	select {
	case a.err = <-a.flight:
		a.flight = nil
	default:
	}
	return a.flight != nil
}

// launch has the plaintext up to an offset sealed and written, as far as it
// fills pages of the file, and says how many bytes those are.
func (a *ahead) launch(buf []byte, to int64) int64 {
	if a.err = a.parts.Extend(int(to)); a.err != nil {
		return 0
	}
	from, begin, end := a.sealed, a.sent, (plainHead+to)&^(pageSize-1)
	a.sealed, a.sent, a.from = to, end, begin
	flight := make(chan error, 1)
	a.flight = flight
	go func() {
		for ; from < to; from += partSize {
			a.parts.Part(int(from), int(min(from+partSize, to)))
		}
		flight <- a.f.WriteDirect(buf[begin:end], begin)
	}()
	return end - begin
}

// land waits for what is in flight.
func (a *ahead) land() error {
	if a.flight != nil {
		a.err, a.flight = <-a.flight, nil
	}
	return a.err
}

// peek fills dst from off as far as that is sealed ahead, which it stays, and
// says how many bytes those are.
func (a *ahead) peek(dst []byte, off int64) int {
	n := min(int64(len(dst)), a.sealed-off)
	if n <= 0 {
		return 0
	}
	_ = a.land() // closing the file meets its error; what is sealed can be opened all the same
	a.parts.Peek(dst[:n], int(off))
	return int(n)
}

// landedAheadLocked gives what was sealed ahead for closing to go on with, or
// nil if there is nothing or it could not be written.
func (d *draft) landedAheadLocked() *ahead {
	if d.flat == nil || d.flat.ahead == nil {
		return nil
	}
	if d.flat.ahead.land() != nil {
		d.aheadFailedLocked()
	}
	return d.flat.ahead
}

// endAheadLocked seals and writes what is left of the file, and gives it its
// name. sealed is the buffer, which then holds nothing but ciphertext, also
// when there is an error. What was sealed ahead has landed.
func (d *draft) endAheadLocked() (sealed []byte, err error) {
	a, n := d.flat.ahead, int(d.length)
	if err := a.parts.Extend(n); err != nil {
		d.openAheadLocked()
		return nil, err
	}
	w := sealedWriter{f: a.f, buf: d.flat.buf.b[:n+seal.OverheadV3], next: int(a.sealed), written: int(a.sent)}
	sealed, err = sealRest(a.parts, &w, n)
	rest := int64(len(sealed)) - a.sent
	d.flat.ahead = nil
	a.key.Wipe()
	if err = d.s.publishBin(a.f, a.blob, err); err != nil {
		d.regainLocked(a.sent)
		return sealed, err
	}
	d.s.space.written(rest)
	return sealed, nil
}

// flatDataLocked is the plaintext of a flat draft, all of it.
func (d *draft) flatDataLocked() []byte {
	d.openAheadLocked()
	return d.flat.data()
}

// aheadFailedLocked forgets a write that failed. What was sealed becomes plaintext
// again; what has a start that is only in the file stays, and is written again.
func (d *draft) aheadFailedLocked() {
	a := d.flat.ahead
	if a.shed == 0 {
		d.openAheadLocked()
		return
	}
	d.regainLocked(a.sent - a.from)
	a.sent, a.err = a.from, nil
}

// openAheadLocked makes plaintext of what was sealed ahead, all of which is in RAM.
// This draft is not sealed ahead again: whoever goes back once will do so again.
func (d *draft) openAheadLocked() {
	if a := d.flat.ahead; a != nil {
		d.dropAheadLocked()
		a.parts.Undo()
		d.regainLocked(a.sent)
	}
}

// dropAheadLocked lets go of what was sealed ahead, and leaves the buffer as it
// is, but no longer the disk's.
func (d *draft) dropAheadLocked() {
	a := d.flat.ahead
	if a == nil {
		return
	}
	_ = a.land() // nobody wants it any more
	d.flat.ahead, d.flat.plain = nil, true
	a.f.Close()
	if !a.published {
		d.s.removeFile(partName(a.blob))
	}
	a.key.Wipe()
}

// regainLocked promises again what was on the disk and has gone.
func (d *draft) regainLocked(n int64) {
	d.promised += n
	d.s.space.regain(n)
}
