package syncer

import (
	"context"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// LoadCheckpoint fills an empty vault, or one that was away for too long, from
// the newest checkpoint of the remote that can be used. loaded is false if there
// is none; then the log has everything. Errors: those of the remote and of
// vaultcore.LoadCheckpoint that another checkpoint does not help against.
func LoadCheckpoint(ctx context.Context, v *vaultcore.Vault, r Remote) (loaded bool, err error) {
	var ids []vaultcore.CheckpointID
	var cursor []byte
	for more := true; more; {
		ch, err := r.Changes(ctx, cursor, Reconcile)
		if err != nil {
			return false, err
		}
		for _, c := range ch.List {
			if id, ok := pointID(c); ok {
				ids = append(ids, id)
			}
		}
		cursor, more = ch.Next, ch.More
	}
	return loadNewest(ctx, v, r, ids, nil)
}
