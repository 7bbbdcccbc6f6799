package main

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// TestOneLine: what a layer says for people stands in the place of what the layers say
// to the log; what was joined stands side by side, and each once.
func TestOneLine(t *testing.T) {
	away := blob.WithHint(blob.WithSaying(fmt.Errorf("get x in bucket b: %w", blob.ErrUnavailable), "the bucket b does not answer"), "wait")
	lacks := func(path string) error { return fmt.Errorf("%s: %w", path, vaultcore.ErrNotFound) }
	for _, test := range []struct {
		err  error
		want string
	}{
		{away, "the bucket b does not answer"},
		{fmt.Errorf("probe: %w", errors.Join(away, fmt.Errorf("again: %w", away))), "the bucket b does not answer"},
		{errors.Join(lacks("Letters/a"), lacks("Letters/b")), "Letters/a: not found; Letters/b: not found"},
		{errors.Join(lacks("Letters/a"), away), "Letters/a: not found; the bucket b does not answer"},
		{named(away, "Letters"), "Letters: the bucket b does not answer"},
		{fail(away, "", "no luck"), "no luck"},
		{toWire(fmt.Errorf("try: %w", away)).fromWire(), "the bucket b does not answer"},
		{errors.New("failed to connect:\n\thost: refused"), "failed to connect:; host: refused"},
		{fmt.Errorf("key: %w", &fs.PathError{Op: "lstat", Path: "notes.txt", Err: fs.ErrNotExist}), "key: notes.txt: file does not exist"},
		{blob.ErrNoSpace, blob.ErrNoSpace.Error()},
	} {
		if got := oneLine(test.err); got != test.want {
			t.Errorf("%q\nis said as %q\nnot         %q", test.err, got, test.want)
		}
	}
}
