package vaultcore

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Bounds of extended attributes, those of the kernel.
const (
	maxXAttrName  = 255
	maxXAttrValue = 64 << 10
	maxXAttrs     = 64 << 10 // names and values of one file together
)

// xattrs are the user's extended attributes of one node, sorted by name. A
// set is never changed once it is in a node.
type xattrs []xattr

type xattr struct{ name, value string }

// XAttrMode says whether an attribute has to be there before.
type XAttrMode uint8

// Modes of SetXAttr, as of setxattr(2).
const (
	XAttrAny     XAttrMode = 0
	XAttrCreate  XAttrMode = 1
	XAttrReplace XAttrMode = 2
)

func (x xattrs) find(name string) (int, bool) {
	return slices.BinarySearchFunc(x, name, func(a xattr, name string) int { return strings.Compare(a.name, name) })
}

func (x xattrs) bytes() (n int) {
	for _, a := range x {
		n += len(a.name) + len(a.value)
	}
	return n
}

// XAttr gives one extended attribute. Errors: ErrNotFound.
func (v *Vault) XAttr(n *Node, name string) (string, error) {
	v.tree.RLock()
	defer v.tree.RUnlock()
	if i, ok := n.xattrs.find(name); ok {
		return n.xattrs[i].value, nil
	}
	return "", ErrNotFound
}

// XAttrNames lists the extended attributes of a node.
func (v *Vault) XAttrNames(n *Node) []string {
	v.tree.RLock()
	defer v.tree.RUnlock()
	names := make([]string, len(n.xattrs))
	for i, a := range n.xattrs {
		names[i] = a.name
	}
	return names
}

// SetXAttr sets an extended attribute of a file or folder; like a time it is
// in memory at once and in the row within a moment. It stays on this device.
// Errors: ErrNotSupported on assets, ErrExist, ErrNotFound, ErrTooLarge,
// ErrNoSpace when a file has too many, ErrReadOnly, ErrStale.
func (v *Vault) SetXAttr(n *Node, name string, value []byte, mode XAttrMode) error {
	if len(name) > maxXAttrName || len(value) > maxXAttrValue {
		return fmt.Errorf("%w: extended attribute", ErrTooLarge)
	}
	return v.changeXAttrs(n, func(x xattrs) (xattrs, error) {
		i, found := x.find(name)
		switch {
		case found && mode == XAttrCreate:
			return nil, ErrExist
		case !found && mode == XAttrReplace:
			return nil, ErrNotFound
		case found:
			x = slices.Clone(x)
			x[i].value = string(value)
		default:
			x = slices.Insert(slices.Clone(x), i, xattr{name, string(value)})
		}
		if x.bytes() > maxXAttrs {
			return nil, fmt.Errorf("%w: extended attributes of one file", ErrNoSpace)
		}
		return x, nil
	})
}

// RemoveXAttr takes an extended attribute away. Errors: ErrNotFound.
func (v *Vault) RemoveXAttr(n *Node, name string) error {
	return v.changeXAttrs(n, func(x xattrs) (xattrs, error) {
		i, found := x.find(name)
		if !found {
			return nil, ErrNotFound
		}
		return slices.Delete(slices.Clone(x), i, i+1), nil
	})
}

func (v *Vault) changeXAttrs(n *Node, change func(xattrs) (xattrs, error)) error {
	if err := v.writable(); err != nil {
		return err
	}
	if n.kind == KindRoot || n.kind == KindAsset {
		return fmt.Errorf("%w: extended attributes of assets", ErrNotSupported)
	}
	if n.kind == KindFolder {
		if err := v.needFolderRow(n); err != nil {
			return err
		}
	}
	v.tree.Lock()
	if n.stale() {
		v.tree.Unlock()
		return ErrStale
	}
	x, err := change(n.xattrs)
	if err == nil {
		n.xattrs, n.ctime = x, v.nowNS()
	}
	v.tree.Unlock()
	if err == nil {
		v.queueAttrs(n)
	}
	return err
}

// encode appends u16 count, then u8 length ‖ name ‖ u32 length ‖ value each.
func (x xattrs) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(x)))
	for _, a := range x {
		b = append(b, byte(len(a.name)))
		b = append(b, a.name...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(a.value)))
		b = append(b, a.value...)
	}
	return b
}

func (d *fieldReader) xattrs() (x xattrs) {
	for range d.u16() {
		name := string(d.take(int(d.u8())))
		value := string(d.bytes32())
		if d.bad {
			return nil
		}
		x = append(x, xattr{name, value})
	}
	return x
}
