package route

// VirtualServices (networking.istio.io): a rule has either one mirror with a percentage beside it (the
// stanza), or a list of mirrors.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type istioRule struct {
	Name  json.RawMessage `json:"name"`
	Match []struct {
		Method struct {
			Exact string `json:"exact"`
		} `json:"method"`
		Authority struct {
			Exact  string `json:"exact"`
			Prefix string `json:"prefix"`
		} `json:"authority"`
	} `json:"match"`
	Route []*struct {
		Destination json.RawMessage `json:"destination"`
		Headers     json.RawMessage `json:"headers"`
		Weight      json.RawMessage `json:"weight"`
	} `json:"route"`
	Delegate         json.RawMessage   `json:"delegate"`
	Redirect         json.RawMessage   `json:"redirect"`
	DirectResponse   json.RawMessage   `json:"directResponse"`
	Headers          json.RawMessage   `json:"headers"`
	Mirror           json.RawMessage   `json:"mirror"`
	Mirrors          []json.RawMessage `json:"mirrors"`
	MirrorPercentage json.RawMessage   `json:"mirrorPercentage"`
	MirrorPercent    json.RawMessage   `json:"mirrorPercent"`
	MirrorPercentOld json.RawMessage   `json:"mirror_percent"`
}

// istioRules are the rules of a VirtualService that can hold a mirror or a placeholder, tell copies apart or
// delegate. The others are not kept: a rule of two bytes takes hundreds in memory.
type istioRules []*numberedRule

// numberedRule is a rule with its place in the spec.
type numberedRule struct {
	istioRule
	index int
}

