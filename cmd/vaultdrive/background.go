package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// daemonCommand is the hidden first argument of a mount in the background.
const daemonCommand = "mount-daemon"

// Descriptors the background process finds open.
const (
	fdOrders = 3 // daemonOrders as JSON, then end of file
	fdReady  = 4 // takes one daemonReady
)

// daemonOrders goes over a pipe, because arguments and environment can be read
// by others.
type daemonOrders struct {
	Plan      mountPlan `json:"plan"`
	Password  []byte    `json:"password,omitempty"`
	DeviceKey []byte    `json:"device_key,omitempty"`
}

// daemonReady is said once, when the mount answers or has failed.
type daemonReady struct {
	PID        int        `json:"pid"`
	MountPoint string     `json:"mountpoint"`
	Log        string     `json:"log"`
	Error      *wireError `json:"error,omitempty"`
}

// startDaemon runs a mount in a session of its own and returns when it
// answers. If that fails, or ctx ends before, nothing of it is left.
func startDaemon(ctx context.Context, plan mountPlan, creds *credentials, owner *user.User) (daemonReady, error) {
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return daemonReady{}, err
	}
	defer ordersW.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return daemonReady{}, errors.Join(err, ordersR.Close())
	}
	defer readyR.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"vaultdrive", daemonCommand, plan.MountPoint}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{ordersR, readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := runAs(cmd, owner); err != nil {
		return daemonReady{}, err
	}
	keepInherited()
	err = cmd.Start()
	ordersR.Close()
	readyW.Close()
	if err != nil {
		return daemonReady{}, fmt.Errorf("start the mount's process: %w", err)
	}
	if err := sendOrders(ordersW, plan, creds); err != nil {
		return daemonReady{}, errors.Join(err, abandon(cmd))
	}
	return awaitReady(ctx, cmd, readyR)
}

// keepInherited keeps from the daemon what this process was started with: a lock
// or a pipe of a script's would stay open as long as the mount.
func keepInherited() {
	// Kernels before 5.11 do not know it; there the descriptors are passed on.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}

// runAs makes a process of another user, as fstab's setuid= asks.
func runAs(cmd *exec.Cmd, owner *user.User) error {
	if owner == nil {
		return nil
	}
	uid, err := strconv.ParseUint(owner.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(owner.Gid, 10, 32)
	if err != nil {
		return err
	}
	ids, err := owner.GroupIds()
	if err != nil {
		return err
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil {
			cred.Groups = append(cred.Groups, uint32(g))
		}
	}
	cmd.SysProcAttr.Credential = cred
	cmd.Env = []string{"HOME=" + owner.HomeDir, "USER=" + owner.Username, "LOGNAME=" + owner.Username,
		"PATH=" + os.Getenv("PATH")}
	if runtime := "/run/user/" + owner.Uid; isDirectory(runtime) {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
	}
	return nil
}

func isDirectory(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func sendOrders(w *os.File, plan mountPlan, creds *credentials) error {
	orders := daemonOrders{Plan: plan, Password: creds.password}
	if creds.deviceKey != nil {
		orders.DeviceKey = creds.deviceKey.Bytes()
	}
	b, err := json.Marshal(orders)
	if err != nil {
		return err
	}
	defer clear(b)
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

func awaitReady(ctx context.Context, cmd *exec.Cmd, r io.Reader) (daemonReady, error) {
	type answer struct {
		ready daemonReady
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		a.err = json.NewDecoder(io.LimitReader(r, maxRequest)).Decode(&a.ready)
		answers <- a
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			_ = cmd.Wait()
			return a.ready, fail(errDaemonLost, "the log in "+stateDir()+" may say why",
				"the mount's process ended before the mount answered (%v)", cmd.ProcessState)
		}
		if a.ready.Error != nil {
			_ = cmd.Wait()
			return a.ready, a.ready.Error.fromWire()
		}
		return a.ready, cmd.Process.Release()
	case <-ctx.Done():
		return daemonReady{}, errors.Join(ctx.Err(), abandon(cmd))
	}
}

// abandon ends a background process that is not wanted any more; it unmounts
// what it may have mounted.
func abandon(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = cmd.Wait()
	return nil
}

// runBackground is the whole life of the background process.
func runBackground() int {
	ready := os.NewFile(fdReady, "ready")
	orders, err := readOrders()
	said := false
	say := func(d *daemon, err error) {
		if said {
			return
		}
		said = true
		answer := daemonReady{PID: os.Getpid()}
		if err != nil {
			answer.Error = toWire(err)
		} else {
			answer.MountPoint, answer.Log = d.point, d.logPath
		}
		_ = json.NewEncoder(ready).Encode(answer)
		ready.Close()
	}
	if err == nil {
		creds := &credentials{password: orders.Password}
		if len(orders.DeviceKey) > 0 {
			var key seal.Key
			if key, err = seal.KeyFromBytes(orders.DeviceKey); err == nil {
				creds.deviceKey = &key
			}
			clear(orders.DeviceKey)
		}
		if err == nil {
			err = runDaemon(context.Background(), orders.Plan, creds, daemonHooks{ready: func(d *daemon) { say(d, nil) }})
		}
	}
	if err != nil {
		say(nil, err)
		return rowOf(err).exit
	}
	return 0
}

func readOrders() (daemonOrders, error) {
	vaultcore.HardenProcess()
	f := os.NewFile(fdOrders, "orders")
	defer f.Close()
	var orders daemonOrders
	b, err := io.ReadAll(io.LimitReader(f, maxRequest))
	if err != nil {
		return orders, err
	}
	defer clear(b)
	if err := json.Unmarshal(b, &orders); err != nil {
		return orders, fmt.Errorf("orders: %w", errDaemonOld)
	}
	return orders, nil
}
