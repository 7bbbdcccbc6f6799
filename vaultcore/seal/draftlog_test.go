package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

type draftRecord struct {
	off  uint64
	data []byte
}

// readLog reads as recovery does: up to the first record that does not open.
func readLog(d *DraftLog, log []byte) (records []draftRecord, err error) {
	rest := bytes.Clone(log)
	for r := uint64(0); len(rest) > 0; r++ {
		off, data, used, err := d.OpenRecord(r, rest)
		if err != nil {
			return records, err
		}
		records = append(records, draftRecord{off, data})
		rest = rest[used:]
	}
	return records, nil
}

func testLog(d *DraftLog) (log []byte, records []draftRecord, ends []int) {
	records = []draftRecord{{0, pattern(100)}, {4096, pattern(1)}, {1 << 40, nil}, {50, pattern(4096)}}
	for r, rec := range records {
		log = d.SealRecord(log, uint64(r), rec.off, rec.data)
		ends = append(ends, len(log))
	}
	return log, records, ends
}

func TestDraftLogRoundTrip(t *testing.T) {
	d := NewDraftLog(keyFrom(1), testVault, testAttachment)
	log, want, ends := testLog(d)
	if ends[0] != 100+DraftRecordOverhead || ends[2]-ends[1] != DraftRecordOverhead {
		t.Errorf("record ends at %v", ends)
	}
	got, err := readLog(d, log)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for r := range want {
		if got[r].off != want[r].off || !bytes.Equal(got[r].data, want[r].data) {
			t.Errorf("record %d differs", r)
		}
	}
	big := d.SealRecord(nil, 9, 1<<63, pattern(MaxDraftData))
	off, data, used, err := d.OpenRecord(9, append(big, "next"...))
	if err != nil || off != 1<<63 || used != len(big) || !bytes.Equal(data, pattern(MaxDraftData)) {
		t.Errorf("largest record: %v", err)
	}
	if !panics(func() { d.SealRecord(nil, 0, 0, make([]byte, MaxDraftData+1)) }) || !panics(func() { d.SealRecord(nil, MaxDraftRecords, 0, nil) }) {
		t.Error("a record out of bounds does not panic")
	}
}

// A log cut anywhere gives the whole records before the cut and ErrTruncated.
func TestDraftLogCut(t *testing.T) {
	d := NewDraftLog(keyFrom(1), testVault, testAttachment)
	log, _, ends := testLog(d)
	for n := range len(log) {
		whole := 0
		for whole < len(ends) && ends[whole] <= n {
			whole++
		}
		got, err := readLog(d, log[:n])
		atBorder := n == 0 || whole > 0 && ends[whole-1] == n
		if len(got) != whole || atBorder != (err == nil) || err != nil && !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d: %d records, %v", n, len(got), err)
		}
	}
}

// Records altered, moved, dropped inside, doubled or taken from another log.
func TestDraftLogTamper(t *testing.T) {
	d := NewDraftLog(keyFrom(1), testVault, testAttachment)
	log, records, ends := testLog(d)
	for bit := range 8 * ends[1] {
		got, err := readLog(d, flipped(log, bit))
		r := 0
		if bit/8 >= ends[0] {
			r = 1
		}
		// A bit of the length may also make the record reach beyond the log.
		if len(got) != r || !errors.Is(err, ErrAuth) && !errors.Is(err, ErrTruncated) {
			t.Fatalf("bit %d: %d records, %v", bit, len(got), err)
		}
	}
	rec := func(r int) []byte {
		start := 0
		if r > 0 {
			start = ends[r-1]
		}
		return log[start:ends[r]]
	}
	other := NewDraftLog(keyFrom(1), testVault, testParent)
	for what, c := range map[string]struct {
		log  []byte
		good int
	}{
		"exchanged":         {append(bytes.Clone(rec(1)), rec(0)...), 0},
		"dropped inside":    {append(bytes.Clone(rec(0)), rec(2)...), 1},
		"first dropped":     {rec(1), 0},
		"doubled":           {append(bytes.Clone(rec(0)), rec(0)...), 1},
		"of another draft":  {append(bytes.Clone(rec(0)), other.SealRecord(nil, 1, 0, records[1].data)...), 1},
		"of another vault":  {NewDraftLog(keyFrom(1), testParent, testAttachment).SealRecord(nil, 0, 0, nil), 0},
		"under another key": {NewDraftLog(keyFrom(2), testVault, testAttachment).SealRecord(nil, 0, 0, nil), 0},
		"zeros behind":      {append(bytes.Clone(rec(0)), make([]byte, 4096)...), 1},
	} {
		got, err := readLog(d, c.log)
		wantErr(t, what, err, ErrAuth)
		if len(got) != c.good {
			t.Errorf("%s: %d records opened", what, len(got))
		}
	}
	for _, n := range []uint32{0, 1, 35, MaxDraftData + 37, 1 << 31, 1<<32 - 1} {
		_, _, _, err := d.OpenRecord(0, append(binary.BigEndian.AppendUint32(nil, n), make([]byte, 64)...))
		wantErr(t, fmt.Sprint("length ", n), err, ErrAuth)
	}
}
