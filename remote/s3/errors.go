package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// errPastEnd: a range that begins behind the end.
var errPastEnd = errors.New("range begins behind the end")

// ErrRegion: the bucket lies in another region than was said.
var ErrRegion = errors.New("the bucket lies in another region")

// verdict is what an answer of the server means here.
type verdict struct {
	kind error // nil: see the status
	also error
	hint string
}

// verdicts is the table from the protocol's error codes. What is not in it is
// judged by its status; but no blob is missing unless the server says so in the
// protocol's own words (an empty 404 counts as such).
var verdicts = map[string]verdict{
	"NoSuchKey":     {kind: blob.ErrNotFound},
	"NoSuchVersion": {kind: blob.ErrNotFound},
	"NoSuchUpload":  {kind: blob.ErrNotFound},
	"NoSuchBucket":  {blob.ErrUnavailable, blob.ErrNoStore, hintBucket},
	"InvalidRange":  {kind: errPastEnd},

	"AccessDenied":                       {kind: blob.ErrDenied, hint: hintRights},
	"AllAccessDisabled":                  {kind: blob.ErrDenied, hint: hintRights},
	"AccountProblem":                     {kind: blob.ErrDenied, hint: hintRights},
	"InvalidObjectState":                 {kind: blob.ErrDenied, hint: "the object lies in an archive class: take vaults out of such lifecycle rules"},
	"InvalidAccessKeyId":                 {kind: blob.ErrDenied, hint: "the access key is unknown there: " + hintKeys},
	"SignatureDoesNotMatch":              {kind: blob.ErrDenied, hint: "the secret key does not belong to the access key: " + hintKeys},
	"XAdminUserNotFound":                 {kind: blob.ErrDenied, hint: "the access key is unknown there: " + hintKeys},
	"InvalidToken":                       {kind: blob.ErrDenied, hint: "the session token is not valid: " + hintKeys},
	"ExpiredToken":                       {kind: blob.ErrDenied, hint: "the session token has expired: " + hintKeys},
	"TokenRefreshRequired":               {kind: blob.ErrDenied, hint: "the session token has expired: " + hintKeys},
	"RequestTimeTooSkewed":               {kind: blob.ErrClock, hint: hintClock},
	"RequestExpired":                     {kind: blob.ErrClock, hint: hintClock},
	"AuthorizationHeaderMalformed":       {blob.ErrUnavailable, ErrRegion, hintRegion},
	"PermanentRedirect":                  {blob.ErrUnavailable, ErrRegion, hintRegion},
	"TemporaryRedirect":                  {kind: blob.ErrUnavailable},
	"InvalidRegion":                      {blob.ErrUnavailable, ErrRegion, hintRegion},
	"InvalidLocationConstraint":          {blob.ErrUnavailable, ErrRegion, hintRegion},
	"IllegalLocationConstraintException": {blob.ErrUnavailable, ErrRegion, hintRegion},

	"QuotaExceeded":                  {kind: blob.ErrNoSpace, hint: hintSpace},
	"XMinioAdminBucketQuotaExceeded": {kind: blob.ErrNoSpace, hint: hintSpace},
	"XMinioStorageFull":              {kind: blob.ErrNoSpace, hint: hintSpace},
	"StorageFull":                    {kind: blob.ErrNoSpace, hint: hintSpace},
	"InsufficientCapacity":           {kind: blob.ErrNoSpace, hint: hintSpace},
	"EntityTooLarge":                 {kind: blob.ErrTooLarge},
	"MaxMessageLengthExceeded":       {kind: blob.ErrTooLarge},
	"EntityTooSmall":                 {kind: blob.ErrSize},
	"InvalidPart":                    {kind: blob.ErrSize},
	"InvalidPartOrder":               {kind: blob.ErrSize},
	"KeyTooLongError":                {kind: blob.ErrKey},
	"NotImplemented":                 {kind: errors.ErrUnsupported},
	"BadDigest":                      {kind: blob.ErrUnavailable}, // the bytes broke on the way
	"IncompleteBody":                 {kind: blob.ErrUnavailable},
	"XAmzContentSHA256Mismatch":      {kind: blob.ErrUnavailable},
	"RequestTimeout":                 {kind: blob.ErrUnavailable},
	"SlowDown":                       {kind: blob.ErrUnavailable},
	"ConditionalRequestConflict":     {kind: blob.ErrUnavailable},
	"OperationAborted":               {kind: blob.ErrUnavailable},
}

const (
	hintBucket = "make the bucket, or look at its name and at endpoint= in the address; if it was deleted, sync disable and then sync enable put there again what this device has"
	hintRights = "the key needs to list the bucket and to read, write and delete what is below the prefix"
	hintKeys   = "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the credentials file"
	hintClock  = "set this machine's clock, for example with timedatectl set-ntp true"
	hintRegion = "give the bucket's region as region= in the address"
	hintSpace  = "free space in the bucket or raise its quota"
	hintTLS    = "the server's certificate is not trusted here: look at endpoint= in the address, and at this machine's clock and certificates"
	hintHTTP   = "the endpoint speaks no TLS: write endpoint=http://… and allow it with insecure=1, if the network is trusted"
)

