package seal

import (
	"testing"
)

// The paths of the read and write loops and of loading rows allocate nothing.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	c, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(8*ChunkSize))
	plain, sealed := pattern(8*ChunkSize), make([]byte, 0, 9*SealedChunk)
	l := DeriveLocal(keyFrom(1), testVault)
	fields := pattern(200)
	row := l.SealRow(nil, fields, nil)
	e := DeriveEpoch(keyFrom(0x60), testVault, 1)
	fk := keyFrom(1)
	wrapped := must[[]byte](t)(e.WrapFileKey(fk))
	draft := NewDraftLog(keyFrom(1), testVault, testBlob)
	var aad RowAAD
	for what, f := range map[string]func(){
		"SealChunks": func() { c.SealChunks(sealed, plain, 0, true) },
		"OpenChunks": func() { c.OpenChunks(plain, blob[HeaderV4:SealedOffV4(8)], 0) },
		"SealRow":    func() { l.SealRow(sealed, fields, aad.Sum()) },
		"OpenRow":    func() { l.OpenRow(plain[:0], row, nil) },
		"RowAAD": func() {
			aad.Reset("asset_attachments")
			aad.Bytes(testVault[:])
			aad.Uint(7)
		},
		"UnwrapFileKey": func() { e.UnwrapFileKey(wrapped) },
		"SealRecord":    func() { draft.SealRecord(sealed, 1, 2, plain[:4096]) },
		"OpenRecord": func() {
			rec := draft.SealRecord(sealed, 1, 2, plain[:4096])
			draft.OpenRecord(1, rec)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// One ContentV4, one LocalKeys and one DraftLog serve many goroutines.
func TestConcurrentUse(t *testing.T) {
	c, blob := sealedV4(keyFrom(1), testVault, testBlob, pattern(3*ChunkSize+5))
	l := DeriveLocal(keyFrom(1), testVault)
	draft := NewDraftLog(keyFrom(1), testVault, testBlob)
	done := make(chan error)
	for g := range 8 {
		go func() {
			done <- func() error {
				dst := make([]byte, ChunkSize)
				for i := range 200 {
					k := uint64(g+i) % 3
					if _, err := c.OpenChunks(dst, blob[SealedOffV4(k):SealedOffV4(k+1)], k); err != nil {
						return err
					}
					if _, err := l.OpenRow(nil, l.SealRow(nil, dst[:100], dst[:9]), dst[:9]); err != nil {
						return err
					}
					if _, _, _, err := draft.OpenRecord(k, draft.SealRecord(nil, k, 0, dst[:10])); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if l.Uses() != 1600 {
		t.Errorf("%d uses", l.Uses())
	}
}
