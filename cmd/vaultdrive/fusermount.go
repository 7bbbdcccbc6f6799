package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/vaultdrive/vaultdrive/fs"
)

// fusermount runs the setuid helper that unmounts for users; its error is what
// it said.
func fusermount(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemPatience)
	defer cancel()
	for _, name := range []string{"fusermount3", "fusermount"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.WaitDelay = time.Second
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			return errors.Join(errors.New(strings.TrimSpace(said.String())), err)
		}
		return nil
	}
	return fmt.Errorf("%w", fs.ErrNoHelper)
}
