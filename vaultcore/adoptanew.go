package vaultcore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// adoptDirectory makes an asset, or a folder. A folder has nothing in it that an
// op could say of the row, so it is made as any other, and its row deleted.
func (v *Vault) adoptDirectory(ctx context.Context, u *unattested) (string, error) {
	if u.row.Asset {
		n, err := v.adoptedAsset(ctx, u.row.ID, u.row.Type)
		if err != nil {
			return "", err
		}
		return v.InfoOf(n).Path, nil
	}
	dir, name, err := v.adoptedPlace(ctx, u)
	if err != nil {
		return "", err
	}
	at := path.Join(v.InfoOf(dir).Path, name)
	if err := v.makeDirs(splitPath(at)); err != nil {
		return "", err
	}
	return at, v.refuseRow(ctx, &u.row)
}

// adoptedPlace gives the directory that a row's file goes to, and its name there.
func (v *Vault) adoptedPlace(ctx context.Context, u *unattested) (dir *Node, name string, err error) {
	if dir, err = v.adoptedAsset(ctx, u.row.Parent, u.row.Type); err != nil {
		return nil, "", err
	}
	parts := strings.Split(u.stored(), "/")
	for i, p := range parts {
		parts[i] = shownComponent(p)
	}
	above := append([]string{v.InfoOf(dir).Path}, parts[:len(parts)-1]...)
	if err := v.makeDirs(above); err != nil {
		return nil, "", err
	}
	dir, err = v.Find(strings.Join(above, "/"))
	return dir, parts[len(parts)-1], err
}

// adoptAnew seals the content of a row under a new key, as a revision of the same
// attachment.
func (v *Vault) adoptAnew(ctx context.Context, u *unattested) (at string, err error) {
	if _, err := v.checkContent(ctx, u); err != nil { // before anything is made
		return "", err
	}
	v.shelf.open(u.key())
	r := &UnverifiedReading{v: v, u: *u}
	defer r.Close()
	dir, name, err := v.adoptedPlace(ctx, u)
	if err != nil {
		return "", err
	}
	if u.kind() == KindSymlink {
		return v.adoptLink(ctx, r, dir, name)
	}
	n, _, err := v.Tmpfile(dir, 0o600)
	if err != nil {
		return "", err
	}
	defer v.Release(n, true)
	v.tree.Lock()
	n.id, n.ino = u.row.ID, inoOf(u.row.ID)
	v.tree.Unlock()
	if err := v.copyTo(ctx, n, r); err != nil {
		return "", err
	}
	mtime := u.mtime(v.nowNS())
	if _, err := v.SetAttr(n, SetAttr{Mtime: &mtime}); err != nil {
		return "", err
	}
	return v.linkFree(n, dir, name)
}

func (v *Vault) copyTo(ctx context.Context, n *Node, r io.ReaderAt) error {
	buf := make([]byte, pieceSize)
	defer clear(buf)
	for off := int64(0); ; {
		k, err := r.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, werr := v.WriteAt(n, buf[:k], off); werr != nil {
			return werr
		}
		if off += int64(k); err != nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// linkFree names a file by the first name that is free.
func (v *Vault) linkFree(n, dir *Node, name string) (string, error) {
	for {
		v.tree.RLock()
		free := freeName(dir, name, n.id)
		v.tree.RUnlock()
		_, err := v.Link(n, dir, free)
		if errors.Is(err, ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		v.changed(Change{Kind: ChangeEntry, Dir: dir, Name: free, Node: n})
		return v.InfoOf(n).Path, nil
	}
}

// adoptLink makes a symbolic link anew; its row is deleted.
func (v *Vault) adoptLink(ctx context.Context, r *UnverifiedReading, dir *Node, name string) (string, error) {
	if r.Size() == 0 || r.Size() >= MaxName {
		return "", fmt.Errorf("%w: a link of %d bytes", ErrDamaged, r.Size())
	}
	target := make([]byte, r.Size())
	if _, err := r.ReadAt(target, 0); err != nil {
		return "", err
	}
	v.tree.RLock()
	name = freeName(dir, name, r.u.row.ID)
	v.tree.RUnlock()
	info, err := v.MakeLink(path.Join(v.InfoOf(dir).Path, name), string(target), false)
	if err != nil {
		return "", err
	}
	return info.Path, v.refuseRow(ctx, &r.u.row)
}
