package core

// Errors of the proxy's own for clients that speak gRPC: they expect a status of gRPC, and guess one from any other
// answer.

import (
	"net/http"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

const grpcType = "application/grpc"

// IsGRPC reports whether a request is a call of gRPC. gRPC-Web is not: its clients go by the status of HTTP.
func IsGRPC(r *message.Request) bool {
	if r.Major != 2 {
		return false
	}
	value, _ := r.Get("content-type")
	if len(value) < len(grpcType) || !message.Is(value[:len(grpcType)], grpcType) {
		return false
	}
	rest := value[len(grpcType):]
	return rest == "" || rest[0] == '+' || rest[0] == ';'
}

// The statuses of gRPC that occur here (grpc/statuscodes).
const (
	grpcUnknown          = 2
	grpcDeadlineExceeded = 4
	grpcExhausted        = 8
	grpcUnimplemented    = 12
	grpcInternal         = 13
	grpcUnavailable      = 14
	grpcDataLoss         = 15
)

// grpcStatus returns the status of gRPC for a status of HTTP with which the proxy answers. It is the one that
// clients of gRPC would guess (grpc/http-grpc-status-mapping), except where more is known: a backend that is
// missing is UNAVAILABLE to a GRPCRoute, and after a timeout the call may have been processed.
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return grpcInternal
	case http.StatusNotFound, http.StatusNotImplemented:
		return grpcUnimplemented
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return grpcExhausted
	case http.StatusGatewayTimeout:
		return grpcDeadlineExceeded
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable:
		return grpcUnavailable
	}
	return grpcUnknown
}

// grpcFields returns the head of an answer that consists of a status alone (Trailers-Only). why needs no
// percent-encoding: it is visible ASCII without a percent sign.
func grpcFields(status int, why string) []message.Field {
	return []message.Field{
		{Name: "Content-Type", Value: grpcType},
		{Name: "Grpc-Status", Value: strconv.Itoa(grpcStatus(status))},
		{Name: "Grpc-Message", Value: "mirrorgate: " + why},
	}
}
