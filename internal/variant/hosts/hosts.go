// Package hosts finds the DestinationRules that Istio's proxies use for a host: by wildcards, by the namespaces
// of the client, the Service and the root, and by exportTo. It follows destinationRule and mergeDestinationRule
// of istio.io/istio/pilot/pkg/model, against which test/judges holds it.
package hosts

import (
	"iter"
	"strings"
)

// maxHost is the longest name that DNS has, in bytes. A longer text is no host.
const maxHost = 253

// Valid reports whether a text may be a host by its length.
func Valid(host string) bool { return host != "" && len(host) <= maxHost }

// Pattern is the host of a DestinationRule: a name, or the end of names.
type Pattern struct {
	// Text is the name, or the end without the asterisk.
	Text string
	// Wild is set for the end of names.
	Wild bool
}

// Parse returns the pattern that a host stands for.
func Parse(host string) Pattern {
	if end, wild := strings.CutPrefix(host, "*"); wild {
		return Pattern{end, true}
	}
	return Pattern{host, false}
}

func (p Pattern) String() string {
	if p.Wild {
		return "*" + p.Text
	}
	return p.Text
}

// Covers reports whether the pattern covers a host.
func (p Pattern) Covers(host string) bool {
	if p.Wild {
		return strings.HasSuffix(host, p.Text)
	}
	return p.Text == host
}

// Covering yields the patterns that cover a host, the most specific first. They share the bytes of the host.
func Covering(host string) iter.Seq[Pattern] {
	return func(yield func(Pattern) bool) {
		if !Valid(host) || !yield(Parse(host)) {
			return
		}
		rest := strings.TrimPrefix(host, "*")
		for i := 1; i < len(rest); i++ {
			// A wildcard is a whole label, or the part of one in front of a hyphen.
			if (rest[i] == '.' || rest[i] == '-') && !yield(Pattern{rest[i:], true}) {
				return
			}
		}
		if host != "*" {
			yield(Pattern{"", true})
		}
	}
}
