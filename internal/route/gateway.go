package route

// HTTPRoutes and GRPCRoutes: mirrors are filters of type RequestMirror, of a
// rule or of one of its backendRefs.

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

type gatewayRule struct {
	Matches []struct {
		Method json.RawMessage `json:"method"`
	} `json:"matches"`
	Filters     []json.RawMessage `json:"filters"`
	BackendRefs []struct {
		backendRef
		Filters []json.RawMessage `json:"filters"`
	} `json:"backendRefs"`
}

type backendRef struct {
	Group     *string `json:"group"`
	Kind      *string `json:"kind"`
	Namespace *string `json:"namespace"`
	Name      string  `json:"name"`
	Port      *int32  `json:"port"`
}

func (r backendRef) target(namespace string) Target {
	t := Target{Kind: TargetService, Namespace: namespace, Name: r.Name}
	if r.Group != nil {
		t.Group = *r.Group
	}
	if r.Kind != nil {
		t.Kind = *r.Kind
	}
	if r.Namespace != nil && *r.Namespace != "" {
		t.Namespace = *r.Namespace
	}
	if r.Port != nil {
		t.Port = *r.Port
	}
	return t
}

// filterHead is what of a filter matters here.
type filterHead struct {
	Type          string `json:"type"`
	RequestMirror *struct {
		BackendRef backendRef      `json:"backendRef"`
		Percent    json.RawMessage `json:"percent"`
		Fraction   json.RawMessage `json:"fraction"`
	} `json:"requestMirror"`
	RequestHeaderModifier json.RawMessage `json:"requestHeaderModifier"`
}

func (f filterHead) isMirror() bool { return f.Type == "RequestMirror" && f.RequestMirror != nil }

// gatewayLayout is how a rule's filters stand in the stored spec.
type gatewayLayout struct {
	marks    marks
	modifier int // index of the RequestHeaderModifier filter, -1 when there is none
	own      filterList
	backends []filterList
	places   []backendPlace // of the backends
}

// filterList is one list of filters, or of a VirtualService's mirrors. order is
// the list with every mirror in its place.
type filterList struct {
	stored []json.RawMessage
	order  []slot
}

// slot is an element of a list's order: element stored of the list as it stands
// and the rule's mirror, -1 for none.
type slot struct{ stored, mirror int }

// merge puts parked mirrors between those that stand, each at the position that
// it had or at the end, and keeps the order of both.
func merge[T any](standing, parked []T, at func(T) int) []T {
	out := make([]T, 0, len(standing)+len(parked))
	for _, p := range parked {
		n := min(max(at(p)-len(out), 0), len(standing))
		out, standing = append(append(out, standing[:n]...), p), standing[n:]
	}
	return append(out, standing...)
}

// ours tells whether the modifier filter is there for placeholders only.
func (l *gatewayLayout) ours() bool {
	return l.modifier >= 0 && len(l.marks.linked) > 0 && l.marks.vacant() <= 2 && l.marks.keep < 2
}

