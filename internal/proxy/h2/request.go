// Outgoing requests as net/http's, without its additions and encodings.

package h2

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// request returns a request that net/http sends with the same head: it adds no field and encodes none anew.
func request(ctx context.Context, to *upstream.Endpoint, out *message.Outgoing) *http.Request {
	req := (&http.Request{
		Method: strings.Clone(out.Method), Host: strings.Clone(out.Authority), Proto: "HTTP/2.0", ProtoMajor: 2,
		ContentLength: out.Length, Header: http.Header{}, Body: http.NoBody,
	}).WithContext(ctx)
	target := strings.Clone(out.Target)
	if target[0] != '/' && target != "*" { // an absolute form; its authority is also in Host
		if target = out.Path; out.Query != "" {
			target += "?" + out.Query
		}
	}
	req.URL = opaqueURL(to, req.Host, target)
	for name, value := range out.Each {
		name = http.CanonicalHeaderKey(strings.Clone(name))
		switch name {
		case "Host", "Content-Length", "Expect":
		default:
			req.Header[name] = append(req.Header[name], strings.Clone(value))
		}
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // keeps net/http from adding its own
	}
	req.Trailer = announced(req.Header["Trailer"])
	delete(req.Header, "Trailer")
	return req
}

// announced returns the trailers that the values of Trailer name, still without values, or nil if there are
// none.
func announced(values []string) (trailers http.Header) {
	for _, names := range values {
		for name := range func(yield func(string) bool) { message.Tokens(names, yield) } {
			if message.TrailerForbidden(name) || !message.ValidToken(name) {
				continue
			}
			if trailers == nil {
				trailers = http.Header{}
			}
			trailers[http.CanonicalHeaderKey(name)] = nil
		}
	}
	return trailers
}

// opaqueURL returns a URL whose :path is target, byte for byte. net/http removes the authority at the start
// of a target that begins with two slashes, so such a target gets one.
func opaqueURL(to *upstream.Endpoint, host, target string) *url.URL {
	u := &url.URL{Scheme: "http", Host: to.Address, Opaque: target}
	if to.Secured() {
		// net/http keeps connections by this name, and those with other settings of TLS must not be used.
		u.Scheme, u.Host = "https", fmt.Sprintf("%x:443", sha256.Sum256([]byte(to.ID())))
	}
	if len(target) > 1 && target[:2] == "//" {
		u.Opaque = "//" + host + target
	}
	return u
}
