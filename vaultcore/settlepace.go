package vaultcore

import "time"

// Programs come first. While the mount has work, or contents travel, the settler
// takes a tenth of the time, and more the fuller the rows are, so that no close ever
// waits because of that.
const (
	gentleBatch = 200              // contents settled before a pause
	settlePause = 9                // times as long as a batch took, while the rows are empty
	settleHard  = maxFresh / 4 * 3 // bytes in rows from which on there is no pause
)

// SettleGently sets what tells whether something else has work to do. It must return
// at once and call nothing of the vault.
func (v *Vault) SettleGently(busy func() bool) { v.othersBusy.Store(&busy) }

func (v *Vault) busyElsewhere() bool {
	busy := v.othersBusy.Load()
	return busy != nil && (*busy)()
}

// pause is how long to wait after a batch that took so long.
func (q *freshQueue) pause(took time.Duration) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return settlePauseAt(took, q.bytes)
}

func settlePauseAt(took time.Duration, bytes int64) time.Duration {
	room := max(0, settleHard-bytes)
	return time.Duration(settlePause * float64(took) * float64(room) / settleHard)
}
