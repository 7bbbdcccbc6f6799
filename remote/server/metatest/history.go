package metatest

import (
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// History collects what clients did, for a check whether some order of it, in
// which no operation leaves the time it took, is one that a model allows.
type History struct {
	mu    sync.Mutex
	start time.Time
	ops   []porcupine.Operation
}

// NewHistory begins an empty one.
func NewHistory() *History { return &History{start: time.Now()} }

// Do runs an operation of a client and keeps it with its output.
func (h *History) Do(client int, input any, do func() (output any)) {
	call := time.Since(h.start)
	output := do()
	back := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: input, Call: int64(call), Output: output, Return: int64(back)})
}

// Check fails the test if the model has no such order.
func (h *History) Check(t testing.TB, m porcupine.Model) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ops) == 0 {
		t.Fatal("an empty history")
	}
	switch result := porcupine.CheckOperationsTimeout(m, h.ops, 5*time.Minute); result {
	case porcupine.Ok:
	case porcupine.Illegal:
		t.Errorf("%d operations have no order that the model allows", len(h.ops))
		for _, op := range h.ops {
			t.Logf("%3d %9d-%9d %+v -> %+v", op.ClientId, op.Call, op.Return, op.Input, op.Output)
		}
	default:
		t.Errorf("whether %d operations have an order is not found out in time", len(h.ops))
	}
}

// QuotaIn is an operation on an account's quota, of so many bytes.
type QuotaIn struct {
	Op    string // admit, commit, abort, store (both at once), delete, read
	Bytes int64
}

// QuotaOut is what it gave: what a refusal or a read says of the account.
type QuotaOut struct {
	Refused          bool
	Usage, Remaining int64
}

type quotaState struct{ used, reserved int64 }

// QuotaModel is an account with a quota: nothing is admitted above it, nothing
// refused that fits, and what is said of it was so at some time of the call.
func QuotaModel(quota int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return quotaState{} },
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(quotaState), input.(QuotaIn), output.(QuotaOut)
			says := out.Usage == s.used && out.Remaining == max(0, quota-s.used-s.reserved)
			fits := s.used+s.reserved+in.Bytes <= quota
			switch in.Op {
			case "admit", "store":
				if out.Refused || !fits {
					return out.Refused && !fits && says, s
				}
				if in.Op == "store" {
					return true, quotaState{s.used + in.Bytes, s.reserved}
				}
				return true, quotaState{s.used, s.reserved + in.Bytes}
			case "commit":
				return s.reserved >= in.Bytes, quotaState{s.used + in.Bytes, s.reserved - in.Bytes}
			case "abort":
				return s.reserved >= in.Bytes, quotaState{s.used, s.reserved - in.Bytes}
			case "delete":
				return s.used >= in.Bytes, quotaState{s.used - in.Bytes, s.reserved}
			}
			return says, s
		},
	}
}

// RateIn is an operation on a window: a use at a time, or one given back.
type RateIn struct {
	Back bool
	At   int64 // ms; of the use that is given back
}

// RateOut says whether it was refused, and how long to wait then.
type RateOut struct {
	Refused bool
	Wait    time.Duration
}

// RateModel is an exact window: of uses within its length there are at most so
// many, and who is refused is told when the next is free.
func RateModel(most int, window time.Duration) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			times, in, out := decodeTimes(state.(string)), input.(RateIn), output.(RateOut)
			if in.Back {
				for i, at := range times {
					if at == in.At {
						return true, encodeTimes(append(times[:i:i], times[i+1:]...))
					}
				}
				return false, state
			}
			for len(times) > 0 && times[0] <= in.At-window.Milliseconds() {
				times = times[1:]
			}
			if len(times) < most {
				return !out.Refused, encodeTimes(append(times[:len(times):len(times)], in.At))
			}
			wait := time.Duration(times[len(times)-most]+window.Milliseconds()-in.At) * time.Millisecond
			return out.Refused && out.Wait == wait, encodeTimes(times)
		},
	}
}

// A state is compared by porcupine, so it is text.
func encodeTimes(times []int64) string {
	b := make([]byte, 0, 8*len(times))
	for _, t := range times {
		for shift := 56; shift >= 0; shift -= 8 {
			b = append(b, byte(t>>shift))
		}
	}
	return string(b)
}

func decodeTimes(text string) (times []int64) {
	for ; text != ""; text = text[8:] {
		var t int64
		for i := range 8 {
			t = t<<8 | int64(text[i])
		}
		times = append(times, t)
	}
	return times
}
