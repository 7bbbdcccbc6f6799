package vaultcore

import (
	"bytes"
	"os"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestLogCutAnywhere cuts a log within and between records: what an append
// brought in before is there, what was cut off is not.
func TestLogCutAnywhere(t *testing.T) {
	l := tinyLimits()
	l.LogDead, l.DraftIndex = 1<<30, 1<<30
	ts := newTestStore(t, l)
	base := ts.writeAll(t, noise(1, 100_000), 1<<20)
	d := ts.newDraft(base, 100_000)
	want := noise(1, 100_000)
	var snapshots [][]byte
	var ends []int64
	var state []byte
	for i := range 12 { // each keep appends one record and its mark
		switch {
		case i%4 == 3:
			if err := d.truncate(int64(len(want) - 5001)); err != nil {
				t.Fatal(err)
			}
			want = want[: len(want)-5001 : len(want)-5001]
			if err := d.truncate(int64(len(want)) &^ (pageSize - 1)); err != nil {
				t.Fatal(err)
			}
			want = want[:len(want)&^(pageSize-1)]
		default:
			p := noise(uint64(i), pageSize)
			copy(want[i*pageSize:], p)
			write(t, d, p, int64(i)*pageSize)
		}
		s, _, err := d.keep(true)
		if err != nil {
			t.Fatal(err)
		}
		if state == nil {
			state = bytes.Clone(s)
		} else if !bytes.Equal(state, s) {
			t.Fatal("a later keep changed the row")
		}
		if got := len(d.log.offs); got > 2*i+3 { // one cut also logs the page it cuts into
			t.Fatalf("%d records after %d keeps", got, i+1)
		}
		snapshots, ends = append(snapshots, bytes.Clone(want)), append(ends, d.log.end)
	}
	name := ts.path(logName(d.log.id))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	kill(d)
	check := func(content []byte, want []byte) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := ts.recoverDraft(seal.NewID(), state, base)
		if err != nil {
			t.Fatal(err)
		}
		wantDraft(t, again, want)
		kill(again)
		if after, _ := os.ReadFile(name); !bytes.Equal(after, content) {
			t.Fatal("a found log was changed")
		}
	}
	before, start := noise(1, 100_000), int64(0)
	for i, end := range ends {
		for _, cut := range []int64{start, start + 1, start + 3, start + 20, (start + end) / 2, end - 1} {
			check(whole[:cut], before)
		}
		torn := bytes.Clone(whole) // the same, with the record there but wrong
		torn[(start+end)/2] ^= 1
		check(torn, before)
		before, start = snapshots[i], end
	}
	check(whole, before)
	ts.plain.trim()
	ts.idle(t)
}

