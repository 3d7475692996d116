package clusters

// Random VirtualServices: roots and delegates, with every field that a mirror could disturb.

import (
	"fmt"
	"slices"
)

// routes adds the VirtualServices of a cluster: one or two roots, with delegates or without.
func (b *mesh) routes() {
	tree := b.OneIn(2)
	b.root(tree)
	if b.OneIn(6) {
		b.root(tree)
	}
	if !tree {
		return
	}
	for _, leaf := range []string{"leaf", "leaf-2"} {
		namespace := Prod
		if leaf == "leaf-2" && b.OneIn(2) {
			namespace = Team
		}
		rules := []any{}
		for range 1 + b.IntN(2) {
			rules = append(rules, b.rule(namespace, false, true))
		}
		spec := Object{"http": rules}
		if b.OneIn(8) {
			spec["exportTo"] = Pick(b.Maker, []any{"."}, []any{Prod}, []any{"*"})
		}
		b.cluster.Routes = append(b.cluster.Routes, object("networking.istio.io/v1", "VirtualService", namespace, leaf, spec))
	}
}

// root adds a VirtualService with hosts.
func (b *mesh) root(tree bool) {
	namespace := Pick(b.Maker, Prod, Prod, Prod, Prod, Team, Client, Root)
	spec := Object{"hosts": Pick(b.Maker, []any{"shop.prod" + domain}, []any{"shop.prod" + domain, "shop.example.com"}, []any{"shop.example.com"},
		[]any{"*.prod" + domain}, []any{"shop.prod" + domain, "shop-v1.prod" + domain}, []any{"api.example.com"}, []any{"*.example.com"})}
	if namespace == Prod && b.OneIn(2) {
		spec["hosts"] = Pick(b.Maker, []any{"shop"}, []any{"shop", "shop.example.com"}, []any{"shop", "shop-v1"})
	}
	switch b.IntN(6) {
	case 0:
		spec["gateways"] = []any{Pick(b.Maker, "ingress/gw", "prod/gw"), "mesh"}
	case 1:
		spec["gateways"] = []any{Pick(b.Maker, "ingress/gw", "prod/gw")}
	}
	if b.OneIn(4) {
		spec["exportTo"] = Pick(b.Maker, []any{"."}, []any{"*"}, []any{Client}, []any{Prod, Ingress})
	}
	rules := []any{}
	for i := range 1 + b.IntN(3) {
		delegates := tree && (i == 0 || b.OneIn(2))
		r := b.rule(namespace, delegates, false)
		if delegates {
			r["delegate"] = Pick(b.Maker, Object{"name": "leaf", "namespace": Prod}, Object{"name": "leaf", "namespace": Prod},
				Object{"name": "leaf-2", "namespace": Prod}, Object{"name": "leaf-2", "namespace": Team})
		}
		rules = append(rules, r)
	}
	spec["http"] = rules
	b.roots++
	b.cluster.Routes = append(b.cluster.Routes, object("networking.istio.io/v1", "VirtualService", namespace, fmt.Sprint("shop-", b.roots), spec))
}

// rule returns an http route. delegates is set for the rule of a root that delegates, leaf for the rule of a
// delegate.
func (b *mesh) rule(namespace string, delegates, leaf bool) Object {
	r := Object{}
	if !b.OneIn(3) {
		r["match"] = b.matches(delegates, leaf)
	}
	if b.OneIn(3) {
		r["headers"] = b.headers("host")
	}
	b.features(r)
	taken := map[string]bool{}
	switch {
	case delegates:
	case b.OneIn(12):
		r["redirect"] = Object{"uri": "/elsewhere"}
	case b.OneIn(16):
		r["directResponse"] = Object{"status": 503}
	default:
		r["route"] = b.backends(namespace, taken)
	}
	if r["redirect"] != nil || r["directResponse"] != nil {
		delete(r, "fault")
		delete(r, "rewrite")
		if !b.OneIn(4) {
			return r
		}
	}
	b.mirrors(r, namespace, taken)
	return r
}

func (b *mesh) matches(delegates, leaf bool) []any {
	prefixes := []string{"/", "/a", "/b"}
	if delegates {
		prefixes = []string{"/", "/a"}
	} else if leaf {
		prefixes = []string{"/a/b", "/a", "/a/c"}
	}
	var list []any
	for range 1 + b.IntN(2) {
		match := Object{}
		if !b.OneIn(3) {
			match["uri"] = Object{Pick(b.Maker, "prefix", "prefix", "exact"): Pick(b.Maker, prefixes...)}
		}
		if b.OneIn(4) {
			match["headers"] = Object{Pick(b.Maker, "x-h", "x-i"): Object{"exact": "1"}}
		}
		if b.OneIn(8) {
			match["sourceLabels"] = Object{"app": Pick(b.Maker, Apps...)}
		}
		if b.OneIn(10) {
			match["port"] = Pick(b.Maker, 80, 8081)
		}
		if b.OneIn(8) {
			match["method"] = Object{"exact": "GET"}
		}
		if len(match) == 0 {
			match["uri"] = Object{"prefix": "/"}
		}
		list = append(list, match)
	}
	return list
}

