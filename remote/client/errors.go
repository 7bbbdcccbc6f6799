package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/vaultdrive/vaultdrive/remote/api"
	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// meaning is what a code is to the engine, and what a person can do about it.
type meaning struct {
	err  error
	hint string
}

var meanings = map[api.Code]meaning{
	api.CodeSessionInvalid:      {syncer.ErrDenied, "the server does not let this device in: it was revoked, or the vault has no account there any more; vaultdrive device list on another device tells, and sync enable makes an account anew"},
	api.CodePlanRequired:        {syncer.ErrDenied, "the plan of this account has no synchronisation; what is here stays, and reading goes on"},
	api.CodeAccountDisabled:     {syncer.ErrDenied, "ask the operator of the server"},
	api.CodeRegistrationClosed:  {syncer.ErrDenied, "ask the operator of the server to let the vault in"},
	api.CodeInviteInvalid:       {syncer.ErrDenied, "sync enable --invite CODE, with a code that vaultdrive serve invite printed at the server"},
	api.CodeDeviceRevoked:       {syncer.ErrDenied, "this device was revoked; what is here stays readable"},
	api.CodePageSession:         {syncer.ErrDenied, ""},
	api.CodeNotFound:            {syncer.ErrNotFound, ""},
	api.CodeParentNotFound:      {syncer.ErrNoParent, ""},
	api.CodeDeleted:             {syncer.ErrNotFound, ""},
	api.CodeBlobGone:            {syncer.ErrNoBlob, ""},
	api.CodeStartOver:           {syncer.ErrStartOver, ""},
	api.CodeSeqTaken:            {syncer.ErrOtherBytes, ""},
	api.CodeCutBehind:           {syncer.ErrOtherBytes, ""},
	api.CodeOtherBytes:          {syncer.ErrOtherBytes, ""},
	api.CodeIdempotencyConflict: {syncer.ErrOtherBytes, ""},
	api.CodeChainBroken:         {syncer.ErrOtherBytes, ""},
	api.CodeBehind:              {syncer.ErrBehind, ""},
	api.CodeRowVersion:          {syncer.ErrStale, ""},
	api.CodeBlobPledged:         {syncer.ErrUnavailable, ""},
	api.CodeSeqGap:              {syncer.ErrUnavailable, ""},
	api.CodeFileTooLarge:        {syncer.ErrTooLarge, "the server takes no file as long as this one; it stays on this device"},
	api.CodeBodyTooLarge:        {syncer.ErrTooLarge, ""},
	api.CodeQuotaExceeded:       {syncer.ErrFull, "delete files that are not needed, or ask the operator of the server for more room"},
	api.CodeLogFull:             {syncer.ErrFull, "the server's room for the history is used up: ask its operator"},
	api.CodeStorageFull:         {syncer.ErrFull, "the server itself has no room left: ask its operator; files saved meanwhile wait here"},
	api.CodeTimeout:             {syncer.ErrUnavailable, ""},
	api.CodeRateLimited:         {syncer.ErrUnavailable, ""},
	api.CodeInternal:            {syncer.ErrUnavailable, "the log of the server says why"},
	api.CodeUnavailable:         {syncer.ErrUnavailable, ""},
}

// refusal reads an answer of failure. What it is to the engine and the server's
// own words both stay in the chain.
func (r *Remote) refusal(res *http.Response) error {
	defer res.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(newPaced(res.Body), api.MaxField)) // what is missing is said by the status
	e := &api.Error{Status: res.StatusCode}
	ours := json.Unmarshal(raw, e) == nil && e.Code != ""
	if !ours {
		e = byStatus(res.StatusCode)
	}
	m, known := meanings[e.Code]
	if !known {
		m = meanings[byStatus(res.StatusCode).Code]
	}
	err := answered(e, m)
	if after := retryAfter(res, r.o.Now()); after > 0 {
		err = &blob.RetryError{After: after, Err: err}
	}
	if !ours {
		m.hint = "what answers there is no vaultdrive server: look at the address, http or https, and at the proxy in front of it"
	}
	return blob.WithHint(err, m.hint)
}

// answered gives a refusal in the server's own words: what it is to the engine says
// the chain, in the words of no store.
func answered(e *api.Error, m meaning) error {
	if m.err == nil {
		return e
	}
	return &answer{said: e, is: m.err}
}

type answer struct {
	said *api.Error
	is   error
}

func (a *answer) Error() string {
	if errors.Is(a.is, syncer.ErrDenied) {
		return "the server refuses: " + a.said.Error()
	}
	return "the server answers: " + a.said.Error()
}

// Unwrap gives both.
func (a *answer) Unwrap() []error { return []error{a.is, a.said} }

// byStatus is for an answer that is not our server's, of a proxy for instance.
func byStatus(status int) *api.Error {
	code := api.CodeUnavailable
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		code = api.CodeSessionInvalid
	case http.StatusNotFound:
		code = api.CodeNotFound
	case http.StatusInsufficientStorage:
		code = api.CodeStorageFull
	case http.StatusRequestEntityTooLarge:
		code = api.CodeBodyTooLarge
	}
	return &api.Error{Text: fmt.Sprintf("status %d, and no word of the server's own", status), Code: code, Status: status}
}

// maxRetryAfter keeps a mistaken server from stopping us for days.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(res *http.Response, now time.Time) time.Duration {
	text := res.Header.Get("Retry-After")
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(time.Duration(max(n, 0))*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		now = date // the server's own clock is what its date means
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
