package clusters

// Damage: the mistakes that authors make in mirrors, and some that only an attacker makes.

import (
	"maps"
	"slices"
	"strings"
)

// Damage breaks a few fields of a route, mostly of its mirrors. The route may still be valid afterwards.
func (m Maker) Damage(route Object) {
	for range 1 + m.IntN(2) {
		var places []place
		collect(route["spec"], false, &places)
		if len(places) == 0 {
			return
		}
		m.breakAt(Pick(m, places...))
	}
}

// place is one field or element inside of a mirror.
type place struct {
	set    func(any)
	remove func()
	key    string
	value  any
}

// collect lists the places inside of mirrors, and the mirrors themselves.
func collect(v any, inside bool, places *[]place) {
	switch v := v.(type) {
	case Object:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			in := inside || strings.HasPrefix(k, "mirror") || k == "requestMirror"
			if in {
				*places = append(*places, place{func(x any) { v[k] = x }, func() { delete(v, k) }, k, v[k]})
			}
			collect(v[k], in, places)
		}
	case []any:
		for i := range v {
			if inside {
				*places = append(*places, place{func(x any) { v[i] = x }, func() { v[i] = nil }, "", v[i]})
			}
			collect(v[i], inside, places)
		}
	}
}

// breakAt removes a value, or replaces it by one that is wrong, or that might be.
func (m Maker) breakAt(p place) {
	if m.OneIn(3) {
		p.remove()
		return
	}
	switch p.value.(type) {
	case string:
		p.set(Pick[any](m, "", "${VAR}", "Shop", "shop v2", "shop_v2", "-shop", "shop.", "*", "*.prod.svc.cluster.local", "shop/v2", "10.0.0.1",
			strings.Repeat("a", 64), strings.Repeat("a.", 130), "http://shop", "shop:80", "é", 1, nil, Object{}, []any{}))
	case int, float64:
		p.set(Pick[any](m, 0, -1, 1, 65535, 65536, 70000, 100, 101, 150, 1.5, 0.00001, 3000000000, "80", nil, Object{}, true))
	case Object:
		p.set(Pick[any](m, Object{}, nil, []any{}, "x", 5, Object{"host": "shop-v2"}, Object{"value": 50}, Object{"number": 80}, Object{"surprise": true}))
	default:
		p.set(Pick[any](m, []any{}, nil, Object{}, []any{nil}, []any{Object{}}, "x"))
	}
}
