// Package intercept decides what the selector of a Service is while mirrorgate stands in front of it,
// and what its author meant it to be. It is pure: the webhook calls it inside every write of such a
// Service, the controller and the uninstaller before they write one.
//
// Only the values of the selector are ours, never its keys and never a port. A client that does not
// know of us, or a write that the webhook does not see, therefore gives back what the author wrote.
package intercept

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Mode is where a Service leads.
type Mode string

// The modes.
const (
	// Own is the selector that the author wrote: nobody stands in front of the Service.
	Own Mode = "own"
	// Bypass is the primary's selector, or the author's where there is no primary: no proxy can serve.
	Bypass Mode = "bypass"
	// Proxied is the sentinel: the Service leads to its proxies.
	Proxied Mode = "proxied"
)

// Service is what a decision needs of one.
type Service struct {
	Name     string
	Selector map[string]string
	// Recorded is the value of wellknown.SelectorAnnotation.
	Recorded string
	Ports    []corev1.ServicePort
}

// Of reads a Service.
func Of(o *corev1.Service) *Service {
	return &Service{Name: o.Name, Selector: o.Spec.Selector, Recorded: o.Annotations[wellknown.SelectorAnnotation], Ports: o.Spec.Ports}
}

// Wants says whether proxies belong in front of a Service: it asks for them, a route is attached to it,
// and it is not refused.
func Wants(o *corev1.Service, namespaceEnabled, routed bool) bool {
	label := o.Labels[wellknown.Label]
	return (label == wellknown.Enabled || label == "" && namespaceEnabled) && routed && Refused(o) == ""
}

// View is what the cluster says.
type View struct {
	// Wanted is what Wants says, unless mirrorgate is being removed.
	Wanted bool
	// Proxies are the pods that may serve: ready, and not ending.
	Proxies []Proxy
	// Primary is the selector of the route's primary, nil if there is none.
	Primary map[string]string
	// Origin is the selector that the origin has, nil if there is none. It is asked where nothing else
	// tells what a sentinel stands for.
	Origin map[string]string
}

// ErrNotSynced is why there is no View while the caches are not full. It has a Cause for the webhook's
// counter.
var ErrNotSynced error = notSynced{}

type notSynced struct{}

func (notSynced) Error() string { return "the caches are not full" }
func (notSynced) Cause() string { return "caches" }

// Decision is what is to be stored.
type Decision struct {
	Mode     Mode
	Selector map[string]string
	// Recorded is the value of wellknown.SelectorAnnotation, "" for none.
	Recorded string
	// Original is the selector that the author means.
	Original map[string]string
	// Lost is set if the selector leads to proxies and nobody knows any more what it was: it stays as
	// it is.
	Lost bool
	// Why no proxy serves, in Bypass.
	Why string
}

// record is the value of wellknown.SelectorAnnotation.
type record struct {
	// Original is what the author wrote, Written what we wrote in its place.
	Original map[string]string `json:"original"`
	Written  map[string]string `json:"written"`
}

// Decide says what the selector of a Service has to be. old is the stored Service that a write
// replaces, nil when there is none. Deciding again on what was decided changes nothing.
func Decide(s, old *Service, v *View) Decision {
	original, err := Original(s, old, v.Origin)
	if err != nil {
		return Decision{Mode: Proxied, Selector: s.Selector, Recorded: s.Recorded, Lost: true, Why: err.Error()}
	}
	d := Decision{Mode: Own, Selector: original, Original: original}
	switch {
	case !v.Wanted || len(original) == 0:
		return d
	default:
		d.Why = unserved(s, original, v.Proxies)
	}
	switch {
	case d.Why == "":
		d.Mode, d.Selector = Proxied, sentinels(s.Name, original)
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

// errLost is a selector of ours without a record of the author's.
var errLost = errors.New("its selector leads to proxies, and the selector that it had is recorded nowhere")

// Original reads what the author of a Service means its selector to be, key by key: a value that is
// ours stands for the author's, any other is new, and a key that is missing was removed. Our record is
// the object's, or if that was stripped the stored object's, or the origin's selector, which may be nil.
func Original(s, old *Service, origin map[string]string) (map[string]string, error) {
	r := recorded(s, old)
	sentinel := wellknown.Sentinel(s.Name)
	if r == nil && origin != nil {
		r = &record{origin, sentinels(s.Name, origin)}
	}
	if r == nil {
		r = &record{}
	}
	if len(r.Written) > 0 && maps.Equal(s.Selector, r.Written) {
		return r.Original, nil
	}
	original, ours := map[string]string{}, false
	for key, value := range s.Selector {
		before, known := r.Original[key]
		written, wrote := r.Written[key]
		switch {
		case value == sentinel && known:
			original[key] = before
		case value == sentinel:
			return nil, errLost
		case wrote && value == written && known:
			original[key] = before
		case wrote && value == written:
			// The primary's alone.
		default:
			original[key] = value
			continue
		}
		ours = ours || before != value
	}
	// Where something of ours is left, the write was a patch of single keys, which cannot have said
	// anything about a key of the author's that the primary does not have.
	for key, before := range r.Original {
		_, wrote := r.Written[key]
		if _, rewritten := original[key]; ours && !wrote && !rewritten {
			original[key] = before
		}
	}
	return original, nil
}

// Stored is what the author of another Service, as it is stored, means its selector to be.
func Stored(selector map[string]string, recorded string) map[string]string {
	if r := parse(recorded); r != nil {
		return r.Original
	}
	return selector
}

// recorded is the record that counts, nil if there is none.
func recorded(s, old *Service) *record {
	if r := parse(s.Recorded); r != nil {
		return r
	}
	if old != nil {
		return parse(old.Recorded)
	}
	return nil
}

// parse reads a record. What nobody of us can have written is none: a forged one must not make the
// write of a Service invalid.
func parse(text string) *record {
	var r record
	if text == "" || json.Unmarshal([]byte(text), &r) != nil || len(r.Original) == 0 || len(r.Written) == 0 {
		return nil
	}
	for _, m := range []map[string]string{r.Original, r.Written} {
		for key, value := range m {
			if len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(value)) > 0 {
				return nil
			}
		}
	}
	return &r
}

// sentinels is a selector with every value replaced by the sentinel.
func sentinels(service string, selector map[string]string) map[string]string {
	out := make(map[string]string, len(selector))
	for key := range selector {
		out[key] = wellknown.Sentinel(service)
	}
	return out
}

// unserved says why the proxies cannot take over a Service, "" if they can. All pods that its selector
// would lead to must listen on all of its ports, since connections go to any of them.
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
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, proxy := range selected {
			if !proxy.Serves.port(p) {
				return fmt.Sprintf("a proxy does not listen for port %d yet", p.Port)
			}
		}
	}
	return ""
}
