// The request target and its agreement with Host (RFC 9112 sections 3.2 and 3.3).

package h1

import (
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// parseRequestTarget takes the request target apart, checks it against Host, and sets Path, Query and
// Authority.
func parseRequestTarget(req *message.Request, f *framing) error {
	if f.hosts > 1 {
		return errHostTwice
	}
	if f.hosts == 0 && req.Minor > 0 {
		return errHostMissing
	}
	if f.hosts == 1 && !message.ValidHost(f.host) {
		return errHost
	}
	req.Authority = f.host
	target := req.Target
	req.Path, req.Query = "/", ""
	switch {
	case req.Method == "CONNECT":
		req.Path = ""
		return setAuthority(req, f, target)
	case target[0] == '/':
		setPath(req, target)
		return nil
	case len(target) == 1 && target[0] == '*':
		if req.Method != "OPTIONS" {
			return errTarget
		}
		req.Path = "*"
		return nil
	}
	rest, ok := cutScheme(target)
	if !ok {
		return errTarget
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		return setAuthority(req, f, rest)
	}
	if err := setAuthority(req, f, rest[:end]); err != nil {
		return err
	}
	setPath(req, rest[end:])
	return nil
}

// setPath splits a path with a query; an empty path leaves Path as it is.
func setPath(req *message.Request, path string) {
	if at := strings.IndexByte(path, '?'); at >= 0 {
		req.Query = path[at+1:]
		path = path[:at]
	}
	if len(path) > 0 {
		req.Path = path
	}
}

// cutScheme cuts http:// or https:// off an absolute form.
func cutScheme(target string) (string, bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) > len(scheme) && message.Is(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return "", false
}

// setAuthority refuses a target that names another authority than Host: the next hop would choose one of the
// two, and not necessarily the one by which mirrorgate routed the request.
func setAuthority(req *message.Request, f *framing, named string) error {
	if !message.ValidHost(named) {
		return errTarget
	}
	if f.hosts == 1 && !message.EqualFold(named, f.host) {
		return errHostTarget
	}
	req.Authority = named
	return nil
}