// features adds fields that have nothing to do with mirrors.
func (b *mesh) features(r Object) {
	for _, f := range []struct {
		key   string
		value any
	}{
		{"name", Pick(b.Maker, "n1", "n2")},
		{"timeout", "3s"},
		{"retries", Object{"attempts": 2}},
		{"rewrite", Object{"uri": "/z"}},
		{"fault", Object{"abort": Object{"httpStatus": 500, "percentage": Object{"value": 10}}}},
		{"corsPolicy", Object{"allowOrigins": []any{Object{"exact": "a"}}}},
	} {
		if b.OneIn(7) {
			r[f.key] = f.value
		}
	}
}

func (b *mesh) backends(namespace string, taken map[string]bool) []any {
	n := 1 + b.IntN(2)
	var list []any
	for i := range n {
		d := Object{"destination": b.destination(namespace, false, taken)}
		if n > 1 {
			d["weight"] = []int{60, 40}[i]
			if b.OneIn(6) {
				d["weight"] = []int{100, 0}[i]
			}
		} else if b.OneIn(16) {
			d["weight"] = 0
		}
		if b.OneIn(4) {
			d["headers"] = b.headers("x-c")
		}
		list = append(list, d)
	}
	return list
}

// headers returns operations on headers; name is one of those that a request may be given.
func (b *mesh) headers(name string) Object {
	h := Object{}
	for _, side := range []string{"request", "response"} {
		if b.OneIn(3) {
			continue
		}
		o := Object{}
		if b.OneIn(2) {
			o["remove"] = []any{Pick(b.Maker, "x-a", "x-b")}
		}
		if b.OneIn(2) {
			set := Pick(b.Maker, "x-c", name, "x-d")
			if side == "response" {
				set = "x-c"
			}
			o["set"] = Object{set: "v"}
		}
		if b.OneIn(3) {
			o["add"] = Object{"x-e": "v"}
		}
		h[side] = o
	}
	return h
}

// mirrors adds a mirror, a list of them, or none.
func (b *mesh) mirrors(r Object, namespace string, taken map[string]bool) {
	share := func() Object { return Object{"value": Pick(b.Maker, 0, 1, 7.5, 50, 100)} }
	switch b.IntN(5) {
	case 0, 1:
		r["mirror"] = b.destination(namespace, true, taken)
		switch b.IntN(5) {
		case 0, 1:
			r["mirrorPercentage"] = share()
		case 2:
			r["mirrorPercent"] = Pick(b.Maker, 0, 5, 100)
		}
	case 2, 3:
		list := []any{}
		for range b.IntN(4) {
			e := Object{"destination": b.destination(namespace, true, taken)}
			if b.OneIn(2) {
				e["percentage"] = share()
			}
			list = append(list, e)
		}
		r["mirrors"] = list
	default:
		if r["delegate"] != nil || b.OneIn(6) { // a root sets its delegates' share so
			r["mirrorPercentage"] = share()
		}
	}
}

// destination returns a destination that the rules of a namespace name. Mirrors rarely repeat a target.
func (b *mesh) destination(namespace string, mirror bool, taken map[string]bool) Object {
	s := Pick(b.Maker, b.services...)
	for i := 0; mirror && taken[s.host()] && i < 3 && !b.OneIn(6); i++ {
		s = Pick(b.Maker, b.services...)
	}
	taken[s.host()] = true
	if mirror && b.OneIn(8) {
		d := Object{"host": Pick(b.Maker, "api.example.com", "api.example.com", "www.example.com", "other.example.org", "shop-v3.prod", "shop-v2.prod.svc", "gw.ingress"+domain)}
		if b.OneIn(4) {
			d["port"] = Object{"number": Pick(b.Maker, 80, 7070, 8081)}
		}
		return d
	}
	d := Object{"host": s.host()}
	if s.namespace == namespace && !b.OneIn(4) {
		d["host"] = s.name
	}
	if b.OneIn(4) {
		d["subset"] = Pick(b.Maker, "v1", "v2")
	}
	ports := slices.Clone(s.ports)
	if b.OneIn(16) {
		ports = append(ports, port{number: 9999})
	}
	if len(ports) > 0 && b.OneIn(3) {
		d["port"] = Object{"number": Pick(b.Maker, ports...).number}
	}
	return d
}
