package clusters

// Random HTTPRoutes and GRPCRoutes, in a cluster where some variants are ready.

import "fmt"

// GatewayRoute returns a random route of a kind, and the cluster that it is written into.
func (m Maker) GatewayRoute(kind, version string) Cluster {
	b := &gatewayAPI{m, kind == "HTTPRoute"}
	rules := []any{}
	for range 1 + m.IntN(3) {
		rules = append(rules, b.rule())
	}
	route := object("gateway.networking.k8s.io/"+version, kind, Prod, "shop", Object{
		"parentRefs": []any{Object{"name": "gateway"}}, "rules": rules,
	})
	c := Cluster{Routes: []Object{route}}
	for i, name := range []string{"shop-v1", "shop-v2", "shop-v3"} {
		if i > 0 && m.OneIn(3) {
			continue
		}
		c.Objects = append(c.Objects,
			object("v1", "Service", Prod, name, Object{"selector": Object{"app": name}, "ports": []any{Object{"name": "http", "port": 80}}}))
		if i > 0 && m.OneIn(2) {
			continue
		}
		slice := object("discovery.k8s.io/v1", "EndpointSlice", Prod, name+"-x", nil)
		slice["metadata"].(Object)["labels"] = Object{"kubernetes.io/service-name": name}
		slice["addressType"], slice["ports"] = "IPv4", []any{Object{"name": "http", "port": 8080, "protocol": "TCP"}}
		slice["endpoints"] = []any{Object{
			"addresses": []any{fmt.Sprint("10.1.0.", i)}, "conditions": Object{"ready": true},
			"targetRef": Object{"kind": "Pod", "name": name, "namespace": Prod},
		}}
		c.Objects = append(c.Objects, slice, pod(Prod, name, fmt.Sprint("10.1.0.", i), Object{"app": name}, true))
	}
	return c.clone()
}

type gatewayAPI struct {
	Maker
	http bool
}

func (b *gatewayAPI) rule() Object {
	r := Object{}
	if b.OneIn(2) {
		match := Object{"path": Object{"type": "PathPrefix", "value": Pick(b.Maker, "/", "/a")}}
		if !b.http {
			match = Object{"method": Object{"service": "shop.Shop", "method": Pick(b.Maker, "Buy", "Sell")}}
		}
		r["matches"] = []any{match}
	}
	if !b.OneIn(4) {
		r["filters"] = b.filters()
	}
	backends := []any{}
	for range b.IntN(3) {
		d := b.reference()
		if b.OneIn(2) {
			d["weight"] = Pick(b.Maker, 0, 1, 90)
		}
		if b.OneIn(4) {
			d["filters"] = b.filters()
		}
		backends = append(backends, d)
	}
	r["backendRefs"] = backends
	return r
}

// filters returns up to 16 filters, as many as the CRDs allow, and rarely one more.
func (b *gatewayAPI) filters() []any {
	list := []any{}
	n := b.IntN(5)
	if b.OneIn(12) {
		n = 15 + b.IntN(3)
	}
	for range n {
		f := Object{"type": "RequestMirror", "requestMirror": Object{"backendRef": b.reference()}}
		switch b.IntN(6) {
		case 0:
			f["requestMirror"].(Object)["percent"] = Pick(b.Maker, 0, 1, 50, 100)
		case 1:
			f["requestMirror"].(Object)["fraction"] = Pick(b.Maker, Object{"numerator": 1}, Object{"numerator": 1, "denominator": 1000}, Object{"numerator": 200})
		}
		list = append(list, f)
	}
	if b.OneIn(3) {
		names := []any{"x-a", "x-b"}[:b.IntN(3)]
		if b.OneIn(8) {
			names = nil
			for i := range 14 + b.IntN(4) {
				names = append(names, fmt.Sprint("x-", i))
			}
		}
		list = append(list, Object{"type": "RequestHeaderModifier", "requestHeaderModifier": Pick(b.Maker,
			Object{"remove": names}, Object{"set": []any{Object{"name": "x-c", "value": "v"}}}, Object{"set": []any{Object{"name": "x-c", "value": "v"}}, "remove": names})})
	}
	if b.http && b.OneIn(8) {
		list = append(list, Object{"type": "RequestRedirect", "requestRedirect": Object{"hostname": "example.com"}})
	}
	b.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func (b *gatewayAPI) reference() Object {
	ref := Object{"name": Pick(b.Maker, "shop-v1", "shop-v2", "shop-v3"), "port": Pick(b.Maker, 80, 80, 80, 8080)}
	switch b.IntN(8) {
	case 0:
		ref["namespace"] = Pick(b.Maker, Prod, Team)
	case 1:
		ref["group"], ref["kind"] = "", "Service"
	case 2:
		ref["group"], ref["kind"] = "multicluster.x-k8s.io", "ServiceImport"
	}
	return ref
}
