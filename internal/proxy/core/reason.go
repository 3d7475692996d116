package core

// Reasons for which the proxy, and not a backend, decides how an exchange ends.

import (
	"errors"
	"net/http"

	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// Reason is a token for logs, a metric's label and the client. A client cannot make new ones.
type Reason string

// ReasonField is the field that tells clients the reason of an error of the proxy's own.
const ReasonField = "x-mirrorgate-reason"

// The reasons.
const (
	NoTable       Reason = "no_table"        // 503: nothing is configured yet
	NoRule        Reason = "no_rule"         // 404
	NoBackend     Reason = "no_backend"      // 500: the rule has none, or its service or port is missing
	NoReady       Reason = "no_endpoint"     // 503: no endpoint is ready
	NoTunnel      Reason = "no_tunnel"       // 501, 502: the backend's connection cannot change its protocol
	Unreachable   Reason = "connect"         // 502: no endpoint could be connected to
	Unsecured     Reason = "tls"             // 502: no connection could be secured: the backend's certificate is not accepted, or it ended TLS
	Unprocessed   Reason = "refused"         // 502: the backend refused the request again and again
	Unanswered    Reason = "unanswered"      // 502: the backend's connection ended before an answer
	InvalidAnswer Reason = "invalid_answer"  // 502: the answer is not valid HTTP
	TimedOut      Reason = "timeout"         // 504: the backend did not answer in time
	Truncated     Reason = "truncated"       // the backend's answer ended early
	ClientGone    Reason = "client_gone"     // 499, or an answer that was not read to its end
	BodyTimeout   Reason = "body_timeout"    // 408
	HeadTimeout   Reason = "head_timeout"    // 408
	TargetTooLong Reason = "target_too_long" // 414
	HeadTooLarge  Reason = "head_too_large"  // 431
	Unsupported   Reason = "unsupported"     // 501, 505
	Malformed     Reason = "malformed"       // 400
)

// refusalReason returns the reason for which a client's request is refused with a status.
func refusalReason(status int) Reason {
	switch status {
	case http.StatusRequestTimeout:
		return HeadTimeout
	case http.StatusRequestURITooLong:
		return TargetTooLong
	case http.StatusRequestHeaderFieldsTooLarge:
		return HeadTooLarge
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return Unsupported
	}
	return Malformed
}

// failureReason returns the reason for which a backend gave no answer.
func failureReason(err error) Reason {
	switch {
	case errors.Is(err, upstream.ErrTLS), upstream.IsTLSAlert(err):
		return Unsecured
	case errors.Is(err, upstream.ErrConnect):
		return Unreachable
	case errors.Is(err, ErrRefused):
		return Unprocessed
	case errors.Is(err, ErrUnanswered):
		return Unanswered
	}
	return InvalidAnswer
}
