package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Cause is why a stream ended or never came about, in a word, for metrics and logs.
type Cause string

// Causes.
const (
	// CauseCredentials: a token cannot be read.
	CauseCredentials Cause = "credentials"
	// CauseUnavailable: there is no connection, or the syncer serves nobody at present.
	CauseUnavailable Cause = "unavailable"
	// CauseTLS: the two sides do not accept each other's certificates or settings.
	CauseTLS Cause = "tls"
	// CauseUnauthenticated and CausePermissionDenied: the syncer does not let this VM watch.
	CauseUnauthenticated  Cause = "unauthenticated"
	CausePermissionDenied Cause = "permission_denied"
	// CauseTimeout: no connection or no Welcome within the time for it.
	CauseTimeout Cause = "timeout"
	// CauseSilent: three heartbeat intervals without a message, or a ping without an answer.
	CauseSilent Cause = "silent"
	// CauseResourceExhausted: a message is over the limit, or the syncer has no room now.
	CauseResourceExhausted Cause = "resource_exhausted"
	// CauseAborted: the VM read too slowly and must resume.
	CauseAborted Cause = "aborted"
	// CauseAged: the syncer asks its VMs, each after some time, to connect anew to any syncer.
	CauseAged Cause = "aged"
	// CauseRenewed: this VM ended the stream to go on with a newer credential.
	CauseRenewed Cause = "renewed"
	// CauseEnded: the syncer ended the stream without an error.
	CauseEnded Cause = "ended"
	// CauseRefused: the syncer said something that cannot be followed.
	CauseRefused Cause = "refused"
	// CauseMismatch: the mirror does not equal the syncer's view.
	CauseMismatch Cause = "mismatch"
	// CauseStopped: Run's context ended.
	CauseStopped Cause = "stopped"
	// CauseOther: any other gRPC error.
	CauseOther Cause = "other"
)

// Reason is what about a syncer's words cannot be followed, in a word, for metrics and logs.
type Reason string

// Reasons.
const (
	// ReasonOutOfTurn: the message is not due now.
	ReasonOutOfTurn Reason = "out_of_turn"
	// ReasonMode: the mode of Welcome is not one that this version knows.
	ReasonMode Reason = "mode"
	// ReasonWelcome: the Welcome contradicts the Hello, or lacks something.
	ReasonWelcome Reason = "welcome"
	// ReasonGap: the delta does not follow on from where the mirror is.
	ReasonGap Reason = "gap"
	// ReasonFrames: the frames do not make one delta.
	ReasonFrames Reason = "frames"
	// ReasonSize: a delta, a resource or the whole view is larger than may be held.
	ReasonSize Reason = "size"
	// ReasonContent: a removal is of something that is not there, or a resource comes twice.
	ReasonContent Reason = "content"
	// ReasonKey, ReasonBody, ReasonName, ReasonAddress and ReasonPort: something of a resource is absurd.
	ReasonKey     = Reason(registryv1.FaultKey)
	ReasonBody    = Reason(registryv1.FaultBody)
	ReasonName    = Reason(registryv1.FaultName)
	ReasonAddress = Reason(registryv1.FaultAddress)
	ReasonPort    = Reason(registryv1.FaultPort)
)

// contentRefusal is the refusal of a delta that cannot be applied.
func contentRefusal(err error) *refusal {
	if errors.Is(err, mirror.ErrPosition) {
		return &refusal{reason: ReasonGap, err: err}
	}
	if absurd, is := errors.AsType[*registryv1.ResourceError](err); is {
		return &refusal{reason: Reason(absurd.Fault), err: err}
	}
	return &refusal{reason: ReasonContent, err: err}
}

// absurd reports whether a resource was refused for itself, whatever the mirror holds.
func (r *refusal) absurd() bool {
	_, is := errors.AsType[*registryv1.ResourceError](r.err)
	return is
}

// failure is how a stream ended.
type failure struct {
	cause Cause
	err   error
	// hint is how long the syncer asks to be left alone. Zero: it does not say.
	hint time.Duration
	// again: nothing is wrong, and the stream is to be opened anew.
	again bool
	// reason is why the syncer does not let this VM in, one of registryv1.Refused…. Empty: it does not say.
	reason string
}

