package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// The power-loss tests are worth what their disk is worth, so it is tested too.

func TestPowerDiskForgetsWhatNobodySynced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		loss  loss
		names map[string]string // what must be there, nothing else
	}{
		{loseAll, map[string]string{"synced": "kept", "moved": "kept", "over": "old"}},
		{loseNothing, map[string]string{"synced": "kept+more", "new": "lost", "moved-again": "kept", "over": "new"}},
	} {
		t.Run(string(tt.loss), func(t *testing.T) {
			t.Parallel()
			b := newPowerBox(t)
			at := func(name string) string { return filepath.Join(b.dir, name) }
			writeSynced(t, at("synced"), "kept")
			writeSynced(t, at("first"), "kept")
			writeSynced(t, at("over"), "old")
			must(t, os.Rename(at("first"), at("moved")))
			syncDir(t, b.dir)

			appendFile(t, at("synced"), "+more")
			must(t, os.WriteFile(at("new"), []byte("lost"), 0o600))
			must(t, os.Rename(at("moved"), at("moved-again")))
			must(t, os.WriteFile(at("over.tmp"), []byte("new"), 0o600))
			must(t, os.Rename(at("over.tmp"), at("over")))
			b.cut()
			if err := os.WriteFile(at("after"), nil, 0o600); err == nil {
				t.Error("a write after the cut succeeded")
			}
			b.restore(tt.loss, 1)
			got := map[string]string{}
			list, err := os.ReadDir(b.dir)
			must(t, err)
			for _, e := range list {
				data, err := os.ReadFile(at(e.Name()))
				must(t, err)
				got[e.Name()] = string(data)
			}
			if len(got) != len(tt.names) {
				t.Errorf("got %v, want %v", got, tt.names)
			}
			for name, want := range tt.names {
				if got[name] != want {
					t.Errorf("%s: got %q, want %q", name, got[name], want)
				}
			}
		})
	}
}

func TestPowerDiskKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	b := newPowerBox(t)
	want := pattern(7, 1, 300_000)
	file := filepath.Join(b.dir, "file")
	writeSynced(t, file, string(want))
	syncDir(t, b.dir)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, 100_000), 100_000)
	must(t, err)
	must(t, f.Close())
	b.cut()
	differ := map[int]bool{}
	for seed := uint64(0); seed < 20; seed++ {
		for _, l := range []loss{loseJournal, loseStrict} {
			b.restore(l, seed)
			got, err := os.ReadFile(file)
			must(t, err)
			if len(got) != len(want) || string(got[:100_000]) != string(want[:100_000]) || string(got[200_000:]) != string(want[200_000:]) {
				t.Fatalf("%s, seed %d: synced bytes are gone", l, seed)
			}
			zeros := 0
			for _, c := range got[100_000:200_000] {
				if c == 0 {
					zeros++
				}
			}
			differ[zeros] = true
		}
	}
	if len(differ) < 4 {
		t.Errorf("%d different outcomes of an unsynced write in 40 cuts", len(differ))
	}
}

func TestPowerDiskCutsBetweenTwoCalls(t *testing.T) {
	t.Parallel()
	b := newPowerBox(t)
	before := b.calls()
	f, err := os.Create(filepath.Join(b.dir, "file")) // one call
	must(t, err)
	defer f.Close()
	if got := b.calls() - before; got != 1 {
		t.Fatalf("a create counted as %d calls", got)
	}
	b.arm(2)
	_, err = f.WriteString("x")
	must(t, err)
	if f.Sync() == nil {
		t.Error("the armed cut did not hit the second call")
	}
}

func writeSynced(t testing.TB, path, data string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.WriteString(data)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func appendFile(t testing.TB, path, data string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(data)
	must(t, err)
	must(t, f.Close())
}

func syncDir(t testing.TB, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
}
