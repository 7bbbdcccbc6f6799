package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Code is the stable name of an error. A code has one meaning, and is never used
// for another.
type Code string

// The codes, with what a client does about each (SYNC.md section 7).
const (
	// It asked wrongly: it blocks, and reports a bug.
	CodeBadRequest         Code = "bad_request"
	CodeUnsupportedVersion Code = "unsupported_version"
	CodeMethodNotAllowed   Code = "method_not_allowed"
	CodeLengthRequired     Code = "length_required"
	CodeUnsupportedMedia   Code = "unsupported_media_type"
	// It signs in once, then blocks.
	CodeSessionInvalid Code = "session_invalid"
	// It stops that class of calls and shows why; reading goes on.
	CodePlanRequired       Code = "plan_required"
	CodeAccountDisabled    Code = "account_disabled"
	CodeRegistrationClosed Code = "registration_closed"
	CodeInviteInvalid      Code = "invite_invalid"
	CodeDeviceRevoked      Code = "device_revoked"
	CodePageSession        Code = "page_session"
	// What it names is not there, or not any more.
	CodeNotFound       Code = "not_found"
	CodeParentNotFound Code = "parent_not_found"
	CodeDeleted        Code = "deleted"
	CodeStartOver      Code = "start_over"
	// Somebody was faster: it pulls, and does it again.
	CodeSeqTaken       Code = "seq_taken"
	CodeCutBehind      Code = "cut_behind"
	CodeBehind         Code = "behind"
	CodeRowVersion     Code = "row_version"
	CodeBlobPledged    Code = "blob_pledged"
	CodeParentNotEmpty Code = "parent_not_empty"
	// What it sends and what is here do not fit together.
	CodeOtherBytes          Code = "other_bytes"
	CodeIdempotencyConflict Code = "idempotency_conflict"
	CodeChainBroken         Code = "chain_broken"
	CodeSeqGap              Code = "seq_gap"
	CodeBlobGone            Code = "blob_gone"
	// Too much: that job is blocked and shown.
	CodeFileTooLarge  Code = "file_too_large"
	CodeBodyTooLarge  Code = "body_too_large"
	CodeQuotaExceeded Code = "quota_exceeded"
	CodeLogFull       Code = "log_full"
	// It reads its copy again, verifies, then blocks.
	CodeRangeInvalid   Code = "range_invalid"
	CodeHashMismatch   Code = "hash_mismatch"
	CodeLengthMismatch Code = "length_mismatch"
	CodeBadHeader      Code = "bad_header"
	CodeBadBatch       Code = "bad_batch"
	// Later: it backs off, until RetryAfter where that is said.
	CodeTimeout     Code = "timeout"
	CodeRateLimited Code = "rate_limited"
	CodeInternal    Code = "internal"
	CodeUnavailable Code = "unavailable"
	// The server itself has no room: it shows that, and tries again later.
	CodeStorageFull Code = "storage_full"
)

