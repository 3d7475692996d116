package policy

// Targets: what a mirror may point at, whether a backend is the same target, and how its author would name it.

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// unsupported returns the reason why a mirror cannot have the target, "" when it can. A missing host is left to
// Istio's validator.
func unsupported(rt *route.Route, m *route.Mirror) string {
	if rt.Kind == route.VirtualService && strings.HasPrefix(m.Target.Name, "*") {
		return "a mirror needs one host; name a Service"
	}
	return ""
}

// sameTarget reports whether a backend is a mirror's target; a missing port stands for the Service's only
// one.
func sameTarget(b, t route.Target, v Variant) bool {
	if b.WithoutPort() != t.WithoutPort() {
		return false
	}
	return b.Port == t.Port || (len(v.Ports) == 1 && (b.Port == 0 || t.Port == 0))
}

// offer lists the values that the author can choose from.
func offer(what string, have []string) string {
	if len(have) == 0 {
		return "it has no " + what
	}
	if len(have) > 5 {
		have = append(slices.Clone(have[:5]), "...")
	}
	return what + "s: " + strings.Join(have, ", ")
}

// TargetName returns the name of a mirror's target as its author would write it: "httpbin-v2:80".
func TargetName(m *route.Mirror) string {
	name := cmp.Or(m.Host, m.Target.Name)
	if m.Target.Subset != "" {
		name += "/" + m.Target.Subset
	}
	if m.Target.Port != 0 {
		name += ":" + strconv.Itoa(int(m.Target.Port))
	}
	return name
}
