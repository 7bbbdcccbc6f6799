package main

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// oneLine is what an error is for a person, in one line: the sentence that a layer has
// for it, or else its text. Errors that were joined stand side by side, each once.
func oneLine(err error) string {
	var said []string
	for _, e := range apart(err) {
		text := sentence(e)
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && !slices.Contains(said, line) {
				said = append(said, line)
			}
		}
	}
	return strings.Join(said, "; ")
}

// sentence prefers the words of a command to those of a layer, and both to a text that
// says who called whom.
func sentence(err error) string {
	if f, is := err.(*failure); is {
		return f.text
	}
	if said := blob.Saying(err); said != "" {
		return said
	}
	return withoutCall(err)
}

// withoutCall is an error's text without the name of the system call that failed: a
// person knows the path, not the call.
func withoutCall(err error) string {
	text := err.Error()
	var path *fs.PathError
	if errors.As(err, &path) {
		return strings.ReplaceAll(text, path.Error(), path.Path+": "+path.Err.Error())
	}
	return text
}

// apart gives the errors that errors.Join put together somewhere below; whoever
// wrapped them all said less than they do.
func apart(err error) []error {
	if _, is := err.(*failure); is || !strings.Contains(err.Error(), "\n") {
		return []error{err}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return apart(inner)
		}
	case interface{ Unwrap() []error }:
		var out []error
		for _, inner := range e.Unwrap() {
			out = append(out, apart(inner)...)
		}
		return out
	}
	return []error{err}
}