// TestRecoveredStreamNeverSealsIntoFound: the found file stays as it is and
// the result has another key and salt.
func TestRecoveredStreamNeverSealsIntoFound(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	for _, finished := range []bool{false, true} {
		d := ts.newDraft(nil, 0)
		want := noise(1, 300_100)
		write(t, d, want[:300_000], 0)
		write(t, d, want[300_000:], 300_000)
		state, changed, err := d.keep(true)
		if err != nil || !changed {
			t.Fatal(changed, err)
		}
		state = bytes.Clone(state)
		if finished { // the crash comes between rename and row
			if _, err := d.finish(); err != nil {
				t.Fatal(err)
			}
		} else {
			write(t, d, noise(2, 50_000), 300_100)
		}
		kill(d)
		name := ts.files(t)[0]
		before, _ := os.ReadFile(ts.path(name))
		ts.restart()
		again, err := ts.recoverDraft(seal.NewID(), state, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantDraft(t, again, want)
		write(t, again, []byte("more"), 300_100)
		sc, err := again.finish()
		if err != nil {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(ts.path(name)); !bytes.Equal(before, after) {
			t.Error("the found file was changed")
		}
		c := ts.commit(sc)
		if kept := again.committed(); len(kept) != 1 || kept[0] != name {
			t.Errorf("kept %v, want %s", kept, name)
		}
		ts.removeFile(name)
		wantBytes(t, ts.readBack(t, c, 10_000), append(bytes.Clone(want), "more"...))
		ts.removeFile(binName(c.ref.blob))
		if left := ts.files(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		ts.idle(t)
	}
}

// TestKeptFilesStayUntilRecorded: what an older row names goes only when the
// newer row is known to be durable.
func TestKeptFilesStayUntilRecorded(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	d := ts.newDraft(nil, 0)
	write(t, d, noise(1, 60_000), 0)
	if _, changed, err := d.keep(true); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if _, changed, _ := d.keep(true); changed {
		t.Error("changed without a change")
	}
	d.notRecorded()
	if _, changed, _ := d.keep(true); !changed {
		t.Error("a row that failed is not given again")
	}
	first := d.files()
	if len(first) != 1 || !d.kept() {
		t.Fatalf("files %v", first)
	}
	for i := range 8 { // until the log is written anew
		write(t, d, noise(uint64(i), 60_000), 0)
		if _, _, err := d.keep(true); err != nil {
			t.Fatal(err)
		}
	}
	if d.files()[0] == first[0] {
		t.Fatal("the log was not compacted")
	}
	if _, err := os.Stat(ts.path(first[0])); err != nil {
		t.Errorf("the first row's log is gone: %v", err)
	}
	d.recorded()
	if got := ts.files(t); len(got) != 1 || got[0] != d.files()[0] {
		t.Errorf("after recorded: %v", got)
	}
	kept := d.files()
	if got := d.dropped(); len(got) != 1 || got[0] != kept[0] {
		t.Errorf("dropped gave %v, want %v", got, kept)
	}
	if _, err := os.Stat(ts.path(kept[0])); err != nil {
		t.Errorf("a file the row names was removed: %v", err)
	}
	ts.idle(t)
}

// TestStreamKeptOftenBecomesPages: small appends with fsync do not write head
// and tail again each time.
func TestStreamKeptOftenBecomesPages(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	d := ts.newDraft(nil, 0)
	want := noise(1, 200_000)
	write(t, d, want, 0)
	last := 0
	for i := range 30 {
		p := noise(uint64(i), 100)
		write(t, d, p, int64(len(want)))
		want = append(want, p...)
		state, changed, err := d.keep(true)
		if err != nil {
			t.Fatal(err)
		}
		if last = 0; changed {
			last = len(state)
		}
	}
	if last != 0 {
		t.Errorf("the row still changes, %d bytes", last)
	}
	wantDraft(t, d, want)
	c := ts.finish(t, d)
	wantBytes(t, ts.readBack(t, c, 10_000), want)
	ts.idle(t)
}

func TestStateIsStrict(t *testing.T) {
	full := draftState{
		flags: stateLog | stateCount | statePart | stateHead | stateTail, count: 3, size: 100_000, shown: 99, log: seal.NewBlobID(), sk: seal.NewKey(),
		blob: seal.NewBlobID(), fk: seal.NewKey(), from: 32 << 10, partSize: 64 << 10, head: noise(1, 50), tail: noise(2, 60),
	}
	copy(full.header[:], noise(3, 64))
	b := full.encode()
	back, err := parseState(b)
	if err != nil || !bytes.Equal(back.encode(), b) {
		t.Fatalf("not the same again: %v", err)
	}
	for n := range b {
		if _, err := parseState(b[:n]); err == nil {
			t.Errorf("accepted cut to %d of %d bytes", n, len(b))
		}
	}
	for name, harm := range map[string]func(s *draftState){
		"two lowers": func(s *draftState) { s.flags |= stateBase },
		"shown":      func(s *draftState) { s.shown = s.size + 1 },
		"size":       func(s *draftState) { s.size = 1 << 41 },
		"negative":   func(s *draftState) { s.from = -1 },
		"no count":   func(s *draftState) { s.count = 0 },
		"count of nothing": func(s *draftState) {
			s.flags &^= stateLog
		},
	} {
		s := full
		harm(&s)
		if _, err := parseState(s.encode()); err == nil {
			t.Errorf("accepted: %s", name)
		}
	}
	if _, err := parseState(append(b, 0)); err == nil {
		t.Error("accepted with a rest")
	}
}

func FuzzParseState(f *testing.F) {
	for _, flags := range []uint8{0, stateLog, stateLog | stateCount | stateLoose, stateBase, statePart | stateHead | stateTail, stateLog | stateBelow} {
		s := draftState{flags: flags, size: 5, count: 7, head: []byte("head")}
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseState(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Error("another encoding of the same state")
		}
		stateFiles(b)
	})
}

// TestRecoverRefusesOthers: base and files must be the ones the state names.
func TestRecoverRefusesOthers(t *testing.T) {
	ts := newTestStore(t, tinyLimits())
	base := ts.writeAll(t, noise(1, 50_000), 1<<20)
	other := ts.writeAll(t, noise(2, 50_000), 1<<20)
	d := ts.newDraft(base, 50_000)
	write(t, d, []byte("x"), 10)
	state, _, err := d.keep(false)
	if err != nil {
		t.Fatal(err)
	}
	state = bytes.Clone(state)
	kill(d)
	for name, base := range map[string]*content{"none": nil, "other": other} {
		_, err := ts.recoverDraft(seal.NewID(), state, base)
		if wantErr(t, err, ErrDamaged); err == nil {
			t.Error(name)
		}
	}
	for _, name := range stateFiles(state) {
		ts.removeFile(name)
	}
	_, err = ts.recoverDraft(seal.NewID(), state, base)
	wantErr(t, err, ErrDamaged)
	if base.users() != 0 {
		t.Errorf("%d users", base.users())
	}
	ts.plain.trim()
	ts.idle(t)
}
