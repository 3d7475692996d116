package core

// Responses that the proxy sends itself: errors and redirects.

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// respond answers the request with a status, the reason as a token, and why as text, or with the status of gRPC.
func (c *Core) respond(x *Exchange, status int, reason Reason, why string) {
	x.reason = reason
	var fields []message.Field
	if !c.options.HideReason {
		fields = append(fields, message.Field{Name: ReasonField, Value: string(reason)})
	}
	if IsGRPC(&x.Request) {
		c.reply(x, http.StatusOK, append(fields, grpcFields(status, why)...), "")
		x.status = status
		return
	}
	fields = append(fields, message.Field{Name: "Content-Type", Value: "text/plain; charset=utf-8"})
	c.reply(x, status, fields, "mirrorgate: "+why+"\n")
}

// Refuse answers, counts and logs a request that the terminator does not accept.
func (c *Core) Refuse(x *Exchange, status int, why string) {
	x.begin(time.Now())
	c.respond(x, status, refusalReason(status), why)
	c.record(x)
}

// Refused counts and logs a request that the terminator has refused, and returns the reason. Only the fields of
// x.Request that could be read may be set.
func (c *Core) Refused(x *Exchange, status int) Reason {
	x.begin(time.Now())
	x.status, x.reason = status, refusalReason(status)
	c.record(x)
	return x.reason
}

// HidesReason reports whether answers do not have ReasonField.
func (c *Core) HidesReason() bool { return c.options.HideReason }

// redirect answers the request with the redirect of its rule.
func (c *Core) redirect(x *Exchange) {
	listener := x.state.table.Listeners[x.state.listeners[x.Listener]]
	location := x.rule.Redirect.AppendLocation(nil, listener, &x.match)
	c.reply(x, x.rule.Redirect.Status, []message.Field{{Name: "Location", Value: string(location)}}, "")
}

// reply answers the request with the given fields and body.
func (c *Core) reply(x *Exchange, status int, fields []message.Field, body string) {
	fields = append(fields,
		message.Field{Name: "Date", Value: time.Now().UTC().Format(http.TimeFormat)},
		message.Field{Name: "Content-Length", Value: strconv.Itoa(len(body))})
	head := message.Response{Status: status, Reason: http.StatusText(status), Fields: fields, Length: int64(len(body))}
	if x.Request.Method == http.MethodHead {
		head.Bodyless, head.Length = true, 0
	}
	x.status = status
	x.reply = message.Reply{Response: &head}
	if x.rule != nil {
		x.reply.Edits = &x.rule.ResponseHeaders
	}
	err := x.Downstream.Begin(&x.reply)
	if err == nil && !head.Bodyless && body != "" {
		x.sent = int64(len(body))
		err = x.Downstream.Write([]byte(body))
	}
	if err == nil {
		err = x.Downstream.End(nil)
	}
	if err != nil {
		x.Downstream.Abort()
	}
}

// refusal is an error in the client's request that has its own status.
type refusal interface {
	error
	StatusCode() int
}

// fail answers a request to which no backend gave an answer.
func (c *Core) fail(x *Exchange, err error) {
	var refused refusal
	switch {
	case x.failure != nil && errors.As(x.failure, &refused):
		c.respond(x, refused.StatusCode(), refusalReason(refused.StatusCode()), refused.Error())
	case x.failure != nil && upstream.IsTimeout(x.failure):
		c.respond(x, http.StatusRequestTimeout, BodyTimeout, "the request's body did not arrive in time")
	case x.failure != nil:
		x.status, x.reason = statusGone, ClientGone
		x.Downstream.Abort()
	case errors.Is(err, errNoTunnel):
		c.respond(x, http.StatusNotImplemented, NoTunnel, err.Error())
	case upstream.IsTimeout(err) && (!errors.Is(err, upstream.ErrTLS) || x.late()):
		c.respond(x, http.StatusGatewayTimeout, TimedOut, "the backend did not answer in time")
	default:
		c.respond(x, http.StatusBadGateway, failureReason(err), "the backend did not answer")
	}
}

// late reports whether the time that the rule gives the last attempt is over.
func (x *Exchange) late() bool {
	return !x.send.Deadline.IsZero() && !time.Now().Before(x.send.Deadline)
}

// statusGone is the status that logs and metrics show for a client that left before it got a response. The
// number is nginx's.
const statusGone = 499
