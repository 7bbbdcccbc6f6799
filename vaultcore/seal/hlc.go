package seal

import (
	"encoding/hex"
	"fmt"
)

// HLC is a hybrid logical clock: 48 bits of milliseconds since 1970 above a
// counter of 16 bits. Later ones are greater, so < compares them.
type HLC uint64

const (
	hlcCounterBits = 16
	maxHLCMillis   = 1<<48 - 1
)

// HLCAt is the first value of a millisecond, brought into 48 bits.
func HLCAt(millis int64) HLC {
	return HLC(min(max(millis, 0), maxHLCMillis)) << hlcCounterBits
}

// Millis is the time part, in ms since 1970.
func (h HLC) Millis() int64 { return int64(h >> hlcCounterBits) }

// Tick returns the value that seals the next batch: one more than the later of h
// (the greatest own or accepted one) and the clock, in ms since 1970. A full
// counter runs over into the milliseconds; the last value of all stays.
func (h HLC) Tick(millis int64) HLC {
	next := max(h, HLCAt(millis))
	if next+1 == 0 {
		return next
	}
	return next + 1
}

// String returns 16 lower-case hexadecimal digits.
func (h HLC) String() string { return fmt.Sprintf("%016x", uint64(h)) }

// ParseHLC reads exactly what String writes. Error: ErrFormat.
func ParseHLC(s string) (HLC, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("%w: clock", ErrFormat)
	}
	var h HLC
	for _, c := range b {
		h = h<<8 | HLC(c)
	}
	if h.String() != s {
		return 0, fmt.Errorf("%w: clock", ErrFormat)
	}
	return h, nil
}