// statuses gives every code its HTTP status. This is the only table of both.
var statuses = map[Code]int{
	CodeBadRequest:         http.StatusBadRequest,
	CodeUnsupportedVersion: http.StatusBadRequest,
	CodeMethodNotAllowed:   http.StatusMethodNotAllowed,
	CodeLengthRequired:     http.StatusLengthRequired,
	CodeUnsupportedMedia:   http.StatusUnsupportedMediaType,

	CodeSessionInvalid: http.StatusUnauthorized,

	CodePlanRequired:       http.StatusForbidden,
	CodeAccountDisabled:    http.StatusForbidden,
	CodeRegistrationClosed: http.StatusForbidden,
	CodeInviteInvalid:      http.StatusForbidden,
	CodeDeviceRevoked:      http.StatusForbidden,
	CodePageSession:        http.StatusForbidden,

	CodeNotFound:       http.StatusNotFound,
	CodeParentNotFound: http.StatusNotFound,
	CodeDeleted:        http.StatusGone,
	CodeStartOver:      http.StatusGone,

	CodeSeqTaken:       http.StatusConflict,
	CodeCutBehind:      http.StatusConflict,
	CodeBehind:         http.StatusConflict,
	CodeRowVersion:     http.StatusConflict,
	CodeBlobPledged:    http.StatusConflict,
	CodeParentNotEmpty: http.StatusConflict,

	CodeOtherBytes:          http.StatusConflict,
	CodeIdempotencyConflict: http.StatusConflict,
	CodeChainBroken:         http.StatusConflict,
	CodeSeqGap:              http.StatusPreconditionFailed,
	CodeBlobGone:            http.StatusPreconditionFailed,

	CodeFileTooLarge:  http.StatusRequestEntityTooLarge,
	CodeBodyTooLarge:  http.StatusRequestEntityTooLarge,
	CodeQuotaExceeded: http.StatusRequestEntityTooLarge,
	CodeLogFull:       http.StatusRequestEntityTooLarge,

	CodeRangeInvalid:   http.StatusRequestedRangeNotSatisfiable,
	CodeHashMismatch:   http.StatusUnprocessableEntity,
	CodeLengthMismatch: http.StatusUnprocessableEntity,
	CodeBadHeader:      http.StatusUnprocessableEntity,
	CodeBadBatch:       http.StatusUnprocessableEntity,

	CodeTimeout:     http.StatusRequestTimeout,
	CodeRateLimited: http.StatusTooManyRequests,
	CodeInternal:    http.StatusInternalServerError,
	CodeUnavailable: http.StatusServiceUnavailable,
	CodeStorageFull: http.StatusServiceUnavailable,
}

// Status is the HTTP status of a code; 500 for one that is not ours.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error is the body of every answer that is not a success. Its text is for
// people and may change; programs read Code.
type Error struct {
	Text      string `json:"error"`
	Code      Code   `json:"code"`
	RequestID string `json:"request_id"`
	// Field names what was wrong with a bad_request.
	Field string `json:"field,omitempty"`
	// Quota is with quota_exceeded and log_full.
	*Quota
	// Head is the newest number of the feed, with start_over.
	Head *int64 `json:"head,omitempty"`

	// Status and RetryAfter are the answer's, not the body's.
	Status     int           `json:"-"`
	RetryAfter time.Duration `json:"-"`
	cause      error
}

// Quota says how full an account is, in stored bytes.
type Quota struct {
	Usage     int64 `json:"usage"`
	Limit     int64 `json:"limit"`
	Remaining int64 `json:"remaining"`
}

// Errorf makes an error of a code. A cause given with %w stays in the chain and
// out of the text of internal errors when they are sent.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Text: err.Error(), Code: code, Status: code.Status(), cause: errors.Unwrap(err)}
}

// BadField is a bad_request that names the field.
func BadField(field, format string, args ...any) *Error {
	e := Errorf(CodeBadRequest, format, args...)
	e.Field = field
	return e
}

// BadJSON is a bad_request about a body that is not the JSON it should be. Where
// one value is in the way it names the field.
func BadJSON(err error) *Error {
	var wrong *FieldError
	if errors.As(err, &wrong) {
		return BadField(wrong.Field, "%w", err)
	}
	return Errorf(CodeBadRequest, "%w", err)
}

// Limited is an answer of "later".
func Limited(code Code, after time.Duration, format string, args ...any) *Error {
	e := Errorf(code, format, args...)
	e.RetryAfter = after
	return e
}

// Error has the code, the text and, if there is one, the request's id, which is
// what an operator looks for in the server's log.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Code, e.Text)
	if e.Field != "" {
		s += " (" + e.Field + ")"
	}
	if e.RequestID != "" {
		s += " [request " + e.RequestID + "]"
	}
	return s
}

// Unwrap gives the cause, on the side that has it.
func (e *Error) Unwrap() error { return e.cause }

// IsCode says whether an error in the chain is an Error of that code.
func IsCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// AsError gives the Error in the chain, or an internal one around err whose text
// gives nothing away.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Text: "the server failed; its log has the request", Code: CodeInternal, Status: http.StatusInternalServerError, cause: err}
}
