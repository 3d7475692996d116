package h2

import "net/url"

// opaque is a URL whose :path is target, byte for byte. net/http takes the authority in front of a
// target away that begins with two slashes, so those get one.
func opaque(address, host, target string) *url.URL {
	u := &url.URL{Scheme: "http", Host: address, Opaque: target}
	if len(target) > 1 && target[:2] == "//" {
		u.Opaque = "//" + host + target
	}
	return u
}
