package route

// Random routes, with unknown fields everywhere, and the properties that hold for each of them whichever
// mirrors are parked, and in whichever order.

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// maker makes random routes.
type maker struct {
	*rand.Rand
	kind Kind
	// size bounds lists of filters and mirrors.
	size int
	// delegate makes a VirtualService without hosts.
	delegate bool
}

func newMaker(source rand.Source) *maker {
	r := rand.New(source)
	return &maker{Rand: r, kind: []Kind{HTTPRoute, GRPCRoute, VirtualService}[r.IntN(3)], size: 4}
}

func seeded(seed uint64) *maker { return newMaker(rand.NewPCG(seed, 42)) }

// script is a source that a fuzzer writes: each byte is one choice.
type script struct {
	bytes []byte
	rest  *rand.PCG
}

func newScript(bytes []byte) *script { return &script{bytes, rand.NewPCG(uint64(len(bytes)), 42)} }

func (s *script) Uint64() uint64 {
	if len(s.bytes) == 0 {
		return s.rest.Uint64()
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return uint64(b) * 0x0101010101010101
}

func (m *maker) oneIn(n int) bool { return m.IntN(n) == 0 }

func pick[T any](m *maker, from ...T) T { return from[m.IntN(len(from))] }

type fields = map[string]any

// strange adds fields that no type of this package has.
func (m *maker) strange(f fields) fields {
	if m.oneIn(4) {
		f[pick(m, "zone", "a/b", "a~b", "~1", "naïve", "", "irror", "x-mirrorgate-parked-00")] = pick[any](m,
			json.Number("1e2"), json.Number("100.0"), json.Number("123456789012345678901234567890"), json.Number("-0"),
			"<&>\u2028é", true, []any{}, fields{}, []any{fields{"remove": []any{"x-mirrorgate-parked-0000000000"}}}, fields{"deep": []any{[]any{fields{}}}})
	}
	return f
}

func (m *maker) route() fields {
	metadata := fields{"name": "web", "namespace": "shop"}
	if m.oneIn(3) {
		metadata["annotations"] = fields{"example.com/a~b": "<x>", GateAnnotation: "Present"}
	}
	m.delegate = m.kind == VirtualService && m.oneIn(2)
	rules := []any{}
	for range m.IntN(4) {
		if m.kind == VirtualService {
			rules = append(rules, m.istioRule())
		} else {
			rules = append(rules, m.gatewayRule())
		}
	}
	key, version := "rules", GatewayGroup+"/v1"
	if m.kind == VirtualService {
		key, version = "http", IstioGroup+"/v1"
	}
	spec := fields{key: rules}
	if m.kind == VirtualService && !m.delegate {
		spec["hosts"] = []any{"web"}
	}
	return m.strange(fields{
		"apiVersion": version, "kind": string(m.kind),
		"metadata": m.strange(metadata), "spec": m.strange(spec),
	})
}

func (m *maker) gatewayRule() fields {
	rule := m.strange(fields{})
	if m.oneIn(2) {
		rule["matches"] = []any{m.strange(fields{"path": fields{"value": fmt.Sprint("/", m.IntN(9))}})}
	}
	m.filters(rule)
	if m.oneIn(8) {
		return rule
	}
	backends := []any{}
	for range m.IntN(3) {
		b := m.strange(fields{"name": pick(m, "v0", "v1"), "port": json.Number("80")})
		if m.oneIn(3) {
			m.filters(b)
		}
		backends = append(backends, b)
	}
	rule["backendRefs"] = backends
	return rule
}

func (m *maker) filters(holder fields) {
	if m.oneIn(4) {
		return
	}
	filters := []any{}
	modified := false
	for range m.IntN(m.size + 1) {
		switch m.IntN(5) {
		case 0:
			if modified {
				continue
			}
			modified = true
			modifier := m.strange(m.removal())
			if m.oneIn(3) {
				modifier["set"] = []any{fields{"name": "a", "value": "b"}}
			}
			filters = append(filters, m.strange(fields{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}))
		case 1:
			filters = append(filters, m.strange(fields{"type": pick(m, "URLRewrite", "ExtensionRef", "FromTheFuture", "RequestMirror")}))
		default:
			filters = append(filters, m.mirrorFilter())
		}
	}
	holder["filters"] = filters
}

// removal returns a modifier with a list of headers to remove, or without one.
func (m *maker) removal() fields {
	switch m.IntN(4) {
	case 0:
		return fields{}
	case 1:
		return fields{"remove": []any{}}
	default:
		return fields{"remove": []any{"x-a", "x-mirrorgate-else"}[:1+m.IntN(2)]}
	}
}

func (m *maker) mirrorFilter() fields {
	ref := m.strange(fields{"name": pick(m, "v1", "v2", "v2", "v3"), "port": pick(m, json.Number("80"), json.Number("8080"))})
	if m.oneIn(4) {
		ref["namespace"] = pick(m, "shop", "other")
	}
	if m.oneIn(4) {
		ref["group"], ref["kind"] = "", "Service"
	}
	mirror := m.strange(fields{"backendRef": ref})
	switch m.IntN(4) {
	case 0:
		mirror["percent"] = json.Number(pick(m, "0", "10", "100", "1e1"))
	case 1:
		mirror["fraction"] = m.strange(fields{"numerator": json.Number("1"), "denominator": json.Number("1000")})
	case 2:
		mirror["fraction"] = m.strange(fields{"numerator": json.Number("5")})
	}
	return m.strange(fields{"type": "RequestMirror", "requestMirror": mirror})
}

func (m *maker) istioRule() fields {
	rule := m.strange(fields{})
	if !m.delegate && m.oneIn(4) {
		rule["delegate"] = fields{"name": "shop"}
	} else {
		var route []any
		for range 1 + m.IntN(2) {
			route = append(route, m.headers(m.strange(fields{"destination": fields{"host": "v1"}})))
		}
		rule["route"] = route
	}
	m.headers(rule)
	switch m.IntN(4) {
	case 0:
		rule["mirror"] = m.destination()
		switch m.IntN(4) {
		case 0:
			rule["mirrorPercentage"] = m.share("100.0", "0.00001", "50", "0", "1E-5")
		case 1:
			rule["mirrorPercent"] = json.Number("5")
		case 2:
			rule["mirror_percent"] = json.Number("6")
		}
	case 1, 2:
		mirrors := []any{}
		for range m.IntN(m.size + 1) {
			e := m.strange(fields{"destination": m.destination()})
			if m.oneIn(2) {
				e["percentage"] = m.share("7", "0", "0.0")
			}
			mirrors = append(mirrors, e)
		}
		rule["mirrors"] = mirrors
	}
	return rule
}

// headers gives a rule or an entry of its route headers, or none.
func (m *maker) headers(holder fields) fields {
	switch m.IntN(6) {
	case 0:
		holder["headers"] = fields{}
	case 1:
		holder["headers"] = fields{"response": fields{"remove": []any{"x-b"}}}
	case 2:
		holder["headers"] = m.strange(fields{"request": m.strange(fields{})})
	case 3:
		holder["headers"] = m.strange(fields{"request": m.strange(m.removal())})
	}
	return holder
}

// share returns a percentage. That of a delegate's mirror has known fields alone, which a placeholder can hold.
func (m *maker) share(values ...string) fields {
	share := fields{"value": json.Number(pick(m, values...))}
	if m.delegate {
		return pick(m, share, share, share, fields{})
	}
	return m.strange(share)
}

func (m *maker) destination() fields {
	dst := m.strange(fields{"host": pick(m, "v2", "v3", "v2.shop.svc.cluster.local", "v2.shop", "V2", "example.org")})
	if m.oneIn(3) {
		dst["subset"] = "s"
	}
	if m.oneIn(3) {
		dst["port"] = m.strange(fields{"number": json.Number("80")})
	}
	return dst
}

// some returns a choice of mirrors to park. Mirrors with the same list and target go together, as they do in
// every decision.
func (m *maker) some() func(*Mirror) bool {
	switch m.IntN(6) {
	case 0:
		return all
	case 1:
		return none
	}
	salt := m.Uint64()
	byPlace := m.oneIn(2)
	return func(mirror *Mirror) bool {
		t := mirror.Target
		text := fmt.Sprint(salt, t)
		if byPlace {
			text = fmt.Sprint(text, mirror.position.backend, mirror.position.single)
		}
		h := uint64(14695981039346656037)
		for _, b := range []byte(text) {
			h = (h ^ uint64(b)) * 1099511628211
		}
		return h>>33&1 == 0
	}
}

// eachSeed runs a property on many random routes.
func eachSeed(t *testing.T, n uint64, check func(t *testing.T, m *maker, raw []byte)) {
	t.Helper()
	seed, raw := uint64(0), []byte(nil)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d: %s", seed, raw)
		}
	})
	for ; seed < n; seed++ {
		m := seeded(seed)
		raw = encode(t, m.route())
		check(t, m, raw)
	}
}

