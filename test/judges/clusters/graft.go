package clusters

// Grafts: mirrors in the routes that other people wrote.

import (
	"fmt"
	"strings"
)

// Graft adds random mirrors to rules of a route, to the targets that its rules name and to others.
func (m Maker) Graft(route Object) {
	if route["kind"] == "VirtualService" {
		for _, rule := range List(route, "spec", "http") {
			m.graftStanza(rule.(Object))
		}
		return
	}
	for _, rule := range List(route, "spec", "rules") {
		for n := range m.IntN(3) {
			ref := Object{"name": fmt.Sprint("variant-", n), "port": Pick(m, 80, 8080)}
			if own, ok := Pick(m, append(List(rule, "backendRefs"), nil)...).(Object); ok && m.OneIn(3) {
				ref = Clone(own)
				delete(ref, "weight")
				delete(ref, "filters")
			}
			filter := Object{"type": "RequestMirror", "requestMirror": Object{"backendRef": ref}}
			rule.(Object)["filters"] = append(List(rule, "filters"), filter)
		}
	}
}

// graftStanza adds mirrors to an http route of a VirtualService, if it has none.
func (m Maker) graftStanza(rule Object) {
	for key := range rule {
		if strings.HasPrefix(key, "mirror") {
			return
		}
	}
	target := func() Object {
		d := Object{"host": Pick(m, "variant", "variant.other.svc.cluster.local")}
		if backends := List(rule, "route"); len(backends) > 0 && m.OneIn(3) {
			if own, ok := At(Pick(m, backends...), "destination").(Object); ok {
				d = Clone(own)
			}
		}
		if m.OneIn(3) {
			d["subset"] = Pick(m, "v1", "v2", "v9")
		}
		return d
	}
	switch m.IntN(3) {
	case 0:
		rule["mirror"] = target()
		if m.OneIn(2) {
			rule["mirrorPercentage"] = Object{"value": Pick(m, 0, 0.5, 100)}
		}
	case 1:
		rule["mirrors"] = []any{Object{"destination": target()}, Object{"destination": target(), "percentage": Object{"value": 5}}}
	}
}
