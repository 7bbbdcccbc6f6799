package vaultcore

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync/atomic"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// A content that comes is hashed and written in pieces while more of it comes.
// Three pieces are the memory of one that is under way: one fills, one waits, one
// goes to the disk.
const (
	intakePiece  = mib
	intakePieces = 3
)

// intake is the side of takeIn that hashes and writes what has come.
type intake struct {
	f      *blob.File
	hash   hash.Hash
	off    int64
	full   chan []byte // what has come; closed at the end
	free   chan []byte // what can be filled again
	done   chan error  // the end
	broken atomic.Bool // the disk refuses: no more is wanted
}

// takeIn writes what r gives, about size bytes, to f, past the page cache where
// that is faster, and gives how many bytes they were and their SHA-256. Nothing is
// durable before the file is synced. Errors: those of r, and of the disk.
func takeIn(f *blob.File, r io.Reader, size int64) (n int64, sum [32]byte, err error) {
	a := &intake{f: f, hash: sha256.New(), full: make(chan []byte), free: make(chan []byte, intakePieces), done: make(chan error, 1)}
	go a.run()
	length := int(min(size+1, intakePiece))
	for made := 0; err == nil && !a.broken.Load(); {
		var piece []byte
		select {
		case piece = <-a.free:
		default:
			if made == intakePieces {
				piece = <-a.free
			} else {
				piece, made = blob.AlignedBuffer(length), made+1
			}
		}
		var got int
		if got, err = fill(r, piece[:length]); got > 0 {
			n += int64(got)
			a.full <- piece[:got]
		}
	}
	close(a.full)
	if failed := <-a.done; failed != nil {
		return n, sum, failed
	}
	if err != nil && err != io.EOF {
		return n, sum, err
	}
	return n, [32]byte(a.hash.Sum(nil)), nil
}

// fill reads until p is full; io.EOF is the end, which io.ReadFull would not tell
// from a reader that broke off.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

func (a *intake) run() {
	var err error
	for piece := range a.full {
		if err == nil {
			err = a.put(piece)
			a.broken.Store(err != nil)
		}
		a.free <- piece
	}
	a.done <- err
}

// put hashes a piece while the disk takes it.
func (a *intake) put(piece []byte) error {
	hashed := make(chan struct{})
	go func() {
		a.hash.Write(piece) // never fails
		close(hashed)
	}()
	err := a.f.WriteDirect(piece, a.off)
	<-hashed
	a.off += int64(len(piece))
	return err
}
