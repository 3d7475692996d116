package dataplane

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomObject is one of a universe small enough for everything to collide with everything.
func randomObject(r *rand.Rand) (kind Kind, full, manifest string) {
	kind = pick(r, KindService, KindService, KindHTTPRoute, KindHTTPRoute, KindGRPCRoute, KindReferenceGrant,
		KindEndpointSlice, KindEndpointSlice, KindEndpointSlice, KindEndpointSlice, KindEndpointSlice)
	full = pick(r, "n1", "n2") + "/" + pick(r, "a", "b", "c")
	service := func() string { return pick(r, "a", "b", "c") }
	ref := func() string {
		return pick(r, "", "", "", "namespace: n1, ", "namespace: n2, ", "kind: Pod, ") + "name: " + service() + ", port: " + pick(r, "80", "80", "81")
	}
	switch kind {
	case KindService:
		n := name(full).Name
		manifest = serviceOf(full, pick(r, wellknown.Enabled, wellknown.Enabled, wellknown.Enabled, wellknown.Enabled, "", "disabled"),
			pick(r, "80", "80", "web:80 admin:81", "web:80 admin:81", "web:80->x admin:81->x", "web:81/h2c", "80 web:81/h2c", "80/http", "80/mysql"),
			pick(r, "type: NodePort", "type: NodePort", "type: NodePort", "type: NodePort", "type: NodePort", "type: NodePort", "type: NodePort", "clusterIP: None", "selector: {app: mirrorgate-"+n+"}", "ipFamilies: [IPv6, IPv4]", "type: ExternalName"))
	case KindEndpointSlice:
		manifest = sliceOf(full, service()+pick(r, "", "-mirrorgate-origin"), pick(r, "80", "80", "web:80", "web:80", "admin:81"),
			pick(r, []string{"10.0.0.1"}, []string{"!10.0.0.1", "10.0.0.2"}, []string{"~10.0.0.1"}, []string{"fd00::1", "!fd00::2"}, nil)...)
	case KindReferenceGrant:
		manifest = grantOf(full, "{group: gateway.networking.k8s.io, kind: "+pick(r, "HTTPRoute", "GRPCRoute")+", namespace: "+pick(r, "n1", "n2")+"}",
			pick(r, `{group: "", kind: Service}`, `{group: "", kind: Service, name: a}`))
	case KindHTTPRoute, KindGRPCRoute:
		match, of := pick(r, "{path: {value: /}}", "{path: {value: /x}}", "{path: {value: nowhere}}"), routeOf
		if kind == KindGRPCRoute {
			match, of = pick(r, "", "{method: {service: s}}", "{method: {type: RegularExpression, method: '*'}}"), grpcRouteOf
		}
		rule := fmt.Sprintf("{filters: [{type: RequestMirror, requestMirror: {backendRef: {%s}, percent: %d}}], matches: [%s], backendRefs: [{%s, weight: %d}]}",
			ref(), pick(r, 50, 101), match, ref(), r.IntN(3))
		manifest = of(full, pick(r,
			`{group: "", kind: Service, name: `+name(full).Name+`}`, `{group: "", kind: Service, name: `+service()+`}`,
			`{group: "", kind: Service, name: `+service()+`}`,
			`{group: "", kind: Service, name: `+service()+`, port: 80}`,
			`{group: "", kind: Service, name: `+service()+`, sectionName: web}, {group: "", kind: Service, name: `+service()+`}`,
			`{group: "", kind: Service, namespace: n2, name: `+service()+`}`,
			`{name: `+service()+`}`), rule+pick(r, "", ", {}", ", "+rule),
			fmt.Sprintf("generation: %d", r.IntN(3)), fmt.Sprintf(`creationTimestamp: "2026-01-0%dT00:00:00Z"`, 1+r.IntN(3)))
	}
	return kind, full, manifest
}