func (d *Route) readGateway(s *spec) {
	for _, ref := range s.ParentRefs {
		if ref.Kind == nil {
			continue // a Gateway
		}
		b := backendRef{Group: ref.Group, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
		if t := b.target(d.Namespace); t.IsService() {
			d.Serves = append(d.Serves, t.Service())
		}
	}
	for i := range s.Rules {
		d.Rules = append(d.Rules, d.readGatewayRule(&s.Rules[i], "spec.rules["+strconv.Itoa(i)+"]"))
	}
}

func (d *Route) readGatewayRule(in *gatewayRule, path string) Rule {
	rule := Rule{Path: path}
	if d.Kind == HTTPRoute {
		for _, m := range in.Matches {
			var method string
			if unmarshal(m.Method, &method) == nil && method != "" {
				rule.Methods = append(rule.Methods, method)
			}
		}
	}
	lay := &gatewayLayout{modifier: -1, own: filterList{stored: in.Filters}}
	rule.layout = lay
	lists := [][]json.RawMessage{in.Filters}
	for _, b := range in.BackendRefs {
		rule.Backends = append(rule.Backends, b.target(d.Namespace))
		lay.backends = append(lay.backends, filterList{stored: b.Filters})
		lists = append(lists, b.Filters)
	}
	if !slices.ContainsFunc(lists, func(list []json.RawMessage) bool { return len(list) > 0 }) {
		return rule // most rules have neither a mirror nor a mark
	}
	lay.places = placesOf(rule.Backends)

	heads := make([][]filterHead, len(lists))
	for i, list := range lists {
		heads[i] = make([]filterHead, len(list))
		for j, raw := range list {
			if unmarshal(raw, &heads[i][j]) != nil {
				heads[i][j] = filterHead{} // a filter that cannot be read is not ours
			}
		}
	}
	lay.readMarks(heads[0], in.Filters)
	parked := d.linkGateway(&rule, lay, heads)
	for i := range lists {
		lay.lay(&rule, i-1, heads[i], parked[i-1], d.Namespace)
	}
	rule.Mirrors = append(rule.Mirrors, parked[backendGone]...)
	return rule
}

// readMarks finds the rule's modifier filter and reads its remove list.
func (l *gatewayLayout) readMarks(heads []filterHead, raws []json.RawMessage) {
	if l.own.stored != nil {
		l.marks.depth = 1
	}
	others := 0
	for i, head := range heads {
		if head.Type != "RequestHeaderModifier" || l.modifier >= 0 {
			others++
			continue
		}
		l.modifier = i
		l.marks.depth = 2
		outer, _ := members(raws[i])
		inner, ok := members(head.RequestHeaderModifier)
		l.marks.broken = !ok
		list, has := inner["remove"]
		if has {
			l.marks.depth = 3
			l.marks.readItems(list)
		}
		l.marks.busy[2] = len(outer) > 2 || len(inner) > 1 || (len(inner) == 1 && !has)
	}
	l.marks.busy[1] = others > 0
}

// linkGateway returns the rule's parked mirrors by the place that they return
// to: a backend's index, onRule or backendGone.
func (d *Route) linkGateway(rule *Rule, lay *gatewayLayout, heads [][]filterHead) map[int][]Mirror {
	inline := map[group]bool{}
	for i, list := range heads {
		for _, h := range list {
			if h.isMirror() {
				inline[group{target: h.RequestMirror.BackendRef.target(d.Namespace), backend: i - 1}] = true
			}
		}
	}
	index := map[backendPlace]int{}
	for i, place := range lay.places {
		index[place] = i
	}
	mark, first := 0, math.MaxInt
	read := func(e entry) Mirror {
		mark = max(mark, e.Mark)
		if e.Backend == nil {
			first = min(first, e.At)
		}
		return d.parkedGateway(e, rule.Path, index)
	}
	places := map[int][]Mirror{}
	for _, m := range d.link(rule, &lay.marks, inline, read) {
		places[m.place.backend] = append(places[m.place.backend], m)
	}
	if len(places[onRule]) > 0 {
		lay.marks.busy[1] = true
		switch {
		case mark > 0:
			lay.follow(places[onRule], mark-1)
		case lay.ours():
			lay.follow(places[onRule], first)
		}
	}
	return places
}

// follow moves the rule's own parked mirrors along with the filter that carries
// their placeholders and stood at a position: what somebody puts in front of
// that filter must not come between it and its mirrors.
func (l *gatewayLayout) follow(parked []Mirror, stood int) {
	now := l.modifier
	for i := range parked {
		if parked[i].place.at < stood {
			now++
		}
	}
	for i := range parked {
		at := &parked[i].place.at
		*at = max(0, *at+now-stood)
	}
}

// parkedGateway reads an entry. index holds where the rule's backendRefs are.
func (d *Route) parkedGateway(e entry, path string, index map[backendPlace]int) Mirror {
	var head filterHead
	_ = unmarshal(e.Filter, &head) // checked when the entry was read
	m := gatewayMirror(head, e.Filter, d.Namespace)
	m.Parked = true
	m.place = place{at: e.At, backend: onRule, under: e.Backend}
	if e.Backend != nil {
		m.place.backend = e.Backend.find(index)
		if m.place.backend == backendGone {
			m.setGatewayPath(path + ".backendRefs[" + e.Backend.Name + "].filters[" + strconv.Itoa(e.At) + "].requestMirror")
		}
	}
	return m
}

func gatewayMirror(head filterHead, raw json.RawMessage, namespace string) Mirror {
	return Mirror{
		Target:     head.RequestMirror.BackendRef.target(namespace),
		Percentage: gatewayPercentage(head.RequestMirror.Percent, head.RequestMirror.Fraction),
		text:       raw,
	}
}

// lay works out the order of one list of filters and appends its mirrors to the
// rule: those in the spec, and the parked ones in the places that they had.
func (l *gatewayLayout) lay(rule *Rule, backend int, heads []filterHead, parked []Mirror, namespace string) {
	list, path := &l.own, rule.Path
	if backend >= 0 {
		list, path = &l.backends[backend], rule.Path+".backendRefs["+strconv.Itoa(backend)+"]"
	}
	ours := backend == onRule && l.ours()
	var standing, back []slot
	for i := range heads {
		if !ours || i != l.modifier {
			standing = append(standing, slot{stored: i, mirror: -1})
		}
	}
	slices.SortStableFunc(parked, func(a, b Mirror) int { return cmp.Compare(a.place.at, b.place.at) })
	for i := range parked {
		back = append(back, slot{stored: -1, mirror: i})
	}
	list.order = merge(standing, back, func(s slot) int { return parked[s.mirror].place.at })
	for at := range list.order {
		s := &list.order[at]
		var m Mirror
		switch {
		case s.stored < 0:
			m = parked[s.mirror]
		case heads[s.stored].isMirror():
			m = gatewayMirror(heads[s.stored], list.stored[s.stored], namespace)
		default:
			continue
		}
		s.mirror = len(rule.Mirrors)
		m.place.at, m.place.backend = at, backend
		if backend >= 0 {
			m.place.under = &l.places[backend]
		}
		m.setGatewayPath(path + ".filters[" + strconv.Itoa(at) + "].requestMirror")
		rule.Mirrors = append(rule.Mirrors, m)
	}
}

func (m *Mirror) setGatewayPath(path string) {
	m.PortPath = path + ".backendRef.port"
	m.Path, m.TargetPath = m.PortPath[:len(path)], m.PortPath[:len(path+".backendRef")]
	for i := range m.Percentage.Fields {
		m.Percentage.Fields[i].Path = path + "." + m.Percentage.Fields[i].Name
	}
}
