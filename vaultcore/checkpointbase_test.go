package vaultcore

import (
	"testing"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

func TestChooseBase(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b := seal.ID{1}, seal.ID{2}
	point := func(days int, seqA, seqB uint64, change ...func(*Checkpoint)) Checkpoint {
		c := Checkpoint{CheckpointID: CheckpointID{a, seqA}, Made: now.AddDate(0, 0, -days), Heads: map[seal.ID]uint64{a: seqA, b: seqB}, Verdict: Agrees, Pushed: true}
		for _, f := range change {
			f(&c)
		}
		return c
	}
	lies := func(c *Checkpoint) { c.Verdict = Disagrees }
	unknown := func(c *Checkpoint) { c.Verdict = NotCompared }
	here := func(c *Checkpoint) { c.Pushed = false }
	base := func(c *Checkpoint) { c.Base = true }
	for what, test := range map[string]struct {
		known []Checkpoint
		want  uint64 // its number; 0: none is due
	}{
		"none":                          {nil, 0},
		"no successor":                  {[]Checkpoint{point(40, 5, 5)}, 0},
		"too young":                     {[]Checkpoint{point(30, 5, 5), point(1, 6, 6)}, 0},
		"old with a successor":          {[]Checkpoint{point(31, 5, 5), point(1, 6, 6)}, 5},
		"in any order":                  {[]Checkpoint{point(1, 6, 6), point(31, 5, 5)}, 5},
		"the newest of the old":         {[]Checkpoint{point(99, 4, 4), point(31, 5, 5), point(1, 6, 6)}, 5},
		"one with an alarm":             {[]Checkpoint{point(99, 4, 4), point(31, 5, 5, lies), point(1, 6, 6)}, 4},
		"a successor with an alarm":     {[]Checkpoint{point(31, 5, 5), point(1, 6, 6, lies)}, 0},
		"a successor not on the remote": {[]Checkpoint{point(31, 5, 5), point(1, 6, 6, here)}, 0},
		"one that covers less":          {[]Checkpoint{point(31, 5, 5), point(1, 6, 4)}, 0},
		"one not compared":              {[]Checkpoint{point(31, 5, 5, unknown), point(1, 6, 6)}, 5},
		"it is the base":                {[]Checkpoint{point(31, 5, 5, base), point(1, 6, 6)}, 0},
		"newer than the base":           {[]Checkpoint{point(62, 4, 4, base), point(31, 5, 5), point(1, 6, 6)}, 5},
		"covers less than the base":     {[]Checkpoint{point(62, 4, 6, base), point(31, 5, 5), point(1, 6, 7)}, 0},
	} {
		got, due := ChooseBase(test.known, now)
		if due != (test.want > 0) || due && got.Seq != test.want {
			t.Errorf("%s: %d, %v", what, got.Seq, due)
		}
	}
}
