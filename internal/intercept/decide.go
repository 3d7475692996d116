// The decision: whether a Service leads to its proxies, past them to its primary (bypass), or nowhere else than
// its author wrote.

package intercept

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Mode is where a Service leads.
type Mode string

// The modes.
const (
	// Own is the author's selector: no proxy stands in front of the Service.
	Own Mode = "own"
	// Bypass is the primary's selector, or the author's where there is no primary: no proxy can serve.
	Bypass Mode = "bypass"
	// Proxied is the sentinel: the Service leads to its proxies.
	Proxied Mode = "proxied"
)

// Decision is the selector that a Service should be stored with.
type Decision struct {
	Mode     Mode
	Selector map[string]string
	// Recorded is the value of wellknown.SelectorAnnotation, "" for none.
	Recorded string
	// Original is the selector that the author means.
	Original map[string]string
	// Lost is set if the selector has a sentinel and the value it replaced is recorded nowhere. The selector
	// then stays as it is.
	Lost bool
	// Why is the reason that no proxy serves, in Bypass, or that the selector is Lost.
	Why string
}

// Decide returns the selector that a Service should have. old is the stored Service that a write replaces,
// nil when there is none. Deciding again on the result changes nothing.
func Decide(s, old *Service, v *View) Decision {
	original, err := Original(s, old, v.Origin)
	if err != nil {
		return Decision{Mode: Proxied, Selector: s.Selector, Recorded: s.Annotations[wellknown.SelectorAnnotation], Lost: true, Why: err.Error()}
	}
	d := Decision{Mode: Own, Selector: original, Original: original}
	if !v.Wanted || len(original) == 0 {
		return d
	}
	d.Why = unserved(s, original, v.Proxies)
	switch {
	case d.Why == "":
		d.Mode, d.Selector = Proxied, Sentinels(s.Name, original)
	case len(v.Primary) > 0:
		d.Mode, d.Selector = Bypass, v.Primary
	default:
		d.Mode = Bypass
	}
	if !maps.Equal(d.Selector, original) {
		raw, _ := json.Marshal(record{original, d.Selector}) // maps of strings: it cannot fail
		d.Recorded = string(raw)
	}
	return d
}

// unserved returns why the proxies cannot serve a Service, "" if they can. Connections go to any pod that the
// selector would match, so each of these pods must listen on every port of the Service.
func unserved(s *Service, original map[string]string, proxies []Proxy) string {
	if len(proxies) == 0 {
		return "no proxy is ready"
	}
	selected := slices.DeleteFunc(slices.Clone(proxies), func(p Proxy) bool {
		for key := range original {
			if p.Labels[key] != wellknown.Sentinel(s.Name) {
				return true
			}
		}
		return false
	})
	if len(selected) == 0 {
		return "no ready proxy has all keys of the selector yet"
	}
	for _, p := range s.Ports {
		for i := range selected {
			if !selected[i].Serves.port(p) {
				return fmt.Sprintf("a proxy does not listen for port %d yet", p.Port)
			}
		}
	}
	return ""
}

// Wants reports whether proxies belong in front of a Service: it is enabled, a route is attached to it, and
// it is not refused.
func Wants(s *Service, namespaceEnabled, routed bool) bool {
	return Enabled(s.Labels[wellknown.Label], namespaceEnabled) && routed && Refused(s) == ""
}

// Enabled reports whether a Service with this value of wellknown.Label, "" for none, requests proxies. The
// label of its namespace counts where it has none.
func Enabled(label string, namespaceEnabled bool) bool {
	return label == wellknown.Enabled || label == "" && namespaceEnabled
}
