package vaultcore

import (
	"maps"
	"math/bits"
	"slices"
)

// pageSet is what a draft has over its lower content: pages in RAM, and the
// index of those that lie in its log. It costs about 110 bytes for each block
// of 64 KiB it knows anything of.
//
// A page in RAM is whole: what lies behind the end of the file in it is zero.
type pageSet struct {
	bufs   *buffers
	blocks map[uint32]*block
	ram    int // pages in RAM
	logged int // pages that lie in the log
}

// block is what is known of 16 pages.
type block struct {
	mem   *pageBlock // nil: no page in RAM
	have  uint16     // pages in mem, one bit each
	dirty uint16     // of have: not in the log as they are
	rec   [blockPages]uint32
}

// entry gives the block of a key, new if nothing is known of it.
func (s *pageSet) entry(key uint32) *block {
	b := s.blocks[key]
	if b == nil {
		if s.blocks == nil {
			s.blocks = make(map[uint32]*block)
		}
		b = &block{}
		s.blocks[key] = b
	}
	return b
}

// at gives the block and the page in it, nil if nothing is known of the block.
func (s *pageSet) at(page int64) (*block, int) {
	return s.blocks[uint32(page/blockPages)], int(page % blockPages)
}

// inRAM says whether the page is in RAM.
func (s *pageSet) inRAM(page int64) bool {
	b, i := s.at(page)
	return b != nil && b.have&(1<<i) != 0
}

// record gives the number of the log record that holds the page.
func (s *pageSet) record(page int64) (uint32, bool) {
	b, i := s.at(page)
	if b == nil || b.rec[i] == 0 {
		return 0, false
	}
	return b.rec[i] - 1, true
}

// missing counts the pages of first…last that are not in RAM.
func (s *pageSet) missing(first, last int64) int {
	n := int(last - first + 1)
	for page := first; page <= last; {
		b, i := s.at(page)
		count := int(min(blockPages-int64(i), last-page+1))
		if b != nil {
			n -= bits.OnesCount16(b.have & pageMask(i, count))
		}
		page += int64(count)
	}
	return n
}

// pageMask has the bits of count pages from i.
func pageMask(i, count int) uint16 { return uint16((1<<count - 1) << i) }

// own gives the block of a page with memory behind it.
func (s *pageSet) own(page int64) *block {
	b := s.entry(uint32(page / blockPages))
	if b.mem == nil {
		b.mem = s.bufs.block()
	}
	return b
}

// write copies p to off. A page that p takes only a part of is in RAM, or has
// nothing else in it.
func (s *pageSet) write(p []byte, off int64) {
	for len(p) > 0 {
		b := s.own(off / pageSize)
		in := int(off % blockSize)
		n := min(len(p), blockSize-in)
		first, last := in/pageSize, (in+n-1)/pageSize
		b.wipeNew(first)
		b.wipeNew(last)
		copy(b.mem[in:], p[:n])
		s.mark(b, pageMask(first, last-first+1))
		p, off = p[n:], off+int64(n)
	}
}

// wipeNew clears a page that is not in RAM yet: the memory had another user.
func (b *block) wipeNew(i int) {
	if b.have&(1<<i) == 0 {
		clear(b.mem[i*pageSize : (i+1)*pageSize])
	}
}

func (s *pageSet) mark(b *block, mask uint16) {
	s.ram += bits.OnesCount16(mask &^ b.have)
	b.have |= mask
	b.dirty |= mask
}

// put makes one page known that the log or the lower content holds as it is.
func (s *pageSet) put(page int64, data *[pageSize]byte) {
	b, i := s.own(page), int(page%blockPages)
	copy(b.mem[i*pageSize:], data[:])
	if b.have&(1<<i) == 0 {
		b.have |= 1 << i
		s.ram++
	}
}

// zeroTail clears a page in RAM from offset in on, as something written.
func (s *pageSet) zeroTail(page int64, in int) {
	b, i := s.at(page)
	clear(b.mem[i*pageSize+in : (i+1)*pageSize])
	b.dirty |= 1 << i
}

// cut forgets all pages from page on.
func (s *pageSet) cut(page int64) {
	first, i := uint32(page/blockPages), int(page%blockPages)
	for key, b := range s.blocks {
		switch {
		case key > first || key == first && i == 0:
			s.forget(b, ^uint16(0))
			delete(s.blocks, key)
		case key == first:
			s.forget(b, pageMask(i, blockPages-i))
		}
	}
}

// forget drops pages of a block from RAM and from the index.
func (s *pageSet) forget(b *block, mask uint16) {
	for i := range b.rec {
		if mask&(1<<i) != 0 && b.rec[i] != 0 {
			b.rec[i] = 0
			s.logged--
		}
	}
	s.dropRAM(b, mask)
}

