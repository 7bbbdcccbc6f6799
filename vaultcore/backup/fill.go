package backup

import (
	"context"
	"fmt"
	"io"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Filled says what a vault got back from a backup.
type Filled struct {
	*Report
	Contents int   // put back
	Bytes    int64 // of those
	Bad      int   // contents that the backup has damaged, and that were left out
}

// Fill reads a backup of the vault and hands put those contents that are lost,
// whole and verified. Nothing else of the backup reaches the vault: its rows and
// headers may be newer. A damaged content does not keep the others back. No password is needed, since the hashes are those of the
// vault's own log. Errors: as of Check, those of put.
func Fill(ctx context.Context, src io.Reader, vault seal.ID, did string, lost []vaultcore.WantedBlob, put func(id seal.ID, body io.Reader) error, progress func(done, total int64)) (*Filled, error) {
	b, err := NewReader(src, progress)
	if err != nil {
		return nil, err
	}
	if b.Manifest.Vault != vault {
		return nil, fmt.Errorf("%w: %s", ErrForeign, b.Manifest.Vault)
	}
	p := &proof{}
	if err := p.begin(ctx, b, did); err != nil {
		return nil, err
	}
	if err := p.log(ctx, b, nil); err != nil {
		return nil, err
	}
	want := make(map[seal.ID]vaultcore.WantedBlob, len(lost))
	for _, w := range lost {
		want[w.Blob] = w
	}
	filled := &Filled{Report: b.Report()}
	b.tolerant = true
	err = b.rest(ctx, func(f *seal.BackupFile, body io.Reader) error {
		w, ok := want[f.ID]
		if !ok || w.Len != f.Size || w.SHA256 != f.Hash {
			return nil
		}
		if err := put(f.ID, body); err != nil {
			return err
		}
		filled.Contents++
		filled.Bytes += f.Size
		return nil
	})
	filled.Bad = b.bad
	return filled, err
}
