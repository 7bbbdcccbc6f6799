package vaultcore

import (
	"fmt"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// A flat draft that has to leave RAM while it is written in order is not sealed
// as something else first: what there is of it is sealed where it lies, goes to
// the start of the file it will be in, and the pages go back to the kernel. Such
// a draft is shed. It grows in the same buffer, is shed again when RAM is short
// again, and closing it seals its end. Its first page stays, for the IV.
//
// Whoever goes back, cuts it, or wants it on the disk as it is gets a stream made
// of it, part by part, so that it never comes to lie in RAM as a whole. So does a
// file that outgrows version 3: its start, 25 MiB at most, is sealed twice.

// partRoom is the memory that a part is read into, which begins anywhere in a page.
const partRoom = partSize + pageSize

// isShed says that the start of the draft is only in its file. f may be nil.
func (f *flat) isShed() bool { return f != nil && f.ahead != nil && f.ahead.shed > 0 }

// shedsLocked says whether a flat draft can be shed: if it may become a content of
// version 3 in a file, whose start does not change any more.
func (d *draft) shedsLocked() bool {
	f := d.flat
	switch {
	case f.isShed():
		return !f.ahead.whole
	case f.plain || f.sealed != nil || d.log != nil || d.isKept || d.s.writeV4() || f.buf.mapping == nil:
		return false
	case cap(f.buf.b) < int(d.flatMax())+seal.OverheadV3:
		return false // it will move
	}
	return f.filled > d.s.limits.FreshMax
}

// shedLocked seals and writes what there is of the draft and gives its pages
// back. On error it is as it was; one that was not shed is not sealed ahead then.
func (d *draft) shedLocked() error {
	f := d.flat
	to := f.filled &^ (cipherBlock - 1)
	if f.ahead == nil && !d.beginAheadLocked(to) {
		return fmt.Errorf("%w: a draft's file", ErrNoSpace)
	}
	a := f.ahead
	if a.land() != nil {
		d.aheadFailedLocked()
	}
	if f.ahead == nil {
		return fmt.Errorf("%w: the start of a draft", ErrNoSpace)
	}
	if (plainHead+to)&^(pageSize-1) > a.sent {
		d.s.space.written(a.launch(f.buf.b, to))
	}
	if err := a.land(); err != nil {
		d.aheadFailedLocked()
		return err
	}
	if a.sent > pageSize {
		f.buf.shedTo(int(a.sent))
		a.shed = a.sent
	}
	return nil
}

// readAheadLocked fills dst from off as far as that is sealed ahead, which it
// stays, and says how many bytes those are.
// Errors: ErrDamaged, else the disk's.
func (d *draft) readAheadLocked(dst []byte, off int64) (n int, err error) {
	a := d.flat.ahead
	if a == nil {
		return 0, nil
	}
	if plainHead+off < a.shed {
		scratch := d.s.bufs.plainSized(partRoom)
		defer d.s.bufs.putPlain(scratch)
		for n < len(dst) && plainHead+off+int64(n) < a.shed {
			at := off + int64(n)
			from, part, err := a.part(scratch.b[:partRoom], at)
			if err != nil {
				return n, err
			}
			n += copy(dst[n:], part[at-from:])
			clear(part)
		}
	}
	return n + a.peek(dst[n:], off+int64(n)), nil
}

// part opens into scratch, of partRoom bytes, the part that an offset lies in, and
// says where that begins. What of it was given back comes from the file.
func (a *ahead) part(scratch []byte, off int64) (from int64, plain []byte, err error) {
	_ = a.land() // an error is of what lies in RAM
	first, end, ok := a.parts.PartAt(int(off))
	if !ok || end-first > partSize {
		return 0, nil, fmt.Errorf("%w: no part of a draft at %d", ErrDamaged, off)
	}
	at, n := int64(plainHead+first), int64(end-first)
	lost := min(max(a.shed-at, 0), n)
	if plain, err = a.f.ReadInto(scratch, at, lost); err != nil {
		return 0, nil, readError(err)
	}
	plain = plain[:n]
	copy(plain[lost:], a.mem[at+lost:])
	if err := a.parts.OpenPart(plain, first); err != nil {
		return 0, nil, damaged(err)
	}
	return int64(first), plain, nil
}

// eachFlatLocked gives all of a flat draft's plaintext in order: a shed one's in
// parts, which are valid until the next.
func (d *draft) eachFlatLocked(use func(data []byte) error) error {
	if !d.flat.isShed() {
		return use(d.flatDataLocked())
	}
	f := d.flat
	scratch := d.s.bufs.plainSized(partRoom)
	defer d.s.bufs.putPlain(scratch)
	defer clear(scratch.b[:partRoom])
	for off := int64(0); off < f.ahead.sealed; {
		_, part, err := f.ahead.part(scratch.b[:partRoom], off)
		if err == nil {
			err = use(part)
		}
		if err != nil {
			return err
		}
		off += int64(len(part))
	}
	return use(f.data()[f.ahead.sealed:])
}

// endShedLocked seals and writes the rest of a shed draft, and gives the file its
// name. After an error all of it is sealed, and finishing again writes what is
// not in the file yet.
func (d *draft) endShedLocked(sc *sealedContent) (err error) {
	f, n := d.flat, int(d.length)
	a := f.ahead
	if a.whole {
		err = a.f.WriteDirect(f.buf.b[a.sent:], a.sent)
	} else {
		if err := a.parts.Extend(n); err != nil {
			return err
		}
		w := sealedWriter{f: a.f, buf: f.buf.b[:n+seal.OverheadV3], next: int(a.sealed), written: int(a.sent)}
		f.buf.b, err = sealRest(a.parts, &w, n)
		a.sealed, a.whole = d.length, true
	}
	if err != nil {
		return err
	}
	if err := d.s.attachments.Rename(partName(a.blob), binName(a.blob)); err != nil {
		return err
	}
	a.published = true
	d.s.space.written(int64(len(f.buf.b)) - a.sent)
	a.sent = int64(len(f.buf.b))
	sc.setHdr(f.buf.b)
	return nil
}
