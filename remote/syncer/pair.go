package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vaultdrive/vaultdrive/vaultcore"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// PairTime is how long a new device waits for the answer to its question.
const PairTime = 15 * time.Minute

// pairPoll is how often it looks.
const pairPoll = 2 * time.Second

// ErrNoPairing: nobody asks with that code, or not any more.
var ErrNoPairing = errors.New("no device asks with that code")

// PairRequest publishes the question of a new device and gives the code that a
// person carries to a device of the vault. PairDone takes it away.
func PairRequest(ctx context.Context, r Remote, p *seal.Pairing) (code string, err error) {
	q, err := p.Question()
	if err != nil {
		return "", err
	}
	name, err := seal.PairName(q.Code())
	if err != nil {
		return "", err
	}
	return q.Code(), r.Put(ctx, PairQuestion(name), q.Encode())
}

// PairApprove lets in the device whose code was typed here: a header that lists
// it, then the answer to its keys. Errors: seal.ErrPair for a question that is
// not that of the code, ErrNoPairing, those of ChangePassword.
func PairApprove(ctx context.Context, v *vaultcore.Vault, r Remote, password []byte, code string) (seal.ID, error) {
	name, err := seal.PairName(code)
	if err != nil {
		return seal.ID{}, err
	}
	b, err := r.Get(ctx, PairQuestion(name))
	if errors.Is(err, ErrNotFound) {
		return seal.ID{}, ErrNoPairing
	}
	if err != nil {
		return seal.ID{}, err
	}
	q, err := seal.ParsePairQuestion(b, code)
	if err != nil {
		return seal.ID{}, err
	}
	// Approved once and interrupted, it is listed already.
	answer, err := v.AnswerPairing(q)
	if errors.Is(err, vaultcore.ErrUnknownDevice) {
		if err := AddDevice(ctx, v, r, password, q.Device); err != nil {
			return seal.ID{}, err
		}
		answer, err = v.AnswerPairing(q)
	}
	if err != nil {
		return seal.ID{}, err
	}
	err = r.Put(ctx, PairAnswer(name), answer)
	if errors.Is(err, ErrOtherBytes) { // every answer is sealed anew
		err = blob.WithHint(fmt.Errorf("%w any more: it was answered already", ErrNoPairing),
			"the new device goes on by itself; if it does not, run join --pair there again")
	}
	return q.Device.ID, err
}

// PairFinish waits for the answer and gives the vault key in it, with all headers
// there are: vaultcore.Join takes both and accepts nothing that the identity of
// the address has not signed. Errors: seal.ErrPair for an answer that is not for
// this device, context.DeadlineExceeded after PairTime, those of the remote.
func PairFinish(ctx context.Context, r Remote, vault seal.ID, p *seal.Pairing) (vk seal.Key, headers [][]byte, err error) {
	name, err := pairName(p)
	if err != nil {
		return vk, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, PairTime)
	defer cancel()
	for {
		answer, err := r.Get(ctx, PairAnswer(name))
		if err == nil {
			if vk, err = p.Open(vault, answer); err != nil {
				return vk, nil, err
			}
			s := &Site{}
			err = s.readHeaders(ctx, r, 0)
			return vk, s.Headers, err
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnavailable) {
			return vk, nil, err
		}
		timer := time.NewTimer(pairPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return vk, nil, fmt.Errorf("pairing: %w", ctx.Err())
		}
	}
}

// PairDone takes question and answer away: they served, or nobody came.
func PairDone(ctx context.Context, r Remote, p *seal.Pairing) error {
	name, err := pairName(p)
	if err != nil {
		return err
	}
	_, err = r.Settle(ctx, Settlement{Done: []string{PairQuestion(name), PairAnswer(name)}})
	return err
}

func pairName(p *seal.Pairing) (string, error) {
	q, err := p.Question()
	if err != nil {
		return "", err
	}
	return seal.PairName(q.Code())
}