// UnmarshalJSONFrom reads a list of rules.
func (rules *istioRules) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '[' {
		var list []istioRule // null, or the error of another type
		return jsonv2.UnmarshalDecode(dec, &list)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	*rules = nil
	var other istioRule
	for index := 0; dec.PeekKind() != ']'; index++ {
		if dec.PeekKind() != '{' {
			if err := jsonv2.UnmarshalDecode(dec, &other); err != nil { // null, or the error of another type
				return err
			}
			continue
		}
		raw, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if !MayMirror(raw) && !bytes.Contains(raw, []byte(shadowSuffix)) && !bytes.Contains(raw, []byte("delegate")) {
			continue
		}
		if len(*rules) == maxMirrors {
			return &TooLongError{"spec.http", maxMirrors, "rules that may hold a mirror"}
		}
		rule := &numberedRule{index: index}
		*rules = append(*rules, rule)
		if err := reread(raw, &rule.istioRule); err != nil {
			if mismatch, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
				mismatch.JSONPointer = dec.StackPointer() + mismatch.JSONPointer
			}
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// maxHeaders bounds the headers of a rule that are read, roughly.
const maxHeaders = 1024

// setHeaders returns the request headers that a level of headers sets or adds, by their names in lower case.
func setHeaders(raw json.RawMessage) map[string]string {
	var headers struct {
		Request struct {
			Set map[string]string `json:"set"`
			Add map[string]string `json:"add"`
		} `json:"request"`
	}
	if isNull(raw) || bytes.Count(raw, []byte(":")) > maxHeaders || reread(raw, &headers) != nil { // the schema refuses what cannot be read
		return nil
	}
	values := map[string]string{}
	for _, level := range []map[string]string{headers.Request.Add, headers.Request.Set} {
		for name, value := range level {
			values[strings.ToLower(name)] = value
		}
	}
	return values
}

// tellsCopies reports whether a header that the rule sets has another value in one of its destinations, as
// ModelMesh tells models apart that are served at one host.
func (r *istioRule) tellsCopies() bool {
	ofRule := setHeaders(r.Headers)
	if len(ofRule) == 0 {
		return false
	}
	for _, to := range r.Route {
		if to == nil {
			continue
		}
		for name, value := range setHeaders(to.Headers) {
			if other, ok := ofRule[name]; ok && other != value {
				return true
			}
		}
	}
	return false
}

type istioDestination struct {
	Host   string `json:"host"`
	Subset string `json:"subset"`
	// Port is nil where the author named none; one without a number is refused.
	Port *struct {
		Number int32 `json:"number"`
	} `json:"port"`
}

type istioMirror struct {
	Destination *istioDestination `json:"destination"`
	Percentage  json.RawMessage   `json:"percentage"`
}

// stanza returns the fields of the rule's single mirror that are set.
func (r *istioRule) stanza() map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	for i, raw := range []json.RawMessage{r.Mirror, r.MirrorPercentage, r.MirrorPercent, r.MirrorPercentOld} {
		if !isNull(raw) {
			fields[stanzaKeys[i]] = raw
		}
	}
	return fields
}

// istioLayout holds a rule's mirrors as they stand in the stored spec.
type istioLayout struct {
	placeholders placeholders
	// routes are the lists of headers of the rule's route entries, which hold placeholders in a delegate.
	routes []placeholders
	// delegates is set for a root's rule that delegates, bare for a delegate's rule without a route.
	delegates, bare bool
	// stanza holds the stanza's fields in the spec.
	stanza map[string]json.RawMessage
	list   mirrorList // the field mirrors
}

func (rt *Route) readVirtualService(s *spec, domain string) {
	rt.readIstioAttachment(s, domain)
	ofDelegate := rt.IsDelegate()
	rt.Rules = slices.Grow(rt.Rules, len(s.HTTP))
	for i := range s.HTTP {
		in := s.HTTP[i]
		rule := rt.readIstioRule(&in.istioRule, "spec.http["+strconv.Itoa(in.index)+"]", domain, ofDelegate)
		rule.index = in.index
		rt.Rules = append(rt.Rules, rule)
	}
}

// readIstioRule reads one rule. ofDelegate is set for a VirtualService without hosts.
func (rt *Route) readIstioRule(in *istioRule, path, domain string, ofDelegate bool) Rule {
	rule := Rule{Path: path, BothForms: !isNull(in.Mirror) && len(in.Mirrors) > 0, Delegates: !isNull(in.Delegate)}
	rule.Name, rule.AnyMethod = textOf(in.Name), len(in.Match) == 0
	for _, m := range in.Match {
		rule.addMethod(m.Method.Exact)
	}
	rule.Backends = slices.Grow(rule.Backends, len(in.Route))
	for _, r := range in.Route {
		var dst istioDestination
		var weight json.RawMessage
		if r == nil || reread(r.Destination, &dst) != nil {
			dst = istioDestination{} // a backend that cannot be read hides no mirror
		} else {
			weight = r.Weight
		}
		t, _ := dst.target(rt.Namespace, domain)
		rule.Backends = append(rule.Backends, Backend{t, receives(weight, false, len(in.Route) == 1)})
	}
	rule.TellsCopies = in.tellsCopies()
	if !isNull(in.Redirect) {
		rule.Answers = "redirect"
	} else if !isNull(in.DirectResponse) {
		rule.Answers = "directResponse"
	}
	l := &istioLayout{stanza: in.stanza(), list: mirrorList{stored: in.Mirrors}, delegates: !isNull(in.Delegate)}
	rule.layout = l
	l.placeholders.readHeaders(in.Headers)
	silencers := l.readRoutes(in)
	l.bare = ofDelegate && len(in.Route) == 0
	rule.silences = ofDelegate && !l.bare

	var inline []Mirror
	if !isNull(in.Mirror) {
		inline = append(inline, stanzaMirror(l.stanza, rt.Namespace, domain))
	}
	for i, raw := range in.Mirrors {
		m := elementMirror(raw, rt.Namespace, domain)
		m.position.index = i
		inline = append(inline, m)
	}
	l.readLimited(inline, rt.Namespace, domain)
	rule.Replaced = l.silence(inline, silencers, rt.Namespace, domain)
	groups := inlineMirrors{}
	for i := range inline {
		if len(l.placeholders.names) > 0 {
			groups.add(inline[i].group(), inline[i].Percentage)
		}
	}
	parked := rt.link(&rule, &l.placeholders, groups, func(e entry) Mirror { return l.parked(e, rt.Namespace, domain) })
	l.appendMirrors(&rule, inline, parked)
	if isNull(in.Mirror) && !slices.ContainsFunc(rule.Mirrors, func(m Mirror) bool { return l.delegates && m.position.single }) {
		rule.LoosePercent = loosePercent(l.stanza, path)
	}
	return rule
}

// readLimited gives the inline mirrors to which a mark belongs the share that their author declared.
func (l *istioLayout) readLimited(inline []Mirror, namespace, domain string) {
	marks := slices.Clone(l.placeholders.marks)
	seen := map[limitMark]bool{} // each entry of route has the marks of a delegate's rule
	for i := range l.routes {
		for _, k := range l.routes[i].marks {
			k.keep = 0
			if !seen[k] {
				seen[k] = true
				marks = append(marks, k)
			}
		}
	}
	for i, k := range matchMarks(marks, inline) {
		d, position := k.text(&inline[i]), inline[i].position
		if position.single {
			inline[i] = stanzaMirror(d.stanza, namespace, domain)
		} else {
			inline[i] = elementMirror(d.text, namespace, domain)
		}
		inline[i].position, inline[i].limit, inline[i].stale = position, d.limit, d.stale
	}
}

// appendMirrors appends the rule's mirrors in declared order: the single ones, then the list with the parked
// ones at the indexes that they had.
func (l *istioLayout) appendMirrors(rule *Rule, inline, parked []Mirror) {
	single := func(m Mirror) bool { return m.position.single }
	for _, list := range [][]Mirror{inline, parked} {
		for _, m := range list {
			if single(m) {
				m.setStanzaPath(rule.Path)
				rule.Mirrors = append(rule.Mirrors, m)
			}
		}
	}
	inline, parked = slices.DeleteFunc(inline, single), slices.DeleteFunc(parked, single)
	slices.SortStableFunc(parked, func(a, b Mirror) int { return cmp.Compare(a.position.index, b.position.index) })
	stored := 0
	for index, m := range merge(inline, parked, func(m Mirror) int { return m.position.index }) {
		s := slot{stored: -1, mirror: len(rule.Mirrors)}
		if m.inSpec() {
			s.stored = stored
			stored++
		}
		l.list.order = append(l.list.order, s)
		m.position.index = index
		m.setElementPath(rule.Path + ".mirrors[" + strconv.Itoa(index) + "]")
		rule.Mirrors = append(rule.Mirrors, m)
	}
}

// readHeaders reads the remove list in the headers of a rule or of a route entry.
func (ph *placeholders) readHeaders(raw json.RawMessage) {
	if isNull(raw) {
		return
	}
	headers, ok := members(raw)
	ph.depth, ph.broken = 1, !ok
	request, has := headers["request"]
	ph.shared[1] = len(headers) > 1 || (len(headers) == 1 && !has)
	if !has {
		return
	}
	inner, ok := members(request)
	ph.depth, ph.broken = 2, ph.broken || !ok
	list, has := inner["remove"]
	ph.shared[2] = len(inner) > 1 || (len(inner) == 1 && !has)
	if has {
		ph.readNames(list)
	}
}

func (dst istioDestination) target(namespace, domain string) (t Target, isShort bool) {
	t, isShort = hostTarget(dst.Host, namespace, domain)
	t.Subset = short(dst.Subset, maxLabel)
	if dst.Port != nil {
		t.Port = dst.Port.Number
	}
	return t, isShort
}

// hostTarget resolves a host of a VirtualService as Istio does: a name without a dot is a Service in the
// route's namespace, and name.namespace.svc.DOMAIN a Service. isShort is set for hosts that look like the name
// of a Service and that Istio does not expand: name.namespace and name.namespace.svc. Istio compares hosts letter by
// letter, so one with a capital is no Service.
func hostTarget(host, namespace, domain string) (t Target, isShort bool) {
	host = short(host, maxIstioHost)
	if host == "" || strings.HasPrefix(host, "*") || host != strings.ToLower(host) {
		return Target{Kind: TargetHost, Name: host}, false
	}
	name, full := strings.CutSuffix(host, ".svc."+domain)
	if !full {
		name = strings.TrimSuffix(host, ".svc")
	}
	service, ns, dotted := strings.Cut(name, ".")
	switch {
	case !dotted && !full && name == host:
		return Target{Kind: TargetService, Namespace: namespace, Name: host}, false
	case !dotted || service == "" || ns == "" || strings.Contains(ns, "."):
		return Target{Kind: TargetHost, Name: host}, false
	case !full:
		return Target{Kind: TargetHost, Name: host}, true
	default:
		return Target{Kind: TargetService, Namespace: ns, Name: service}, false
	}
}

func stanzaMirror(stanza map[string]json.RawMessage, namespace, domain string) Mirror {
	m := Mirror{stanza: stanza, Percentage: stanzaPercentage(stanza), position: position{backend: onRule, single: true}}
	dst := new(istioDestination)
	if reread(stanza["mirror"], dst) != nil {
		dst = nil
	}
	m.pointAt(dst, namespace, domain)
	return m
}

func elementMirror(raw json.RawMessage, namespace, domain string) Mirror {
	m := Mirror{text: raw, position: position{backend: onRule}}
	var e istioMirror
	if reread(raw, &e) != nil {
		e.Destination = nil
	}
	if !isNull(e.Percentage) {
		m.Percentage.Fields = []PercentageField{istioPercent("percentage", e.Percentage)}
	}
	m.pointAt(e.Destination, namespace, domain)
	return m
}

// pointAt sets the target of a mirror whose percentage is known. nil is a destination that cannot be read; the
// mirror then has no host, and is judged as such.
func (m *Mirror) pointAt(dst *istioDestination, namespace, domain string) {
	m.fault = istioFault(dst, m.Percentage)
	if dst == nil {
		dst = &istioDestination{}
	}
	m.Host = short(dst.Host, maxIstioHost)
	m.Target, m.ShortHost = dst.target(namespace, domain)
}

// parked reads an entry. The percentages of a mirror in a rule that delegates stand in the rule.
func (l *istioLayout) parked(e entry, namespace, domain string) Mirror {
	var m Mirror
	if e.Stanza != nil {
		stanza := e.Stanza
		if l.delegates && len(l.stanza) > 0 && l.stanza["mirror"] == nil {
			stanza = maps.Clone(l.stanza)
			stanza["mirror"] = e.Stanza["mirror"]
		}
		m = stanzaMirror(stanza, namespace, domain)
	} else {
		m = elementMirror(e.Element, namespace, domain)
		m.position.index = e.At
	}
	m.Parked = true
	return m
}

func stanzaPercentage(stanza map[string]json.RawMessage) Percentage {
	var p Percentage
	if raw, ok := stanza["mirrorPercentage"]; ok {
		p.Fields = append(p.Fields, istioPercent("mirrorPercentage", raw))
	}
	for _, key := range []string{"mirrorPercent", "mirror_percent"} {
		if raw, ok := stanza[key]; ok {
			f := PercentageField{Name: key}
			f.readPercent(raw, true)
			p.Fields = append(p.Fields, f)
		}
	}
	return p
}

func loosePercent(stanza map[string]json.RawMessage, path string) *PercentageField {
	p := stanzaPercentage(stanza)
	if len(p.Fields) == 0 {
		return nil
	}
	f := p.Fields[0]
	f.Path = path + "." + f.Name
	return &f
}

func (m *Mirror) setStanzaPath(rule string) {
	m.Path, m.TargetPath, m.PortPath = rule+".mirror", rule+".mirror", rule+".mirror.port.number"
	for i := range m.Percentage.Fields {
		f := &m.Percentage.Fields[i]
		f.Path = rule + "." + f.Name
		if f.Name == "mirrorPercentage" {
			f.Path += ".value"
		}
	}
}

func (m *Mirror) setElementPath(path string) {
	m.Path, m.TargetPath, m.PortPath = path, path+".destination", path+".destination.port.number"
	for i := range m.Percentage.Fields {
		m.Percentage.Fields[i].Path = path + ".percentage.value"
	}
}
