package move

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vaultdrive/vaultdrive/remote/server/metadb"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

const (
	atOnce = 8   // blobs under way
	page   = 500 // blobs asked of the database at a time
	// partLeast is the size of the parts that larger blobs go in.
	partLeast = 8 << 20
	maxParts  = 9000 // a bucket takes 10,000
	tries     = 4    // of a store that does not answer, with pauses of 1, 2 and 4 s
)

// errSource: it is the source that failed, not the destination.
var errSource = errors.New("source")

// putProbe writes and removes a blob.
func putProbe(ctx context.Context, to blob.Store) error {
	const key = "move-probe"
	if err := to.Put(ctx, key, bytes.NewReader(nil), 0, false); err != nil {
		return err
	}
	return to.Delete(ctx, key)
}

// copyBlobs brings what the database names. Blobs that the source has not as it
// should are counted, and an error at the end unless they are to be left out.
func (m *mover) copyBlobs(ctx context.Context) error {
	_, all, err := m.o.From.DB.ObjectTotals(ctx)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	var mu sync.Mutex
	done := func(o metadb.Object, copied bool, why string) {
		mu.Lock()
		defer mu.Unlock()
		m.count(o, copied, why)
		if m.o.Blobs != nil {
			m.o.Blobs(m.Bytes, all)
		}
	}
	for after := ""; ; {
		list, err := m.o.From.DB.Objects(ctx, after, page)
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if len(list) == 0 {
			return m.damage()
		}
		after = list[len(list)-1].Key
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for _, o := range list {
			g.Go(func() error {
				copied, why, err := m.bringAgain(ctx, o)
				if err == nil {
					done(o, copied, why)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
}

func (m *mover) count(o metadb.Object, copied bool, why string) {
	if why != "" {
		m.Damaged = append(m.Damaged, Damaged{o.Key, why})
		return
	}
	m.Blobs++
	m.Bytes += o.Stored
	if copied {
		m.CopiedBlobs++
		m.CopiedBytes += o.Stored
	}
}

func (m *mover) damage() error {
	slices.SortFunc(m.Damaged, func(a, b Damaged) int { return cmp.Compare(a.Key, b.Key) })
	if len(m.Damaged) == 0 || m.o.SkipDamaged {
		return nil
	}
	first := m.Damaged[0]
	return fmt.Errorf("%w: %d, the first %s (%s)", ErrDamaged, len(m.Damaged), first.Key, first.Reason)
}

// bringAgain tries again while a store does not answer.
func (m *mover) bringAgain(ctx context.Context, o metadb.Object) (copied bool, why string, err error) {
	for try := 1; ; try++ {
		copied, why, err = m.bring(ctx, o)
		if !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrNoStore) || try == tries {
			break
		}
		pause := max(time.Second<<(try-1), min(blob.RetryAfter(err), time.Minute))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, "", ctx.Err()
		}
	}
	switch {
	case err == nil:
		return copied, why, nil
	case errors.Is(err, errSource):
		return false, "", err
	}
	return false, "", fmt.Errorf("destination: %w", err)
}

// bring makes the destination hold a blob. why: the source has it not as it
// should.
func (m *mover) bring(ctx context.Context, o metadb.Object) (copied bool, why string, err error) {
	if m.o.Kept {
		why, err = m.check(ctx, m.o.From.Blobs, o)
		return false, why, err
	}
	if m.resumed {
		if there, err := m.there(ctx, o); err != nil || there {
			return false, "", err
		}
	}
	from, err := m.o.From.Blobs.Get(ctx, o.Key, 0, -1)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		return false, "missing", nil
	}
	if err != nil {
		return false, "", fmt.Errorf("%w: %w", errSource, err)
	}
	defer from.Close()
	r := newVerified(from, o)
	err = m.put(ctx, o, r)
	switch {
	case r.why != "":
		return false, r.why, nil
	case r.err != nil:
		return false, "", fmt.Errorf("%w: %w", errSource, r.err)
	case err != nil:
		return false, "", err
	}
	attrs, err := m.o.To.Blobs.Head(ctx, o.Key)
	if err == nil && attrs.Size != o.Stored {
		err = fmt.Errorf("%s: %d bytes, not %d: %w", o.Key, attrs.Size, o.Stored, ErrDiffers)
	}
	if err == nil && m.o.Verify {
		err = m.readBack(ctx, o)
	}
	return err == nil, "", err
}

// there: an earlier run has brought it. A store holds all of a blob or nothing,
// and nothing gets into it whose hash was not right.
func (m *mover) there(ctx context.Context, o metadb.Object) (bool, error) {
	attrs, err := m.o.To.Blobs.Head(ctx, o.Key)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		return false, nil
	}
	if err != nil || attrs.Size != o.Stored {
		return false, err
	}
	if m.o.Verify {
		why, err := verify(ctx, m.o.To.Blobs, o)
		return why == "" && err == nil, err // damaged: it is brought anew
	}
	return true, nil
}

func (m *mover) readBack(ctx context.Context, o metadb.Object) error {
	why, err := verify(ctx, m.o.To.Blobs, o)
	if err == nil && why != "" {
		err = fmt.Errorf("%s: %s: %w", o.Key, why, ErrDiffers)
	}
	return err
}

// check looks at a blob that stays where it is.
func (m *mover) check(ctx context.Context, at blob.Store, o metadb.Object) (why string, err error) {
	if m.o.Verify {
		return verify(ctx, at, o)
	}
	attrs, err := at.Head(ctx, o.Key)
	switch {
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore):
		return "missing", nil
	case err != nil:
		return "", err
	case attrs.Size != o.Stored:
		return "length", nil
	}
	return "", nil
}

