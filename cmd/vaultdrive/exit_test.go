package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vaultdrive/vaultdrive/fs"
	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// TestExitCodesNeverChange compares with the list that was published. A line
// may be added; none may change or go.
func TestExitCodesNeverChange(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "exitcodes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	now := map[string]int{}
	for _, row := range exitTable {
		if code, ok := now[row.code]; ok && code != row.exit {
			t.Errorf("%s has the codes %d and %d", row.code, code, row.exit)
		}
		now[row.code] = row.exit
	}
	published := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		var code int
		var name string
		if _, err := fmt.Sscanf(line, "%d %s", &code, &name); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		published[name] = true
		if now[name] != code {
			t.Errorf("%s was published as %d and is %d", name, code, now[name])
		}
	}
	for name, code := range now {
		if !published[name] {
			t.Errorf("%d %s is missing in testdata/exitcodes.txt", code, name)
		}
	}
}

func TestRowOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{errors.New("whatever"), 1},
		{usage("x"), 2},
		{fmt.Errorf("open: %w", vaultcore.ErrWrongPassword), 3},
		{fmt.Errorf("open: %w", vaultcore.ErrNoVault), 5},
		{fmt.Errorf("open: %w", vaultcore.ErrInUse), 6},
		{fmt.Errorf("open: %w", vaultcore.ErrForeignHeader), 7},
		{fmt.Errorf("open: %w", vaultcore.ErrRollback), 7},
		{seal.ErrWeakPassword, 9},
		{vaultcore.ErrNewerSchema, 11},
		{&iofs.PathError{Op: "open", Path: "x", Err: iofs.ErrNotExist}, 20},
		{vaultcore.ErrNoSpace, 29},
		{vaultcore.ErrDamaged, 31},
		{fs.ErrPointMissing, 40},
		{fs.ErrNoFUSE, 41},
		{fs.ErrPointDenied, 42},
		{&fs.BusyError{}, 43},
		{context.Canceled, 130},
	} {
		if got := rowOf(test.err).exit; got != test.code {
			t.Errorf("rowOf(%v).exit = %d, want %d", test.err, got, test.code)
		}
	}
}

// TestWireKeepsFailures: a failure that came from the daemon ends a command
// like one met in its own process.
func TestWireKeepsFailures(t *testing.T) {
	for _, row := range exitTable {
		err := fmt.Errorf("here: %w", row.err)
		there := toWire(err).fromWire()
		if rowOf(there).exit != rowOf(err).exit || rowOf(there).code != rowOf(err).code {
			t.Errorf("%s: became %s", row.code, rowOf(there).code)
		}
		if there.Error() != err.Error() || hintOf(there) != hintOf(err) {
			t.Errorf("%s: text %q, hint %q; want %q, %q", row.code, there, hintOf(there), err, hintOf(err))
		}
	}
	unknown := (&wireError{Code: "of-the-future", Message: "m", Hint: "h"}).fromWire()
	if rowOf(unknown).exit != exitUnknown || unknown.Error() != "m" || hintOf(unknown) != "h" {
		t.Errorf("an unknown code became %v", unknown)
	}
}

func TestReport(t *testing.T) {
	u, _, said := testUI()
	if code := u.report(nil); code != 0 || said.Len() > 0 {
		t.Errorf("nothing wrong: code %d, said %q", code, said)
	}
	code := u.report(errors.Join(fail(vaultcore.ErrNotFound, "look\x1b[2J", "bad\u202ename"), errors.New("second")))
	want := "error: bad\\u202ename; second\nhint: look\\x1b[2J\n"
	if code != 20 || said.String() != want {
		t.Errorf("code %d, said %q; want 20, %q", code, said, want)
	}
}
