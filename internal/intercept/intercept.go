// Package intercept decides the selector of a Service while proxies stand in front of it, and recovers the
// selector that its author wrote. The webhook calls it inside every write of such a Service, the controller
// and the uninstaller before they write one. It takes and returns plain values, and is pure; package objects
// converts from and to objects of the API.
//
// Mirrorgate changes only the values of the selector, never its keys and never a port. A client that does not
// know of mirrorgate, or a write that the webhook does not see, therefore restores the author's selector.
package intercept

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"

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

// Service is the part of a Service that decisions depend on. Its strings are spelled as in the API.
type Service struct {
	Name                string
	Labels, Annotations map[string]string
	Owners              []Owner
	Selector            map[string]string
	Ports               []ServicePort

	Type, ClusterIP                              string
	InternalTrafficPolicy, ExternalTrafficPolicy string
	PublishNotReadyAddresses                     bool
}

// Owner is an owner reference.
type Owner struct{ Group, Kind string }

// ServicePort is a port of a Service.
type ServicePort struct {
	Port       int32
	TargetPort intstr.IntOrString
	// Protocol is TCP when empty.
	Protocol string
}

// View is the state of the cluster that concerns a Service.
type View struct {
	// Wanted is the result of Wants, or false while mirrorgate is being removed.
	Wanted bool
	// Proxies are the pods that may serve: Ready, and not terminating.
	Proxies []Proxy
	// Primary is the selector of the route's primary, nil if there is none.
	Primary map[string]string
	// Origin is the selector of the origin, nil if there is none. It counts where the Service itself does not
	// record the values that the sentinel replaced.
	Origin map[string]string
}

// ErrNotSynced is why there is no View while the caches are not full. Its method Cause returns the label of
// the webhook's error counter.
var ErrNotSynced error = notSynced{}

type notSynced struct{}

func (notSynced) Error() string { return "the caches are not full" }
func (notSynced) Cause() string { return "caches" }

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
