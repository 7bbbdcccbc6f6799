package vaultcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// KDFChildArg is the only argument of a process that ChildKDF starts; the
// program then runs RunKDFChild and nothing else.
const KDFChildArg = "kdf-child"

// KDF turns a password into the key of the password slot. It does not keep or
// change the password. Errors: seal.ErrKDFParams, seal.ErrPassword, those of
// ctx, and whatever kept it from running.
type KDF func(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error)

// InProcessKDF computes in this process, which then keeps the memory that
// Argon2id took for a while. It cannot be interrupted.
func InProcessKDF(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	if err := ctx.Err(); err != nil {
		return seal.Key{}, err
	}
	return seal.DeriveKEK(password, p)
}

// ChildKDF computes in a child process of the same program, which hands the
// key over a pipe and ends: with it go 256 MiB of memory and its copies of the
// password. When ctx ends the child is killed.
func ChildKDF(ctx context.Context, password []byte, p seal.KDFParams) (seal.Key, error) {
	return childKDF(ctx, selfCommand(ctx), password, p)
}

func selfCommand(ctx context.Context) *exec.Cmd {
	// The running image, also when the file was replaced by an upgrade.
	path := "/proc/self/exe"
	if _, err := os.Stat(path); err != nil {
		path = os.Args[0]
		if self, err := os.Executable(); err == nil {
			path = self
		}
	}
	cmd := exec.CommandContext(ctx, path, KDFChildArg)
	cmd.Env = []string{} // it needs none, and shows none in /proc
	return cmd
}

// The request is magic ‖ u32 memory ‖ u32 time ‖ u8 parallelism ‖ salt ‖
// u32 length ‖ password, the answer one status byte ‖ key.
const (
	kdfMagic       = "vdkdf1"
	kdfFixed       = len(kdfMagic) + 4 + 4 + 1 + 16 + 4
	kdfAnswer      = 1 + 32
	maxKDFPassword = 64 << 10
)

// Status bytes of the answer.
const (
	kdfOK byte = iota
	kdfBadParams
	kdfBadPassword
)

func childKDF(ctx context.Context, cmd *exec.Cmd, password []byte, p seal.KDFParams) (seal.Key, error) {
	if err := p.Check(); err != nil {
		return seal.Key{}, err
	}
	if len(password) > maxKDFPassword {
		return seal.Key{}, fmt.Errorf("%w: longer than %d bytes", seal.ErrPassword, maxKDFPassword)
	}
	request := appendKDFRequest(make([]byte, 0, kdfFixed+len(password)), password, p)
	defer clear(request)
	cmd.Stdin = bytes.NewReader(request)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return seal.Key{}, fmt.Errorf("start key derivation: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return seal.Key{}, fmt.Errorf("start key derivation: %w", err)
	}
	var answer [kdfAnswer]byte
	defer clear(answer[:])
	_, readErr := io.ReadFull(out, answer[:])
	if err := errors.Join(cmd.Wait(), readErr); err != nil {
		// Of a child that was killed because ctx ended, ctx knows the reason.
		return seal.Key{}, fmt.Errorf("key derivation: %w", errors.Join(ctx.Err(), err))
	}
	return parseKDFAnswer(answer[:])
}

func appendKDFRequest(b, password []byte, p seal.KDFParams) []byte {
	b = append(b, kdfMagic...)
	b = binary.BigEndian.AppendUint32(b, p.Memory)
	b = binary.BigEndian.AppendUint32(b, p.Time)
	b = append(b, p.Parallelism)
	b = append(b, p.Salt[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(password)))
	return append(b, password...)
}

func parseKDFAnswer(answer []byte) (seal.Key, error) {
	switch answer[0] {
	case kdfOK:
		return seal.KeyFromBytes(answer[1:])
	case kdfBadParams:
		return seal.Key{}, seal.ErrKDFParams
	case kdfBadPassword:
		return seal.Key{}, seal.ErrPassword
	}
	return seal.Key{}, fmt.Errorf("key derivation answered %d", answer[0])
}

// RunKDFChild is the child's side: one request from stdin, one answer to
// stdout. A refusal of the parameters or the password is an answer; an error
// means that none could be given.
func RunKDFChild(stdin io.Reader, stdout io.Writer) error {
	return AnswerKDF(stdin, stdout, InProcessKDF)
}

// AnswerKDF is RunKDFChild with a derivation of the caller's.
func AnswerKDF(stdin io.Reader, stdout io.Writer, derive KDF) error {
	password, p, err := readKDFRequest(stdin)
	if err != nil {
		return fmt.Errorf("key derivation request: %w", err)
	}
	key, err := derive(context.Background(), password, p)
	clear(password)
	defer key.Wipe()
	answer := append(make([]byte, 0, kdfAnswer), kdfOK)
	defer func() { clear(answer) }()
	answer = append(answer, key.Bytes()...)
	switch {
	case errors.Is(err, seal.ErrKDFParams):
		answer[0] = kdfBadParams
	case errors.Is(err, seal.ErrPassword):
		answer[0] = kdfBadPassword
	case err != nil:
		return err
	}
	_, err = stdout.Write(answer)
	return err
}

func readKDFRequest(r io.Reader) (password []byte, p seal.KDFParams, err error) {
	var fixed [kdfFixed]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, p, err
	}
	b, ok := bytes.CutPrefix(fixed[:], []byte(kdfMagic))
	if !ok {
		return nil, p, seal.ErrFormat
	}
	p.Memory, p.Time, p.Parallelism = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), b[8]
	copy(p.Salt[:], b[9:])
	n := binary.BigEndian.Uint32(b[25:])
	if n > maxKDFPassword {
		return nil, p, seal.ErrTooLarge
	}
	password = make([]byte, n)
	_, err = io.ReadFull(r, password)
	return password, p, err
}
