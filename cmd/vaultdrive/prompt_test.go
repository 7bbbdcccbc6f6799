package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestReadLine(t *testing.T) {
	for text, want := range map[string]string{"y\n": "y", " yes \nno\n": "yes", "": "", "cut": "cut"} {
		if line, err := readLine(t.Context(), io.NopCloser(strings.NewReader(text))); err != nil || line != want {
			t.Errorf("%q: %q, %v", text, line, err)
		}
	}
}

// TestInterruptQuestion: an interrupt ends a command that waits for an answer.
func TestInterruptQuestion(t *testing.T) {
	silent, person := io.Pipe()
	defer person.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := readLine(ctx, silent)
		done <- err
	}()
	interrupt()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("the question goes on after an interrupt")
	}
}