// explain turns an error of the client into the store's vocabulary. condition
// is that of the write: it says what a refusal means.
func (s *Store) explain(ctx context.Context, op, key, condition string, after time.Duration, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%s %s: %w", op, key, ended)
	}
	place := fmt.Sprintf("the bucket %s at %s", s.bucket, s.host)
	where := fmt.Sprintf("%s %s in %s", op, key, place)
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) || answer.StatusCode == 0 && answer.Code == "" {
		return explainNet(where, place, err)
	}
	v := judge(answer, condition)
	if v.kind == blob.ErrNotFound && (op == "list" || op == "put" && (condition == "" || condition == absent)) {
		v = verdicts["NoSuchBucket"] // what these need is nothing but the bucket
	}
	// The server's own sentence stays out: it may repeat what was sent to it.
	told := fmt.Errorf("%s: %w (%s)", where, v.kind, answerName(answer))
	if v.also != nil {
		told = fmt.Errorf("%s: %w: %w (%s)", where, v.kind, v.also, answerName(answer))
	}
	if after > 0 && v.kind == blob.ErrUnavailable {
		told = &blob.RetryError{After: after, Err: told}
	}
	said := v.saying(place, answerName(answer))
	if v.also == blob.ErrNoStore {
		said = fmt.Sprintf("there is no bucket %s at %s", s.bucket, s.host)
	}
	return blob.WithHint(blob.WithSaying(told, said), v.hint)
}

// saying is the sentence about the bucket as a whole; "" where the object matters.
func (v verdict) saying(place, answer string) string {
	switch {
	case v.also == ErrRegion:
		return fmt.Sprintf("%s lies in another region (%s)", place, answer)
	case v.kind == blob.ErrDenied:
		return fmt.Sprintf("%s denies access (%s)", place, answer)
	case v.kind == blob.ErrClock:
		return fmt.Sprintf("the clocks of this machine and of %s differ (%s)", place, answer)
	}
	return ""
}

func judge(a minio.ErrorResponse, condition string) verdict {
	if a.StatusCode == http.StatusPreconditionFailed || a.Code == "PreconditionFailed" {
		if condition == absent {
			return verdict{kind: blob.ErrExist}
		}
		return verdict{kind: blob.ErrChanged}
	}
	if a.Code == "ConditionalRequestConflict" && condition != "" {
		// Another writer is at it this very moment.
		if condition == absent {
			return verdict{kind: blob.ErrExist}
		}
		return verdict{kind: blob.ErrChanged}
	}
	if v, ok := verdicts[a.Code]; ok {
		return v
	}
	return verdictOf(a.StatusCode)
}

func verdictOf(status int) verdict {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return verdict{kind: blob.ErrDenied, hint: hintRights}
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return verdict{blob.ErrUnavailable, ErrRegion, hintRegion}
	case http.StatusRequestEntityTooLarge:
		return verdict{kind: blob.ErrTooLarge}
	case http.StatusRequestedRangeNotSatisfiable:
		return verdict{kind: errPastEnd}
	case http.StatusInsufficientStorage:
		return verdict{kind: blob.ErrNoSpace, hint: hintSpace}
	case http.StatusNotImplemented:
		return verdict{kind: errors.ErrUnsupported}
	}
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		return verdict{kind: blob.ErrUnavailable}
	}
	return verdict{kind: errRefused}
}

// errRefused: an answer nobody expects of a server that speaks the protocol.
var errRefused = errors.New("the server refuses the request")

// answerName is the code if it looks like one, and the status.
func answerName(a minio.ErrorResponse) string {
	for _, c := range a.Code {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return fmt.Sprintf("status %d", a.StatusCode)
		}
	}
	return fmt.Sprintf("%s, status %d", a.Code, a.StatusCode)
}

// explainNet is for what never became an answer.
func explainNet(where, place string, err error) error {
	hint, said := "", blob.NoConnection(err)
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate):
		hint, err = hintTLS, fmt.Errorf("%w: %w", blob.ErrUntrusted, certificate.Err)
		said = fmt.Sprintf("the certificate of %s is not trusted: %v", place, certificate.Err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		hint = hintHTTP
	case errors.As(err, &dns) && dns.IsNotFound:
		hint = "no such host: look at endpoint= in the address, and at the network"
	}
	var inURL *url.Error // its text holds the whole address of the request
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time") // not the caller's context: that is checked before
	}
	if said == "" {
		said = fmt.Sprintf("%s does not answer: %s", place, blob.NoAnswer(err))
	}
	return blob.WithHint(blob.WithSaying(fmt.Errorf("%s: %w (%w)", where, blob.ErrUnavailable, err), said), hint)
}
