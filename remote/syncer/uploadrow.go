package syncer

import (
	"context"
	"errors"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// addRow has the remote's row of a file written in one step with its content, where
// that may be: so no moment is in which clients without the log see one without the
// other, even if this process ends there. What is not written here is found by the
// next look at the rows. wrote keeps what became of it, once the content is there.
func (e *Engine) addRow(ctx context.Context, up *Upload, blob seal.ID) (wrote func() error, err error) {
	wrote = func() error { return nil }
	cursor, _, ok := e.mayProject()
	if !ok {
		return wrote, nil
	}
	row, err := e.o.Vault.UploadRow(ctx, blob)
	if err != nil || row == nil {
		return wrote, err
	}
	var result *RowResult
	up.Row, up.Cursor = &row.Row, cursor
	up.Wrote = func(r RowResult) { result = &r }
	return func() error {
		switch {
		case result == nil:
			return nil
		case result.Refused == nil:
			return e.o.Vault.UploadRowPut(ctx, row, result.Number)
		case errors.Is(result.Refused, ErrNoParent):
			err = e.o.Vault.ServerAssetsLost(ctx, []seal.ID{row.Row.Parent})
		}
		e.o.Log.Info("row not written with its content", "id", row.Row.ID.UUID(), "err", result.Refused)
		return err
	}, nil
}

// projectAssets writes the rows of assets as soon as these are published, so that
// contents which follow find theirs. The turn is held.
func (e *Engine) projectAssets(ctx context.Context) {
	e.mu.Lock()
	due := e.caps.Rows && (e.rows.failures == 0 || !e.o.Now().Before(e.rows.again))
	e.mu.Unlock()
	if !due {
		return
	}
	if altered, _, err := e.projectSome(ctx, e.o.Vault.ServerAssets); altered || err != nil {
		e.projected(altered, err)
	}
}
