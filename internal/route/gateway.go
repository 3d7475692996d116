package route

// HTTPRoutes and GRPCRoutes: mirrors are filters of type RequestMirror, of a rule or of one of its
// backendRefs.

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"k8s.io/utils/ptr"
)

type gatewayRule struct {
	Name    json.RawMessage `json:"name"`
	Matches []struct {
		Method json.RawMessage `json:"method"`
	} `json:"matches"`
	Filters     []json.RawMessage `json:"filters"`
	BackendRefs []struct {
		backendRef
		Weight  json.RawMessage   `json:"weight"`
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
	return Target{
		Group:     short(ptr.Deref(r.Group, ""), maxName),
		Kind:      short(ptr.Deref(r.Kind, TargetService), maxKind),
		Namespace: cmp.Or(short(ptr.Deref(r.Namespace, ""), maxName), namespace),
		Name:      short(r.Name, 4*maxName), // of as many characters
		Port:      ptr.Deref(r.Port, 0),
	}
}

// filterHead holds the fields of a filter that matter for mirrors and placeholders.
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

// gatewayLayout holds a rule's filters as they stand in the stored spec.
type gatewayLayout struct {
	placeholders placeholders
	modifier     int // index of the first RequestHeaderModifier filter, -1 when there is none
	modifiers    int // number of them; the CRD allows one
	own          mirrorList
	backends     []mirrorList
	backendIDs   []backendID
}

// ownsModifier reports whether the modifier filter holds placeholders and nothing else.
func (l *gatewayLayout) ownsModifier() bool {
	return l.modifier >= 0 && len(l.placeholders.linked) > 0 && l.placeholders.outermostOwn() <= 2 && l.placeholders.keep < 2
}

// usersModifier reports whether the rule has a modifier filter of the user's.
func (l *gatewayLayout) usersModifier() bool { return l.modifier >= 0 && !l.ownsModifier() }

func (rt *Route) readGateway(s *spec) {
	rt.readParents(s)
	rt.Rules = slices.Grow(rt.Rules, len(s.Rules))
	for i := range s.Rules {
		rule := rt.readGatewayRule(&s.Rules[i], "spec.rules["+strconv.Itoa(i)+"]")
		rule.index = i
		rt.Rules = append(rt.Rules, rule)
	}
}

func (rt *Route) readGatewayRule(in *gatewayRule, path string) Rule {
	rule := Rule{Path: path, Name: textOf(in.Name), AnyMethod: len(in.Matches) == 0}
	if rt.Kind == HTTPRoute {
		for _, m := range in.Matches {
			rule.addMethod(textOf(m.Method))
		}
	}
	l := &gatewayLayout{modifier: -1, own: mirrorList{stored: in.Filters}}
	rule.layout = l
	lists := append(make([][]json.RawMessage, 0, 1+len(in.BackendRefs)), in.Filters)
	rule.Backends, l.backends = slices.Grow(rule.Backends, len(in.BackendRefs)), slices.Grow(l.backends, len(in.BackendRefs))
	for _, b := range in.BackendRefs {
		rule.Backends = append(rule.Backends, Backend{b.target(rt.Namespace), receives(b.Weight, true, false)})
		l.backends = append(l.backends, mirrorList{stored: b.Filters})
		lists = append(lists, b.Filters)
	}
	if !slices.ContainsFunc(lists, func(list []json.RawMessage) bool { return len(list) > 0 }) {
		return rule // most rules have neither a mirror nor a placeholder
	}
	l.backendIDs = backendIDs(rule.Backends)

	heads := make([][]filterHead, len(lists))
	for i, list := range lists {
		heads[i] = make([]filterHead, len(list))
		for j, raw := range list {
			if reread(raw, &heads[i][j]) != nil {
				heads[i][j] = filterHead{} // a filter that cannot be read holds neither
			}
		}
	}
	l.readPlaceholders(heads[0], in.Filters)
	l.readLimited(heads, lists, rt.Namespace)
	parked := rt.linkGateway(&rule, l, heads)
	for i := range lists {
		l.appendMirrors(&rule, i-1, heads[i], parked[i-1], rt.Namespace)
	}
	rule.Mirrors = append(rule.Mirrors, parked[backendGone]...)
	return rule
}

// addMethod notes the method of one of the rule's matches, "" for one that lets every method in.
func (r *Rule) addMethod(method string) {
	if method == "" {
		r.AnyMethod = true
		return
	}
	r.Methods = append(r.Methods, method)
}

// textOf returns a string, "" for anything else.
func textOf(raw json.RawMessage) (text string) {
	if isNull(raw) || reread(raw, &text) != nil {
		return ""
	}
	return text
}

// readPlaceholders finds the rule's modifier filter and reads its remove list.
func (l *gatewayLayout) readPlaceholders(heads []filterHead, raws []json.RawMessage) {
	ph := &l.placeholders
	if l.own.stored != nil {
		ph.depth = 1
	}
	others := 0
	for i, head := range heads {
		if head.Type == "RequestHeaderModifier" {
			l.modifiers++
		}
		if head.Type != "RequestHeaderModifier" || l.modifier >= 0 {
			others++
			continue
		}
		l.modifier = i
		ph.depth = 2
		outer, _ := members(raws[i])
		inner, ok := members(head.RequestHeaderModifier)
		ph.broken = !ok
		list, has := inner["remove"]
		if has {
			ph.readNames(list)
		}
		ph.shared[2] = len(outer) > 2 || len(inner) > 1 || (len(inner) == 1 && !has)
	}
	ph.shared[1] = others > 0
}

// readLimited finds the mirrors to which a mark belongs, and gives their heads the share that their author declared.
func (l *gatewayLayout) readLimited(heads [][]filterHead, lists [][]json.RawMessage, namespace string) {
	if len(l.placeholders.marks) == 0 {
		return
	}
	var mirrors []Mirror
	var at [][2]int
	for i, list := range heads {
		for j, h := range list {
			if h.isMirror() {
				mirrors, at = append(mirrors, gatewayMirror(h, lists[i][j], namespace)), append(at, [2]int{i, j})
			}
		}
	}
	for n, k := range matchMarks(l.placeholders.marks, mirrors) {
		i, j := at[n][0], at[n][1]
		list := &l.own
		if i > 0 {
			list = &l.backends[i-1]
		}
		if list.declared == nil {
			list.declared = map[int]declaredMirror{}
		}
		d := k.text(&mirrors[n])
		heads[i][j] = filterHead{}
		_ = reread(d.text, &heads[i][j]) // it was read before with another share
		list.declared[j] = d
	}
}

// linkGateway returns the rule's parked mirrors by the list that they return to: a backend's index, onRule or
// backendGone.
func (rt *Route) linkGateway(rule *Rule, l *gatewayLayout, heads [][]filterHead) map[int][]Mirror {
	inline := inlineMirrors{}
	for i, list := range heads {
		for _, h := range list {
			if h.isMirror() {
				g := group{target: h.RequestMirror.BackendRef.target(rt.Namespace), backend: i - 1}
				inline.add(g, gatewayPercentage(h.RequestMirror.Percent, h.RequestMirror.Fraction))
			}
		}
	}
	index := newBackendIndex(l.backendIDs)
	modifier, first := 0, math.MaxInt
	read := func(e entry) Mirror {
		modifier = max(modifier, e.Modifier)
		if e.Backend == nil {
			first = min(first, e.At)
		}
		return rt.parkedGateway(e, rule.Path, index)
	}
	lists := map[int][]Mirror{}
	for _, m := range rt.link(rule, &l.placeholders, inline, read) {
		lists[m.position.backend] = append(lists[m.position.backend], m)
	}
	if len(lists[onRule]) > 0 {
		l.placeholders.shared[1] = true
		switch {
		case modifier > 0:
			l.follow(lists[onRule], modifier-1)
		case l.ownsModifier():
			l.follow(lists[onRule], first)
		}
	}
	return lists
}

// follow moves the rule's own parked mirrors along with the modifier filter that holds their placeholders and
// had the index before: a filter that somebody inserted in front of it must not come between it and its
// mirrors.
func (l *gatewayLayout) follow(parked []Mirror, before int) {
	now := l.modifier
	for i := range parked {
		if parked[i].position.index < before {
			now++
		}
	}
	for i := range parked {
		index := &parked[i].position.index
		*index = max(0, *index+now-before)
	}
}

// parkedGateway reads an entry. index finds the rule's backendRefs.
func (rt *Route) parkedGateway(e entry, path string, index backendIndex) Mirror {
	var head filterHead
	_ = reread(e.Filter, &head) // checked when the entry was read
	m := gatewayMirror(head, e.Filter, rt.Namespace)
	m.Parked = true
	m.position = position{index: e.At, backend: onRule, ref: e.Backend}
	if e.Backend != nil {
		m.position.backend = index.find(*e.Backend)
		if m.position.backend == backendGone {
			m.setGatewayPath(path + ".backendRefs[" + e.Backend.Name + "].filters[" + strconv.Itoa(e.At) + "].requestMirror")
		}
	}
	return m
}

func gatewayMirror(head filterHead, raw json.RawMessage, namespace string) Mirror {
	m := Mirror{
		Target:     head.RequestMirror.BackendRef.target(namespace),
		Percentage: gatewayPercentage(head.RequestMirror.Percent, head.RequestMirror.Fraction),
		text:       raw,
		filter:     true,
	}
	m.fault = gatewayFault(head.RequestMirror.BackendRef, m.Percentage, raw)
	return m
}

// appendMirrors works out the order of one list of filters and appends its mirrors to the rule: the inline
// ones, and the parked ones at the indexes that they had.
func (l *gatewayLayout) appendMirrors(rule *Rule, backend int, heads []filterHead, parked []Mirror, namespace string) {
	list, path := &l.own, rule.Path
	if backend >= 0 {
		list, path = &l.backends[backend], rule.Path+".backendRefs["+strconv.Itoa(backend)+"]"
	}
	skipModifier := backend == onRule && l.ownsModifier()
	var inline, back []slot
	for i := range heads {
		if !skipModifier || i != l.modifier {
			inline = append(inline, slot{stored: i, mirror: -1})
		}
	}
	slices.SortStableFunc(parked, func(a, b Mirror) int { return cmp.Compare(a.position.index, b.position.index) })
	for i := range parked {
		back = append(back, slot{stored: -1, mirror: i})
	}
	list.order = merge(inline, back, func(s slot) int { return parked[s.mirror].position.index })
	for index := range list.order {
		s := &list.order[index]
		var m Mirror
		switch {
		case s.stored < 0:
			m = parked[s.mirror]
		case heads[s.stored].isMirror():
			m = gatewayMirror(heads[s.stored], list.stored[s.stored], namespace)
			if d, ok := list.declared[s.stored]; ok {
				m = gatewayMirror(heads[s.stored], d.text, namespace)
				m.limit, m.stale = d.limit, d.stale
			}
		default:
			continue
		}
		s.mirror = len(rule.Mirrors)
		m.position.index, m.position.backend = index, backend
		if backend >= 0 {
			m.position.ref = &l.backendIDs[backend]
		}
		m.setGatewayPath(path + ".filters[" + strconv.Itoa(index) + "].requestMirror")
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
