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

	"golang.org/x/sys/unix"
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
	// What is typed ahead of the reading must not show either.
	if err := echoOff(fd); err != nil {
		return nil, fail(errNoPassword, "", "no password given, and the terminal cannot be used: %v", err)
	}
	defer term.Restore(fd, state)
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
		// The reader is left behind; the terminal does not stay silent.
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

func echoOff(fd int) error {
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	state.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, state)
}

// askYes asks a question whose safe answer is no.
func askYes(ctx context.Context, question string) (bool, error) {
	line, err := askLine(ctx, question+" [y/N] ")
	answer := strings.ToLower(line)
	return answer == "y" || answer == "yes", err
}

// askLine asks for a line that may be seen.
func askLine(ctx context.Context, question string) (string, error) {
	tty, err := terminal()
	if err != nil {
		return "", err
	}
	fmt.Fprint(tty, question)
	return readLine(ctx, tty)
}

// readLine reads one line of a terminal and closes it. An interrupt leaves the
// reader behind: nothing ends a read of a terminal.
func readLine(ctx context.Context, tty io.ReadCloser) (string, error) {
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		defer tty.Close()
		line, err := bufio.NewReader(tty).ReadString('\n')
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return "", a.err
		}
		return strings.TrimSpace(a.line), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
