package syncer

import (
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestPointDue(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	long := vaultcore.LogSize{Bytes: 5 << 20, Batches: 3}
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	with := func(l vaultcore.LogSize, last time.Duration, size int64) vaultcore.LogSize {
		l.Last, l.Size = ago(last), size
		return l
	}
	for what, test := range map[string]struct {
		f    pointFacts
		want bool
	}{
		"nothing":                     {pointFacts{}, false},
		"too short":                   {pointFacts{log: vaultcore.LogSize{Bytes: 4 << 20, Batches: 512}, atOnce: true}, false},
		"long, first seen now":        {pointFacts{log: long, jitter: 0.5}, false},
		"long, chance not over":       {pointFacts{log: long, jitter: 0.5, grown: ago(14 * time.Minute)}, false},
		"long, chance over":           {pointFacts{log: long, jitter: 0.5, grown: ago(15 * time.Minute)}, true},
		"long, at once":               {pointFacts{log: long, jitter: 0.5, atOnce: true}, true},
		"many batches":                {pointFacts{log: vaultcore.LogSize{Bytes: 1, Batches: 513}, atOnce: true}, true},
		"tried today":                 {pointFacts{log: long, tried: ago(23 * time.Hour), atOnce: true}, false},
		"tried yesterday":             {pointFacts{log: long, tried: ago(24 * time.Hour), atOnce: true}, true},
		"one from today":              {pointFacts{log: with(long, 23*time.Hour, 1), atOnce: true}, false},
		"one from yesterday":          {pointFacts{log: with(long, 24*time.Hour, 1), atOnce: true}, true},
		"one from a wrong clock":      {pointFacts{log: with(long, -100*time.Hour, 1), atOnce: true}, true},
		"shorter than the last":       {pointFacts{log: with(long, 48*time.Hour, 5<<20), atOnce: true}, false},
		"longer than the last":        {pointFacts{log: with(long, 48*time.Hour, 5<<20-1), atOnce: true}, true},
		"many batches after a large":  {pointFacts{log: with(vaultcore.LogSize{Batches: 600}, 48*time.Hour, 50<<20), atOnce: true}, true},
		"grown long ago, today's one": {pointFacts{log: with(long, time.Hour, 1), grown: ago(48 * time.Hour)}, false},
	} {
		test.f.now = now
		if got := pointDue(test.f); got != test.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestClosesGap(t *testing.T) {
	a, b := seal.ID{1}, seal.ID{2}
	point := func(v vaultcore.Verdict, pushed bool) []vaultcore.Checkpoint {
		return []vaultcore.Checkpoint{{Heads: map[seal.ID]uint64{a: 10, b: 5}, Verdict: v, Pushed: pushed}}
	}
	for what, test := range map[string]struct {
		known   []vaultcore.Checkpoint
		missing map[seal.ID]uint64
		want    bool
	}{
		"nothing missing":    {point(vaultcore.Agrees, true), nil, false},
		"covered":            {point(vaultcore.NotCompared, true), map[seal.ID]uint64{a: 10}, true},
		"not covered":        {point(vaultcore.NotCompared, true), map[seal.ID]uint64{a: 11}, false},
		"one of two covered": {point(vaultcore.NotCompared, true), map[seal.ID]uint64{a: 1, b: 6}, false},
		"unknown device":     {point(vaultcore.NotCompared, true), map[seal.ID]uint64{{3}: 1}, false},
		"a lie":              {point(vaultcore.Disagrees, true), map[seal.ID]uint64{a: 1}, false},
		"not there":          {point(vaultcore.Agrees, false), map[seal.ID]uint64{a: 1}, false},
		"none":               {nil, map[seal.ID]uint64{a: 1}, false},
	} {
		if got := closesGap(test.known, test.missing); got != test.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