// verify reads a blob and says what is wrong with it.
func verify(ctx context.Context, at blob.Store, o metadb.Object) (why string, err error) {
	body, err := at.Get(ctx, o.Key, 0, -1)
	if errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrNoStore) {
		return "missing", nil
	}
	if err != nil {
		return "", err
	}
	defer body.Close()
	r := newVerified(body, o)
	if _, err := io.Copy(io.Discard, r); err != nil && r.why == "" {
		return "", err
	}
	return r.why, nil
}

// put writes a blob at once, or in parts.
func (m *mover) put(ctx context.Context, o metadb.Object, r *verified) error {
	to := m.o.To.Blobs
	if o.Stored <= 2*partLeast {
		return to.Put(ctx, o.Key, r, o.Stored, false)
	}
	up, err := to.Start(ctx, blob.Upload{Key: o.Key, PartSize: max(partLeast, o.Stored/maxParts+1)})
	if err != nil {
		return err
	}
	for left := o.Stored; left > 0 && err == nil; {
		var part blob.Part
		size := min(left, up.PartSize)
		part, err = to.Part(ctx, up, len(up.Parts)+1, io.LimitReader(r, size), size)
		up.Parts, left = append(up.Parts, part), left-size
	}
	if err != nil {
		up.Parts = nil
		return errors.Join(err, to.Finish(context.WithoutCancel(ctx), up, false)) // gives up what was stored of it
	}
	return to.Finish(ctx, up, false)
}

// verified reads a blob whose last byte comes only if length and hash are right.
type verified struct {
	r    io.Reader
	h    hash.Hash
	want metadb.Object
	read int64
	why  string // what is wrong with it
	err  error  // of reading
}

func newVerified(r io.Reader, o metadb.Object) *verified {
	return &verified{r: r, h: sha256.New(), want: o}
}

func (v *verified) Read(b []byte) (int, error) {
	if v.why != "" {
		return 0, v.damaged()
	}
	n, err := v.r.Read(b)
	v.read += int64(n)
	v.h.Write(b[:n])
	switch {
	case v.read > v.want.Stored, err == io.EOF && v.read < v.want.Stored:
		v.why = "length"
	case v.read == v.want.Stored && v.want.SHA256 != "" && n > 0 && hex.EncodeToString(v.h.Sum(nil)) != v.want.SHA256:
		v.why = "hash"
	case err != nil && err != io.EOF:
		v.err = err
	}
	if v.why != "" {
		return 0, v.damaged()
	}
	return n, err
}

func (v *verified) damaged() error {
	return fmt.Errorf("%s: wrong %s: %w", v.want.Key, v.why, ErrDamaged)
}
