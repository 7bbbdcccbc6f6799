package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// With Go's defaults as much garbage piles up as is in use, which of a vault of
// 100,000 files on several devices is 110 MiB. In garbageRoom it costs no processor
// time worth mentioning; what is beyond it is bounded by a share of what is in use.
const (
	garbageRoom  = 48 << 20 // bytes
	leastGarbage = 33       // percent of what is in use
	usualGarbage = 100
)

// boundGarbage keeps to that for the rest of the process, by a look after each
// collection.
func boundGarbage() {
	var now atomic.Int64
	now.Store(usualGarbage)
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	afterCollections(func() {
		metrics.Read(sample)
		percent := garbagePercent(sample[0].Value.Uint64())
		if now.Swap(percent) != percent {
			debug.SetGCPercent(int(percent))
		}
	})
}

func garbagePercent(live uint64) int64 {
	if live == 0 {
		return usualGarbage
	}
	return min(max(int64(garbageRoom*100/live), leastGarbage), usualGarbage)
}

// collected is found to be garbage by the next collection. It has a pointer, so that
// it shares its memory with nothing.
type collected struct{ self *collected }

// afterCollections calls a function after each collection, one call at a time.
func afterCollections(f func()) {
	runtime.AddCleanup(&collected{}, func(f func()) {
		f()
		afterCollections(f)
	}, f)
}