// The stored object depends on the choice of parked mirrors alone, not on the steps that led to it, and
// restoring every mirror gives the author's object.
func TestEveryOrderEndsTheSame(t *testing.T) {
	eachSeed(t, 200, func(t *testing.T, m *maker, raw []byte) {
		stored := raw
		for range 4 {
			park := m.some()
			direct, _ := applyPlan(t, raw, park)
			var a Plan
			stored, a = applyPlan(t, stored, park)
			require.Empty(t, a.Misfits)
			sameJSON(t, direct, stored, "the order of steps must not matter")
			same(t, declared(t, tree(t, raw)), declared(t, tree(t, stored)), "no mirror may be lost")
		}
		back, _ := applyPlan(t, stored, none)
		sameJSON(t, raw, back, "the author's route must come back")
	})
}

// A server-side apply of the author's manifest brings every mirror inline and keeps the parked annotation.
// The result must be the stored object, also where the API server has added defaults to it.
func TestApplyingTheManifestAgainChangesNothing(t *testing.T) {
	eachSeed(t, 200, func(t *testing.T, m *maker, raw []byte) {
		author := tree(t, raw)
		stored := withDefaults(author) // all ready at first
		var park func(*Mirror) bool
		for range 3 {
			park = m.some()
			out, _ := applyPlan(t, encode(t, stored), park)
			stored = withDefaults(tree(t, out))
		}
		again, _ := applyPlanAfter(t, encode(t, ownManifest(author, stored)), decode(t, encode(t, stored), nil), park)
		same(t, stored, withDefaults(tree(t, again)), "applying again must change nothing")
		export, a := applyPlan(t, encode(t, stored), park)
		require.Empty(t, a.Operations)
		sameJSON(t, encode(t, stored), export, "an exported route must be stored as it is")
	})
}

