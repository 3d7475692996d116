package core

// Affinity: clients that stay with an endpoint, by their address or by a cookie that names it.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// affinity is what an endpoint is chosen by.
type affinity struct {
	// client is the client's address, empty if it does not matter.
	client string
	// cookie is the name of the cookie that names the endpoint, empty without one, and digest its value, 0 if the client
	// has none that is valid.
	cookie string
	digest uint64
}

// affinityAt returns the affinity of the request at a listener. Behind proxies that are believed the address is that of
// their client, since one of them has many.
func (x *Exchange) affinityAt(l *routing.Listener) (a affinity) {
	if l.Affinity {
		a.client = x.Remote
		if x.forwarded != nil {
			a.client = x.forwarded.Client()
		}
	}
	if l.AffinityCookie != "" {
		a.cookie = l.AffinityCookie
		if value := x.Request.Cookie(a.cookie); len(value) == digestLength {
			a.digest, _ = strconv.ParseUint(value, 16, 64)
		}
	}
	return a
}

// digestLength is the length of a digest as text.
const digestLength = 16

// choose picks an endpoint, or nil if all were tried.
func choose(set upstream.Set, by *affinity, tried []*upstream.Endpoint, now time.Time) *upstream.Endpoint {
	if by.digest != 0 {
		if named := set.Named(by.digest, tried, now); named != nil {
			return named
		}
	}
	if by.client != "" && len(set) > 1 {
		return set.PickFor(upstream.Client(by.client), tried, now)
	}
	return set.Pick(tried, now)
}

// pin returns an answer with the cookie that names its endpoint, or the answer itself if the client needs no new one.
func (x *Exchange) pin(head *message.Response) *message.Response {
	if x.affinity.cookie == "" || x.endpoint.Digest() == x.affinity.digest {
		return head
	}
	pinned := *head
	cookie := fmt.Sprintf("%s=%0*x; Path=/; HttpOnly", strings.Clone(x.affinity.cookie), digestLength, x.endpoint.Digest())
	pinned.Fields = append(slices.Clip(slices.Clone(head.Fields)), message.Field{Name: "Set-Cookie", Value: cookie})
	return &pinned
}
