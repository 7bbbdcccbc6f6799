package blob

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An upload lies beside its target: ".up-‹id›" holds the bytes, every part at
// its place, and ".up-‹id›.parts" one line for each that is durable, written
// after it. A line counts when it is whole, so a torn one is a part to send
// again. "‹number› -" takes a line back before the part is overwritten.

const maxPartLog = 4 << 20 // bytes; 10,000 parts take a tenth

// Start implements Store.
func (d *Dir) Start(ctx context.Context, up Upload) (Upload, error) {
	if up.PartSize < 1 {
		return Upload{}, fmt.Errorf("start upload of %s in parts of %d bytes: %w", up.Key, up.PartSize, ErrSize)
	}
	if up.ID != "" {
		return d.resume(up)
	}
	dir, _, err := d.parent(up.Key, true)
	if err != nil {
		return Upload{}, err
	}
	defer dir.Close()
	up.ID, up.Parts = randomHex(), nil
	for _, name := range []string{uploadPrefix + up.ID, uploadPrefix + up.ID + ".parts"} {
		file, err := createIn(dir, name)
		if err != nil {
			return Upload{}, Wrap("start upload of", up.Key, err)
		}
		file.Close()
	}
	return up, Wrap("start upload of", up.Key, syncDir(int(dir.Fd())))
}

func (d *Dir) resume(up Upload) (Upload, error) {
	files, err := d.openUpload(up)
	if err != nil {
		return Upload{}, err
	}
	defer files.close()
	stored, err := files.stored()
	up.Parts = slices.SortedFunc(maps.Values(stored), func(a, b Part) int { return a.Number - b.Number })
	return up, Wrap("resume upload of", up.Key, err)
}

// Part implements Store.
func (d *Dir) Part(ctx context.Context, up Upload, number int, r io.Reader, size int64) (Part, error) {
	if err := CheckPart(up, number, size); err != nil {
		return Part{}, err
	}
	files, err := d.openUpload(up)
	if err != nil {
		return Part{}, err
	}
	defer files.close()
	part, err := files.store(ctx, up, number, r, size)
	return part, Wrap(fmt.Sprintf("store part %d of", number), up.Key, err)
}

// Finish implements Store.
func (d *Dir) Finish(ctx context.Context, up Upload, createOnly bool) error {
	if err := errors.Join(ctx.Err(), CheckParts(up)); err != nil {
		return fmt.Errorf("finish upload of %s: %w", up.Key, err)
	}
	files, err := d.openUpload(up)
	if err != nil {
		if len(up.Parts) == 0 && errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	defer files.close()
	if len(up.Parts) == 0 {
		return Wrap("abandon upload of", up.Key, files.remove())
	}
	err = files.complete(up)
	if err == nil {
		err = d.publish(files.dir, uploadPrefix+up.ID, path.Base(up.Key), createOnly)
	}
	if err == nil {
		err = files.remove()
	}
	return Wrap("finish upload of", up.Key, err)
}

// uploadFiles are the open files of one upload.
type uploadFiles struct {
	dir, data, log *os.File
	id             string
}

func (d *Dir) openUpload(up Upload) (*uploadFiles, error) {
	if raw, err := hex.DecodeString(up.ID); err != nil || len(raw) != 16 {
		return nil, fmt.Errorf("upload of %s: %w", up.Key, ErrNotFound)
	}
	dir, _, err := d.parent(up.Key, false)
	if err != nil {
		return nil, err
	}
	files := &uploadFiles{dir: dir, id: up.ID}
	files.data, err = openIn(dir, uploadPrefix+up.ID, unix.O_RDWR)
	if err == nil {
		files.log, err = openIn(dir, uploadPrefix+up.ID+".parts", unix.O_RDWR|unix.O_APPEND)
	}
	if err != nil {
		files.close()
		return nil, Wrap("upload of", up.Key, err)
	}
	return files, nil
}

func openIn(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(dir.Name(), name)), nil
}

func (f *uploadFiles) close() {
	for _, file := range []*os.File{f.dir, f.data, f.log} {
		if file != nil {
			file.Close()
		}
	}
}

func (f *uploadFiles) remove() error {
	fd := int(f.dir.Fd())
	return errors.Join(unlinkat(fd, uploadPrefix+f.id), unlinkat(fd, uploadPrefix+f.id+".parts"))
}

func (f *uploadFiles) store(ctx context.Context, up Upload, number int, r io.Reader, size int64) (Part, error) {
	stored, err := f.stored()
	if err != nil {
		return Part{}, err
	}
	if _, again := stored[number]; again {
		if err := f.note(fmt.Sprintf("%d -", number)); err != nil {
			return Part{}, err
		}
	}
	off := int64(number-1) * up.PartSize
	if off/up.PartSize != int64(number-1) {
		return Part{}, ErrSize
	}
	sum, err := copyExactly(ctx, io.NewOffsetWriter(f.data, off), r, size)
	if err == nil {
		err = f.data.Sync()
	}
	if err != nil {
		f.giveBack(off, size)
		return Part{}, err
	}
	part := Part{Number: number, Size: size, Tag: fmt.Sprintf("%08x", sum)}
	return part, f.note(fmt.Sprintf("%d %d %s", part.Number, part.Size, part.Tag))
}