// Rules may be inserted, reordered, copied and deleted while mirrors are parked.
func TestMirrorsMoveWithTheirRules(t *testing.T) {
	eachSeed(t, 200, func(t *testing.T, m *maker, raw []byte) {
		stored, _ := applyPlan(t, raw, m.some())
		author := tree(t, raw)
		edited := tree(t, stored)
		for range 1 + m.IntN(3) {
			m.edit(author, edited)
		}
		// A write that has lost the annotation finds its entries in the old version.
		var previous *Route
		if m.oneIn(3) {
			previous = decode(t, stored, nil)
			delete(objectOf(at(edited, "metadata", "annotations")), ParkedAnnotation)
			dropEmpty(objectOf(edited["metadata"]), "annotations")
		}
		park := m.some()
		want, _ := applyPlan(t, encode(t, author), park)
		got, _ := applyPlanAfter(t, encode(t, edited), previous, park)
		sameJSON(t, want, got, "mirrors must move with their rules")
		back, _ := applyPlan(t, got, none)
		sameJSON(t, encode(t, author), back, "the author's route must come back")
	})
}

// edit makes the same change to the list of rules of each route.
func (m *maker) edit(routes ...fields) {
	what, x, y, fresh := m.IntN(4), m.Uint64(), m.Uint64(), fields{"name": fmt.Sprint("rule-", m.IntN(99))}
	for _, r := range routes {
		rules, key := rulesOf(r)
		n := uint64(len(rules))
		switch {
		case what == 0 || n == 0: // insert
			rules = slices.Insert(slices.Clone(rules), int(x%(n+1)), clone(fresh))
		case what == 1: // swap
			i, j := x%n, y%n
			rules[i], rules[j] = rules[j], rules[i]
		case what == 2: // copy
			rules = slices.Insert(slices.Clone(rules), int(x%(n+1)), clone(rules[y%n]))
		default: // delete
			rules = slices.Delete(slices.Clone(rules), int(x%n), int(x%n)+1)
		}
		objectOf(r["spec"])[key] = rules
	}
}

