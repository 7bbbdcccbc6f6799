package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// cleanUpWhenInterrupted has an interrupt leave nothing behind: no mount, whose
// daemon is in a session of its own, no server, and no gigabytes in work.
func cleanUpWhenInterrupted(work string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cleanUp(work)
		os.Exit(130)
	}()
}

func cleanUp(work string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], work+"/") {
			_ = exec.Command("fusermount3", "-u", "-z", f[1]).Run() // its daemon ends with it
		}
	}
	for _, pid := range children() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err := os.RemoveAll(work); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
}

// children are the processes that this one has started and that have not ended.
func children() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
