package seal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestRowRoundTrip(t *testing.T) {
	l := DeriveLocal(keyFrom(1), testVault)
	var aad RowAAD
	for n := range 300 {
		aad.Reset("assets")
		aad.Bytes(testAttachment[:])
		aad.Uint(uint64(n))
		dst := []byte("kept")
		sealed := l.SealRow(dst, pattern(n), aad.Sum())
		if len(sealed) != 4+n+Overhead || string(sealed[:4]) != "kept" {
			t.Fatalf("%d bytes: sealed to %d", n, len(sealed))
		}
		got, err := l.OpenRow([]byte("kept"), sealed[4:], aad.Sum())
		if err != nil || string(got[:4]) != "kept" || !bytes.Equal(got[4:], pattern(n)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if l.Uses() != 300 {
		t.Errorf("%d uses", l.Uses())
	}
}

// A row is bound to its table, its clear columns and their order; a column
// cannot lend bytes to its neighbour.
func TestLocalTamper(t *testing.T) {
	l := DeriveLocal(keyFrom(1), testVault)
	build := func(table string, cols ...any) []byte {
		var a RowAAD
		a.Reset(table)
		for _, c := range cols {
			switch c := c.(type) {
			case int:
				a.Uint(uint64(c))
			case string:
				a.Bytes([]byte(c))
			}
		}
		return bytes.Clone(a.Sum())
	}
	aad := build("assets", "ab", "c", 5)
	sealed := l.SealRow(nil, []byte("fields"), aad)
	if _, err := l.OpenRow(nil, sealed, aad); err != nil {
		t.Fatal(err)
	}
	for what, other := range map[string][]byte{
		"other table": build("asset_attachments", "ab", "c", 5), "column changed": build("assets", "ab", "d", 5),
		"columns exchanged": build("assets", "c", "ab", 5), "border moved": build("assets", "a", "bc", 5),
		"number changed": build("assets", "ab", "c", 6), "column missing": build("assets", "ab", "c"),
		"column more": build("assets", "ab", "c", 5, ""), "nothing": nil,
		"table lends to column": build("assetsab", "", "c", 5),
	} {
		_, err := l.OpenRow(nil, sealed, other)
		wantErr(t, what, err, ErrAuth)
	}
	for bit := range 8 * len(sealed) {
		dst, err := l.OpenRow([]byte("x"), flipped(sealed, bit), aad)
		wantErr(t, fmt.Sprint("bit ", bit), err, ErrAuth)
		if string(dst) != "x" {
			t.Fatal("dst changed")
		}
	}
	for n := range Overhead {
		_, err := l.OpenRow(nil, sealed[:n], aad)
		wantErr(t, fmt.Sprint(n, " bytes"), err, ErrTruncated)
	}
	_, err := DeriveLocal(keyFrom(2), testVault).OpenRow(nil, sealed, aad)
	wantErr(t, "another key", err, ErrAuth)
	_, err = DeriveLocal(keyFrom(1), testParent).OpenRow(nil, sealed, aad)
	wantErr(t, "another vault", err, ErrAuth)
}

// Nothing of the fields stays in dst's spare capacity after a failed open.
func TestRowFailureClears(t *testing.T) {
	l := DeriveLocal(keyFrom(1), testVault)
	sealed := l.SealRow(nil, []byte(strings.Repeat("canary", 10)), nil)
	dst := make([]byte, 0, 100)
	_, err := l.OpenRow(dst, flipped(sealed, 8*len(sealed)-1), nil)
	wantErr(t, "bad tag", err, ErrAuth)
	if bytes.Contains(dst[:100], []byte("canary")) {
		t.Error("plaintext in the buffer")
	}
}

func TestLocalKeyFile(t *testing.T) {
	e := DeriveEpoch(keyFrom(0x60), testVault, 7)
	ldk := keyFrom(0x05)
	file := e.SealLocalKey(ldk)
	got, err := e.OpenLocalKey(file)
	if err != nil || !got.Equal(ldk) || len(file) != 64 {
		t.Fatalf("%d bytes: %v", len(file), err)
	}
	if epoch, err := LocalKeyEpoch(file); err != nil || epoch != 7 {
		t.Errorf("epoch %d, %v", epoch, err)
	}
	for bit := range 8 * len(file) {
		_, err := e.OpenLocalKey(flipped(file, bit))
		wantErr(t, fmt.Sprint("bit ", bit), err, ErrAuth)
	}
	for n := range 100 {
		if n != len(file) {
			_, err := e.OpenLocalKey(make([]byte, n))
			wantErr(t, fmt.Sprint(n, " bytes"), err, ErrFormat)
		}
	}
	_, err = DeriveEpoch(keyFrom(0x60), testParent, 7).OpenLocalKey(file)
	wantErr(t, "another vault", err, ErrAuth)
	_, err = DeriveEpoch(keyFrom(0x60), testVault, 8).OpenLocalKey(file)
	wantErr(t, "another epoch", err, ErrAuth)
}

func TestDeviceFiles(t *testing.T) {
	l, dsk, dk, vk := DeriveLocal(keyFrom(1), testVault), keyFrom(2), keyFrom(3), keyFrom(4)
	file := l.SealDeviceKey(testDevice, dsk)
	id, got, err := l.OpenDeviceKey(file)
	if err != nil || id != testDevice || !got.Equal(dsk) || len(file) != 76 {
		t.Fatalf("device.key of %d bytes: %v", len(file), err)
	}
	slot := SealDeviceSlot(dk, testVault, testDevice, 9, vk)
	epoch, got, err := OpenDeviceSlot(dk, testVault, testDevice, slot)
	if err != nil || epoch != 9 || !got.Equal(vk) || len(slot) != 64 {
		t.Fatalf("device.slot of %d bytes: %v", len(slot), err)
	}
	for bit := range 8 * len(file) {
		_, _, err := l.OpenDeviceKey(flipped(file, bit))
		wantErr(t, fmt.Sprint("device.key bit ", bit), err, ErrAuth)
	}
	for bit := range 8 * len(slot) {
		_, _, err := OpenDeviceSlot(dk, testVault, testDevice, flipped(slot, bit))
		wantErr(t, fmt.Sprint("device.slot bit ", bit), err, ErrAuth)
	}
	for n := range 100 {
		if n != len(file) {
			_, _, err = l.OpenDeviceKey(make([]byte, n))
			wantErr(t, fmt.Sprint("device.key of ", n), err, ErrFormat)
		}
		if n != len(slot) {
			_, _, err = OpenDeviceSlot(dk, testVault, testDevice, make([]byte, n))
			wantErr(t, fmt.Sprint("device.slot of ", n), err, ErrFormat)
		}
	}
	_, _, err = OpenDeviceSlot(keyFrom(9), testVault, testDevice, slot)
	wantErr(t, "another device key", err, ErrAuth)
	_, _, err = OpenDeviceSlot(dk, testParent, testDevice, slot)
	wantErr(t, "another vault", err, ErrAuth)
	_, _, err = OpenDeviceSlot(dk, testVault, testParent, slot)
	wantErr(t, "another device", err, ErrAuth)
}
