package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminal opens the terminal of the person, even when input or output are
// redirected.
func terminal() (*os.File, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fail(errNoPassword, "", "no password given, and there is no terminal to ask for it")
	}
	return tty, nil
}

// prompt asks for a password without showing it.
func prompt(ctx context.Context, question string) ([]byte, error) {
	tty, err := terminal()
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fail(errNoPassword, "", "no password given, and the terminal cannot be used: %v", err)
	}
	fmt.Fprint(tty, question)
	type answer struct {
		password []byte
		err      error
	}
	answers := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(fd)
		answers <- answer{password, err}
	}()
	select {
	case a := <-answers:
		fmt.Fprintln(tty)
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return nil, fail(errNoPassword, "", "read password: %v", a.err)
		}
		if len(a.password) == 0 {
			return nil, fail(errNoPassword, "", "no password given")
		}
		return a.password, nil
	case <-ctx.Done():
		// The reader is left behind; the terminal must not stay silent.
		_ = term.Restore(fd, state)
		fmt.Fprintln(tty)
		return nil, ctx.Err()
	}
}

// promptTwice asks for a new password and once more for the same.
func promptTwice(ctx context.Context, question string) ([]byte, error) {
	first, err := prompt(ctx, question+": ")
	if err != nil {
		return nil, err
	}
	second, err := prompt(ctx, question+" again: ")
	if err != nil {
		clear(first)
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, errMismatch
	}
	return first, nil
}

// askYes asks a question whose safe answer is no. Without a terminal the
// answer is no.
func askYes(question string) bool {
	tty, err := terminal()
	if err != nil {
		return false
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s [y/N] ", question)
	line, _ := bufio.NewReader(tty).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// askLine asks for a line that may be seen.
func askLine(question string) (string, error) {
	tty, err := terminal()
	if err != nil {
		return "", err
	}
	defer tty.Close()
	fmt.Fprint(tty, question)
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