// Lists at and above their limits: a mirror that has no room stays, no list grows over its limit, no mirror
// is lost, and every mirror can be restored.
func TestFullLists(t *testing.T) {
	eachSeed(t, 100, func(t *testing.T, m *maker, _ []byte) {
		m.size = 16
		raw := encode(t, m.crowd(m.route()))
		stored := raw
		for range 4 {
			before := stored
			stored, _ = applyPlan(t, stored, m.some())
			same(t, declared(t, tree(t, raw)), declared(t, tree(t, stored)), "no mirror may be lost")
			if m.kind != VirtualService {
				was, is := lengths(tree(t, before)), lengths(tree(t, stored))
				for way, n := range is {
					require.LessOrEqual(t, n, max(16, was[way]), "%s must not grow\nbefore: %s\nafter:  %s", way, before, stored)
				}
			}
		}
		back, a := applyPlan(t, stored, none)
		require.Empty(t, a.Misfits)
		sameJSON(t, raw, back, "the author's route must come back")
	})
}

// crowd fills lists of headers to remove up to their limit, or nearly so.
func (m *maker) crowd(r fields) fields {
	rules, _ := rulesOf(r)
	for _, rule := range rules {
		for _, f := range list(at(rule, "filters")) {
			modifier := objectOf(at(f, "requestHeaderModifier"))
			if modifier == nil || m.oneIn(3) {
				continue
			}
			var names []any
			for i := range 12 + m.IntN(5) {
				names = append(names, fmt.Sprint("x-", i))
			}
			modifier["remove"] = names
		}
		for m.oneIn(2) && m.kind != VirtualService && len(list(at(rule, "filters"))) < 16 {
			objectOf(rule)["filters"] = append(list(at(rule, "filters")), m.mirrorFilter())
		}
		for m.kind != VirtualService && len(list(at(rule, "filters"))) == 15 {
			objectOf(rule)["filters"] = append(list(at(rule, "filters")), fields{"type": "ExtensionRef"})
		}
	}
	return r
}

// lengths returns the length of every list that has a limit.
func lengths(route fields) map[string]int {
	out := map[string]int{}
	rules, _ := rulesOf(route)
	for i, r := range rules {
		for j, h := range append([]any{r}, list(at(r, "backendRefs"))...) {
			out[fmt.Sprintf("rule %d, filters %d", i, j)] = len(list(at(h, "filters")))
			for _, f := range list(at(h, "filters")) {
				if n := len(list(at(f, "requestHeaderModifier", "remove"))); n > 0 {
					out[fmt.Sprintf("rule %d, removals %d", i, j)] = n
				}
			}
		}
	}
	return out
}

// The author may change everything else around parked mirrors. The place where such a mirror then belongs is
// ambiguous, but it stays in its rule and no mirror is lost.
func TestEditsAroundParkedMirrors(t *testing.T) {
	eachSeed(t, 200, func(t *testing.T, m *maker, raw []byte) {
		stored, _ := applyPlan(t, raw, m.some())
		edited := tree(t, stored)
		rules, _ := rulesOf(edited)
		for range 3 {
			if len(rules) > 0 {
				m.stir(objectOf(rules[m.IntN(len(rules))]))
			}
		}
		out := encode(t, edited)
		for range 3 {
			before := declared(t, tree(t, out))
			out, _ = applyPlan(t, out, m.some())
			same(t, before, declared(t, tree(t, out)), "no mirror may be lost")
		}
	})
}

// stir changes a rule, but none of its mirrors and placeholders.
func (m *maker) stir(rule fields) {
	shuffle := func(list []any) { m.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) }
	request := objectOf(at(rule, "headers", "request"))
	for _, f := range list(rule["filters"]) {
		if modifier := objectOf(at(f, "requestHeaderModifier")); modifier != nil {
			request = modifier
		}
	}
	switch m.IntN(7) {
	case 0:
		shuffle(list(rule["filters"]))
	case 1:
		shuffle(list(rule["backendRefs"]))
	case 2:
		shuffle(list(rule["mirrors"]))
	case 3:
		shuffle(list(request["remove"]))
	case 4:
		if request != nil {
			request["remove"] = append([]any{"x-new"}, list(request["remove"])...)
		}
	case 5:
		if request != nil {
			request["set"] = []any{}
		}
	case 6:
		if m.kind != VirtualService {
			i := m.IntN(1 + len(list(rule["filters"])))
			rule["filters"] = slices.Insert(slices.Clone(list(rule["filters"])), i, any(fields{"type": "ExtensionRef"}))
		}
	}
}
