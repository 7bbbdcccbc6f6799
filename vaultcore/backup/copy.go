package backup

import (
	"context"
	"errors"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Copy seals everything that from shows anew into to, an empty vault of other
// keys: assets, folders, files and links with their names, modes and times.
// Nothing of one vault's keys or ciphertext gets into the other. It gives the paths
// of files whose content is not there, which are left out.
func Copy(ctx context.Context, from, to *vaultcore.Vault, progress func(done, total int64)) (missing []string, err error) {
	c := &copying{from: from, to: to, progress: progress}
	err = from.List("", true, func(i vaultcore.Info) error {
		c.total += i.Size
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = from.List("", true, func(i vaultcore.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.entry(i)
		if errors.Is(err, blob.ErrUnavailable) {
			c.missing = append(c.missing, i.Path)
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := c.attrs(c.dirs[i]); err != nil {
			return nil, err
		}
	}
	return c.missing, to.Barrier(ctx)
}

type copying struct {
	from, to    *vaultcore.Vault
	dirs        []vaultcore.Info // get mode and time at the end, which filling them changes
	missing     []string
	done, total int64
	progress    func(done, total int64)
}

func (c *copying) entry(i vaultcore.Info) error {
	switch i.Kind {
	case "asset":
		c.dirs = append(c.dirs, i)
		_, err := c.to.AddAsset(i.Path, i.Type)
		return err
	case "folder":
		c.dirs = append(c.dirs, i)
		_, err := c.to.MakeDir(i.Path, false)
		return err
	case "symlink":
		n, err := c.from.Find(i.Path)
		if err != nil {
			return err
		}
		target, err := c.from.Readlink(n)
		if err == nil {
			_, err = c.to.MakeLink(i.Path, target, false)
		}
		return err
	}
	return c.file(i)
}

func (c *copying) file(i vaultcore.Info) error {
	r, err := c.from.OpenRead(i.Path)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := c.to.OpenWrite(i.Path, vaultcore.WriteOptions{Mode: i.Mode, Mtime: i.Mtime})
	if err != nil {
		return err
	}
	buf := make([]byte, copyBuffer)
	defer clear(buf)
	if _, err := io.CopyBuffer(onlyWriter{io.MultiWriter(w, counter{c})}, onlyReader{r}, buf); err != nil {
		w.Abort()
		return err
	}
	if err := w.Commit(); err != nil || i.Mode != 0 {
		return err
	}
	return c.attrs(i) // no mode at all means the default when writing
}

func (c *copying) attrs(i vaultcore.Info) error {
	mtime := i.Mtime.UnixNano()
	return c.to.SetPathAttr(i.Path, vaultcore.SetAttr{Mode: &i.Mode, Mtime: &mtime})
}

type counter struct{ c *copying }

func (w counter) Write(p []byte) (int, error) {
	w.c.done += int64(len(p))
	if w.c.progress != nil {
		w.c.progress(w.c.done, w.c.total)
	}
	return len(p), nil
}
