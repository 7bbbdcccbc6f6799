package vaultcore

import (
	"context"
	"fmt"
	"slices"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// Spent lists the contents at the remote that this device replaced or deleted and
// that no device can come to need: every active one has seen what became of them. A
// content in the trash is among them only while its bytes are here, so that it can be
// taken back whatever becomes of the remote's copy. Those that known says yes to are
// left out. Error: ErrBusy while batches wait or the vault is forked, since they may
// name more.
func (v *Vault) Spent(ctx context.Context, known func(blob seal.ID) bool) ([]seal.ID, error) {
	l, err := v.lockLedger(ctx)
	if err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	if len(l.held) > 0 || v.frozen.Load() {
		return nil, fmt.Errorf("%w: batches wait", ErrBusy)
	}
	var spent []seal.ID
	for blob := range l.h.Spent(v.DeviceID()) {
		if l.sent[blob] && !known(blob) {
			spent = append(spent, blob)
		}
	}
	if len(spent) == 0 {
		return nil, nil
	}
	named := l.namedBlobs(false)
	if err := v.addNeeded(named); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(spent, func(blob seal.ID) bool {
		again := named[blob]
		named[blob] = true // once is enough
		return again
	}), nil
}

// addNeeded adds the blobs that something here may have to fetch, or waits to send.
func (v *Vault) addNeeded(named map[seal.ID]bool) error {
	v.readMu.Lock()
	defer v.readMu.Unlock()
	if v.reader == nil {
		return ErrClosed
	}
	for _, query := range []string{
		"SELECT blob FROM " + tableAttachments + " WHERE deleted=0 OR place=0",
		"SELECT blob FROM undo",
		"SELECT blob FROM " + tableJobs,
	} {
		err := v.reader.query(query, func(c []dbValue) error {
			s := rowScanner{c: c}
			named[s.id()] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