// picture has everything that an Index returns.
type picture struct {
	tables map[Name]*spec.Table
	status map[RouteName][]ParentStatus
}

func pictureOf(x *Index) picture {
	p := picture{map[Name]*spec.Table{}, map[RouteName][]ParentStatus{}}
	for _, namespace := range []string{"n1", "n2"} {
		for _, n := range []string{"a", "b", "c"} {
			full := Name{Namespace: namespace, Name: n}
			p.tables[full] = x.Table(full)
			for _, kind := range []Kind{KindHTTPRoute, KindGRPCRoute} {
				p.status[RouteName{kind, full}], _ = x.Status(RouteName{kind, full})
			}
		}
	}
	return p
}

// TestRandomHistories checks that an Index with a history returns the same as a fresh one, that the proxy
// accepts every table, that every difference was announced (as endpoints where nothing else changed), that a
// proxy which follows the announcements has the table of the Index, and that nothing is left in the end.
func TestRandomHistories(t *testing.T) {
	served, announced := 0, 0
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 5))
		type object struct {
			kind Kind
			name Name
		}
		live := map[object]string{}
		w := newWorld(t)
		before := pictureOf(w.Index)
		for range 500 {
			w.changes = nil
			kind, full, manifest := randomObject(r)
			key := object{kind, name(full)}
			switch _, there := live[key]; {
			case r.IntN(20) == 0:
				w.EnableNamespace("n2", r.IntN(2) == 0)
			case there && r.IntN(3) == 0:
				delete(live, key)
				w.Delete(kind, key.name.Namespace, key.name.Name)
			default:
				live[key] = manifest
				w.apply(manifest)
			}
			after := pictureOf(w.Index)
			announced += checkAnnounced(t, w, before, after)
			for _, table := range after.tables {
				if table == nil {
					continue
				}
				served++
				compiled, problems := routing.Compile(table)
				require.NotNil(t, compiled, "seed %d: %v", seed, problems)
			}
			before = after
		}
		fresh := newWorld(t)
		fresh.EnableNamespace("n2", w.namespaces["n2"])
		order := slices.Collect(maps.Keys(live)) // any
		for _, key := range order {
			fresh.apply(live[key])
		}
		require.Equal(t, pictureOf(fresh.Index), pictureOf(w.Index), "seed %d", seed)
		for key := range live {
			w.Delete(key.kind, key.name.Namespace, key.name.Name)
		}
		require.Zero(t, len(w.services)+len(w.slices)+len(w.routes)+len(w.grants)+len(w.naming)+len(w.crossing)+len(w.attached)+len(w.endpoints)+len(w.uses)+len(w.calls)+len(w.called), "seed %d", seed)
	}
	require.Greater(t, served, 1000, "the universe has tables")
	require.Greater(t, announced, 50, "and endpoints that change alone")
}

// checkAnnounced returns how many tables changed by their endpoints alone.
func checkAnnounced(t *testing.T, w *world, before, after picture) (swaps int) {
	t.Helper()
	var all Change
	for _, c := range w.changes {
		all.Tables, all.Endpoints, all.Routes = append(all.Tables, c.Tables...), append(all.Endpoints, c.Endpoints...), append(all.Routes, c.Routes...)
	}
	for n, status := range after.status {
		if !slices.Contains(all.Routes, n) {
			require.Equal(t, before.status[n], status, "%s was not announced", n)
		}
	}
	for parent, table := range after.tables {
		if slices.Contains(all.Tables, parent) {
			continue
		}
		// What a Follower would have now.
		old := before.tables[parent]
		for _, b := range all.Endpoints {
			if b.Parent != parent {
				continue
			}
			swaps++
			for number := range old.Services[b.Service] {
				port, ok := w.Port(b, number)
				require.True(t, ok)
				old.Services[b.Service][number] = port
			}
		}
		require.Equal(t, old, table, "%s was not announced", parent)
	}
	return swaps
}
