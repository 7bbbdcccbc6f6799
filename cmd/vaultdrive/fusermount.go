package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/vaultdrive/vaultdrive/fs"
)

// fusermount runs the setuid helper that unmounts for users; its error is what
// it said.
func fusermount(args ...string) error {
	for _, name := range []string{"fusermount3", "fusermount"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		cmd := exec.Command(path, args...)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			return errors.Join(errors.New(strings.TrimSpace(said.String())), err)
		}
		return nil
	}
	return fmt.Errorf("%w", fs.ErrNoHelper)
}