// giveBack frees what a part took that has to be sent again: on a full disk the rest of
// an upload that does not fit would leave no room for anything smaller.
func (f *uploadFiles) giveBack(off, size int64) {
	const hole = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	_, err := retryEINTR(func() (int, error) { return 0, unix.Fallocate(int(f.data.Fd()), hole, off, max(size, 1)) })
	if err == nil {
		return
	}
	// Without holes it helps where nothing lies behind the part.
	if st, err := f.data.Stat(); err == nil && st.Size() > off && st.Size() <= off+size {
		_ = f.data.Truncate(off) // it stays as it was, and takes its room
	}
}

// note appends one line durably. The leading line feed ends a torn one.
func (f *uploadFiles) note(line string) error {
	if _, err := f.log.WriteString("\n" + line + "\n"); err != nil {
		return err
	}
	return f.log.Sync()
}

func (f *uploadFiles) stored() (map[int]Part, error) {
	log, err := io.ReadAll(io.NewSectionReader(f.log, 0, maxPartLog))
	if err != nil {
		return nil, err
	}
	parts := map[int]Part{}
	for line := range bytes.Lines(log) {
		var p Part
		if n, _ := fmt.Sscanf(string(line), "%d -", &p.Number); n == 1 && bytes.HasSuffix(line, []byte(" -\n")) {
			delete(parts, p.Number)
			continue
		}
		n, _ := fmt.Sscanf(string(line), "%d %d %s", &p.Number, &p.Size, &p.Tag)
		if n == 3 && len(p.Tag) == 8 && p.Number > 0 && p.Size >= 0 {
			parts[p.Number] = p
		}
	}
	return parts, nil
}

// complete checks that the parts the caller names are the parts stored, cuts
// off what an earlier, longer last part left behind, and makes all durable.
func (f *uploadFiles) complete(up Upload) error {
	stored, err := f.stored()
	if err != nil {
		return err
	}
	var size int64
	for _, p := range up.Parts {
		if stored[p.Number] != p {
			return fmt.Errorf("part %d is not the one stored: %w", p.Number, ErrSize)
		}
		size += p.Size
	}
	return errors.Join(f.data.Truncate(size), f.data.Sync())
}

// Sweep removes temporary files and unfinished uploads that nobody has
// written to since the given time, by the store's clock: a writer that was
// killed leaves them, and nothing else names them.
func (d *Dir) Sweep(ctx context.Context, before time.Time) error {
	root, err := d.reopen()
	if err != nil {
		return Wrap("sweep", d.path, err)
	}
	defer root.Close()
	return Wrap("sweep", d.path, sweep(ctx, root, before))
}

func sweep(ctx context.Context, dir *os.File, before time.Time) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	fd := int(dir.Fd())
	for _, name := range names {
		var st unix.Stat_t
		if err := ctx.Err(); err != nil {
			return err
		}
		if lstatat(fd, name, &st) != nil {
			continue
		}
		switch kind := st.Mode & unix.S_IFMT; {
		case kind == unix.S_IFDIR && checkName(name) == nil:
			err = sweepBelow(ctx, dir, name, before)
		case kind == unix.S_IFREG && ownName(name) && time.Unix(st.Mtim.Unix()).Before(before):
			err = unlinkat(fd, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sweepBelow(ctx context.Context, dir *os.File, name string, before time.Time) error {
	sub, err := openSubdir(int(dir.Fd()), name, name)
	if err != nil {
		return nil // went away; an unreadable folder is not ours to sweep
	}
	defer sub.Close()
	return sweep(ctx, sub, before)
}

// ownName recognises exactly what this package makes, so that nobody else's
// dot file is taken for rubbish.
func ownName(name string) bool {
	id, ok := strings.CutPrefix(name, tempPrefix)
	if !ok {
		if id, ok = strings.CutPrefix(name, uploadPrefix); !ok {
			return false
		}
		id = strings.TrimSuffix(id, ".parts")
	}
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == 16
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// copyExactly copies size bytes and makes sure that no more follow. It gives
// their CRC-32C.
func copyExactly(ctx context.Context, w io.Writer, r io.Reader, size int64) (uint32, error) {
	sum := crc32.New(castagnoli)
	src := contextReader{ctx, r}
	buf := make([]byte, min(max(size, 1), 256<<10))
	n, err := io.CopyBuffer(io.MultiWriter(w, sum), io.LimitReader(src, size), buf)
	if err != nil {
		return 0, err
	}
	if n != size {
		return 0, fmt.Errorf("%d bytes of %d: %w", n, size, ErrSize)
	}
	if n, err := io.ReadFull(src, buf[:1]); n != 0 {
		return 0, fmt.Errorf("more than %d bytes: %w", size, ErrSize)
	} else if err != io.EOF {
		return 0, err
	}
	return sum.Sum32(), nil
}

// contextReader stops between two reads when its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