func (s *pageSet) dropRAM(b *block, mask uint16) {
	s.ram -= bits.OnesCount16(b.have & mask)
	b.have &^= mask
	b.dirty &^= mask
	if b.have == 0 && b.mem != nil {
		s.bufs.putBlock(b.mem)
		b.mem = nil
	}
}

// dropClean drops every page from RAM that is in the log.
func (s *pageSet) dropClean() {
	for _, b := range s.blocks {
		s.dropRAM(b, ^b.dirty)
	}
}

// setRecord notes that pages of a block lie in a record of the log now; those
// in RAM are clean by that.
func (s *pageSet) setRecord(b *block, mask uint16, record uint32) {
	for m := mask; m != 0; m &= m - 1 {
		i := bits.TrailingZeros16(m)
		if b.rec[i] == 0 {
			s.logged++
		}
		b.rec[i] = record + 1
	}
	b.dirty &^= mask
}

// loggedMask has the bits of the pages that lie in the log.
func (b *block) loggedMask() (mask uint16) {
	for i, r := range b.rec {
		if r != 0 {
			mask |= 1 << i
		}
	}
	return mask
}

// keys gives the blocks in the order of the file.
func (s *pageSet) keys() []uint32 { return slices.Sorted(maps.Keys(s.blocks)) }

// clear forgets everything.
func (s *pageSet) clear() {
	for _, b := range s.blocks {
		s.dropRAM(b, ^uint16(0))
	}
	s.blocks = nil
	s.logged = 0
}

// forgetLog drops the index; the caller has what it pointed to.
func (s *pageSet) forgetLog() {
	for _, b := range s.blocks {
		clear(b.rec[:])
	}
	s.logged = 0
}

// run gives how many pages from page on, last at most, come from the same
// place: RAM, one record of the log, or neither.
func (s *pageSet) run(page, last int64) int64 {
	b, i := s.at(page)
	if b == nil {
		return s.voidRun(page, last)
	}
	n := int64(1)
	for ; page+n <= last && i+int(n) < blockPages; n++ {
		j := i + int(n)
		if b.have>>i&1 != b.have>>j&1 || b.have>>i&1 == 0 && b.rec[i] != b.rec[j] {
			break
		}
	}
	return n
}

// voidRun steps over blocks of which nothing is known.
func (s *pageSet) voidRun(page, last int64) int64 {
	next := page
	for next <= last && s.blocks[uint32(next/blockPages)] == nil {
		next = (next/blockPages + 1) * blockPages
	}
	return min(next, last+1) - page
}

// pagesWriteLocked writes p over the lower content.
func (d *draft) pagesWriteLocked(p []byte, off int64) error {
	first, last := off/pageSize, (off+int64(len(p))-1)/pageSize
	if n := d.pages.missing(first, last); n > 0 {
		d.settleLocked()
		if err := d.s.budget.makeRoomLocked(d, int64(n)*pageSize); err != nil {
			return err
		}
	}
	if off%pageSize != 0 {
		if err := d.loadPageLocked(first); err != nil {
			return err
		}
	}
	if end := off + int64(len(p)); end%pageSize != 0 && (last > first || off%pageSize == 0) {
		if err := d.loadPageLocked(last); err != nil {
			return err
		}
	}
	d.pages.write(p, off)
	return nil
}

// loadPageLocked brings a page into RAM that a write takes only a part of.
func (d *draft) loadPageLocked(page int64) error {
	if d.pages.inRAM(page) {
		return nil
	}
	var data [pageSize]byte
	if n := min(d.length-page*pageSize, pageSize); n > 0 {
		if err := d.readLocked(data[:n], page*pageSize); err != nil {
			return err
		}
	}
	d.pages.put(page, &data)
	return nil
}

// cutPagesLocked drops pages. The rest of the last one has to be zero from now
// on, wherever it lies.
func (d *draft) cutPagesLocked(size int64) error {
	page, in := size/pageSize, int(size%pageSize)
	if in == 0 {
		d.pages.cut(page)
		return nil
	}
	if _, logged := d.pages.record(page); logged || d.pages.inRAM(page) {
		if err := d.loadPageLocked(page); err != nil {
			return err
		}
		d.pages.zeroTail(page, in)
	}
	d.pages.cut(page + 1)
	return nil
}

func (d *draft) readPagesLocked(dst []byte, off int64) error {
	for last := (off + int64(len(dst)) - 1) / pageSize; len(dst) > 0; {
		page := off / pageSize
		n := min(d.pages.run(page, last)*pageSize-off%pageSize, int64(len(dst)))
		var err error
		if d.pages.inRAM(page) {
			b, _ := d.pages.at(page)
			copy(dst[:n], b.mem[off%blockSize:])
		} else if record, ok := d.pages.record(page); ok {
			err = d.log.readAt(d.s, record, dst[:n], off)
		} else {
			err = d.lower.readAt(d.s, dst[:n], off)
		}
		if err != nil {
			return err
		}
		dst, off = dst[n:], off+n
	}
	return nil
}