// refused reports whether to try again soon is of no use: not before somebody has changed something.
func (f *failure) refused() bool {
	switch f.cause {
	case CauseCredentials, CauseTLS, CauseUnauthenticated, CausePermissionDenied:
		return true
	default:
		return false
	}
}

// Error implements error.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap is the error that the failure was made of.
func (f *failure) Unwrap() error { return f.err }

// refusal is a failure by what the syncer said.
type refusal struct {
	reason Reason
	err    error
}

// Error implements error.
func (r *refusal) Error() string { return string(r.reason) + ": " + r.err.Error() }

// Unwrap is what is wrong.
func (r *refusal) Unwrap() error { return r.err }

func refuse(reason Reason, format string, arguments ...any) error {
	return &refusal{reason: reason, err: fmt.Errorf(format, arguments...)}
}

// errMismatch is what a heartbeat that does not match ends in.
var errMismatch = errors.New("mirror does not equal the syncer's view")

// classify says how a stream ended. The context is the stream's: what ended it counts more than
// what gRPC makes of it.
func classify(ctx context.Context, err error, trailer metadata.MD) *failure {
	if _, ok := errors.AsType[*refusal](err); ok {
		return &failure{cause: CauseRefused, err: err}
	}
	if errors.Is(err, errMismatch) {
		return &failure{cause: CauseMismatch, err: err}
	}
	if ctx.Err() != nil {
		if given, ok := errors.AsType[*failure](context.Cause(ctx)); ok {
			return given
		}
		return &failure{cause: CauseStopped, err: context.Cause(ctx)}
	}
	if errors.Is(err, io.EOF) {
		return &failure{cause: CauseEnded, err: errors.New("the syncer ended the stream")}
	}
	said := status.Convert(err)
	return &failure{
		cause: causeOf(said),
		err:   fmt.Errorf("%s: %s", said.Code(), bounded(said.Message())),
		hint:  retryHint(said, trailer),
		again: infoReason(said) == registryv1.ReasonComeAgain, reason: knownReason(infoReason(said)),
	}
}

func causeOf(said *status.Status) Cause {
	switch said.Code() {
	case codes.Unavailable:
		// gRPC keeps no error value of a handshake, a ping or a GOAWAY frame, only its text.
		if strings.Contains(said.Message(), `debug data: "max_age"`) {
			return CauseAged
		}
		if strings.Contains(said.Message(), "keepalive ping failed") {
			return CauseSilent
		}
		if strings.Contains(said.Message(), handshakeCut) {
			return CauseUnavailable
		}
		for _, mark := range []string{"tls: ", "x509: ", "authentication handshake failed"} {
			if strings.Contains(said.Message(), mark) {
				return CauseTLS
			}
		}
		return CauseUnavailable
	case codes.Unauthenticated:
		return CauseUnauthenticated
	case codes.PermissionDenied:
		return CausePermissionDenied
	case codes.ResourceExhausted:
		return CauseResourceExhausted
	case codes.Aborted:
		return CauseAborted
	default:
		return CauseOther
	}
}

// infoReason is why the syncer says that it ended the stream: the reason of its own google.rpc.ErrorInfo. Empty: it
// does not say.
func infoReason(said *status.Status) string {
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == registryv1.ErrorDomain {
			return info.GetReason()
		}
	}
	return ""
}

// retryHint is how long a syncer asks to be left alone: google.rpc.RetryInfo in the status, or else
// `retry-after` in whole seconds among the trailers, as in HTTP (RFC 9110, section 10.2.3).
func retryHint(said *status.Status, trailer metadata.MD) time.Duration {
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok && info.GetRetryDelay().CheckValid() == nil {
			return max(0, info.GetRetryDelay().AsDuration())
		}
	}
	for _, value := range trailer.Get("retry-after") {
		if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
			return time.Duration(seconds) * time.Second
		}
	}
	return 0
}

// bounded keeps what a peer says short enough for a log line, and to what a terminal only shows.
func bounded(text string) string {
	const limit = 512
	cut := len(text) > limit
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text[:min(len(text), limit)], ""))
	if cut {
		return text + "..."
	}
	return text
}
