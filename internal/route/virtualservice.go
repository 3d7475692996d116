package route

// VirtualServices (networking.istio.io): a rule has either one mirror with a
// percentage beside it (the stanza), or a list of mirrors.

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

type istioRule struct {
	Match []struct {
		Method struct {
			Exact string `json:"exact"`
		} `json:"method"`
	} `json:"match"`
	Route []struct {
		Destination json.RawMessage `json:"destination"`
	} `json:"route"`
	Redirect         json.RawMessage   `json:"redirect"`
	DirectResponse   json.RawMessage   `json:"directResponse"`
	Headers          json.RawMessage   `json:"headers"`
	Mirror           json.RawMessage   `json:"mirror"`
	Mirrors          []json.RawMessage `json:"mirrors"`
	MirrorPercentage json.RawMessage   `json:"mirrorPercentage"`
	MirrorPercent    json.RawMessage   `json:"mirrorPercent"`
	MirrorPercentOld json.RawMessage   `json:"mirror_percent"`
}

type istioDestination struct {
	Host   string `json:"host"`
	Subset string `json:"subset"`
	Port   struct {
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

// istioLayout is how a rule's mirrors stand in the stored spec.
type istioLayout struct {
	marks marks
	// stanza holds the stanza's fields in the spec.
	stanza map[string]json.RawMessage
	list   filterList // of mirrors
}

func (d *Route) readVirtualService(s *spec, domain string) {
	for _, host := range s.Hosts {
		if t, _ := hostTarget(host, d.Namespace, domain); t.IsService() {
			d.Serves = append(d.Serves, t.Service())
		}
	}
	for i := range s.HTTP {
		d.Rules = append(d.Rules, d.readIstioRule(&s.HTTP[i], "spec.http["+strconv.Itoa(i)+"]", domain))
	}
}

func (d *Route) readIstioRule(in *istioRule, path, domain string) Rule {
	rule := Rule{Path: path, BothForms: !isNull(in.Mirror) && len(in.Mirrors) > 0}
	for _, m := range in.Match {
		if m.Method.Exact != "" {
			rule.Methods = append(rule.Methods, m.Method.Exact)
		}
	}
	for _, r := range in.Route {
		var dst istioDestination
		if unmarshal(r.Destination, &dst) != nil {
			dst = istioDestination{} // a backend that cannot be read hides no mirror
		}
		t, _ := dst.target(d.Namespace, domain)
		rule.Backends = append(rule.Backends, t)
	}
	if !isNull(in.Redirect) {
		rule.Answers = "redirect"
	} else if !isNull(in.DirectResponse) {
		rule.Answers = "directResponse"
	}
	lay := &istioLayout{stanza: in.stanza(), list: filterList{stored: in.Mirrors}}
	rule.layout = lay
	lay.readMarks(in.Headers)

	var inline []Mirror
	if !isNull(in.Mirror) {
		inline = append(inline, stanzaMirror(lay.stanza, d.Namespace, domain))
	}
	for _, raw := range in.Mirrors {
		inline = append(inline, elementMirror(raw, d.Namespace, domain))
	}
	groups := map[group]bool{}
	for i := range inline {
		groups[inline[i].group()] = true
	}
	parked := d.link(&rule, &lay.marks, groups, func(e entry) Mirror { return parkedIstio(e, d.Namespace, domain) })
	lay.lay(&rule, inline, parked)
	if isNull(in.Mirror) {
		rule.LoosePercent = loosePercent(lay.stanza, path)
	}
	return rule
}

// lay appends the rule's mirrors in declared order: the single ones, then the
// list with the parked ones in the places that they had.
func (l *istioLayout) lay(rule *Rule, inline, parked []Mirror) {
	single := func(m Mirror) bool { return m.place.single }
	for _, m := range slices.Concat(inline, parked) {
		if single(m) {
			m.setStanzaPath(rule.Path)
			rule.Mirrors = append(rule.Mirrors, m)
		}
	}
	standing, back := slices.DeleteFunc(inline, single), slices.DeleteFunc(parked, single)
	slices.SortStableFunc(back, func(a, b Mirror) int { return cmp.Compare(a.place.at, b.place.at) })
	stored := 0
	for at, m := range merge(standing, back, func(m Mirror) int { return m.place.at }) {
		s := slot{stored: -1, mirror: len(rule.Mirrors)}
		if !m.Parked {
			s.stored = stored
			stored++
		}
		l.list.order = append(l.list.order, s)
		m.place.at = at
		m.setElementPath(rule.Path + ".mirrors[" + strconv.Itoa(at) + "]")
		rule.Mirrors = append(rule.Mirrors, m)
	}
}

func (l *istioLayout) readMarks(raw json.RawMessage) {
	if isNull(raw) {
		return
	}
	headers, ok := members(raw)
	l.marks.depth, l.marks.broken = 1, !ok
	request, has := headers["request"]
	l.marks.busy[1] = len(headers) > 1 || (len(headers) == 1 && !has)
	if !has {
		return
	}
	inner, ok := members(request)
	l.marks.depth, l.marks.broken = 2, l.marks.broken || !ok
	list, has := inner["remove"]
	l.marks.busy[2] = len(inner) > 1 || (len(inner) == 1 && !has)
	if has {
		l.marks.depth = 3
		l.marks.readItems(list)
	}
}

func (dst istioDestination) target(namespace, domain string) (t Target, short bool) {
	t, short = hostTarget(dst.Host, namespace, domain)
	t.Port, t.Subset = dst.Port.Number, dst.Subset
	return t, short
}

// hostTarget resolves a host of a VirtualService: a name without a dot is a
// Service in the route's namespace, name.namespace.svc.DOMAIN a Service. Istio
// does not expand name.namespace; its Service is returned with short set.
func hostTarget(host, namespace, domain string) (t Target, short bool) {
	host = strings.ToLower(host)
	if host == "" || strings.HasPrefix(host, "*") {
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
	default:
		return Target{Kind: TargetService, Namespace: ns, Name: service}, !full
	}
}

func stanzaMirror(stanza map[string]json.RawMessage, namespace, domain string) Mirror {
	m := Mirror{stanza: stanza, Percentage: stanzaPercentage(stanza), place: place{backend: onRule, single: true}}
	var dst istioDestination
	if unmarshal(stanza["mirror"], &dst) != nil {
		m.pointAt(nil, namespace, domain)
	} else {
		m.pointAt(&dst, namespace, domain)
	}
	return m
}

func elementMirror(raw json.RawMessage, namespace, domain string) Mirror {
	m := Mirror{text: raw, place: place{backend: onRule}}
	var e istioMirror
	if unmarshal(raw, &e) != nil {
		e.Destination = nil
	}
	m.pointAt(e.Destination, namespace, domain)
	if !isNull(e.Percentage) {
		m.Percentage.Fields = []PercentageField{istioPercent("percentage", e.Percentage)}
	}
	return m
}

// pointAt sets the mirror's target; nil is one that cannot be read. It has no
// host, and is judged as such.
func (m *Mirror) pointAt(dst *istioDestination, namespace, domain string) {
	if dst == nil {
		m.unreadable = true
		dst = &istioDestination{}
	}
	m.Host = dst.Host
	m.Target, m.ShortHost = dst.target(namespace, domain)
}

func parkedIstio(e entry, namespace, domain string) Mirror {
	var m Mirror
	if e.Stanza != nil {
		m = stanzaMirror(e.Stanza, namespace, domain)
	} else {
		m = elementMirror(e.Element, namespace, domain)
		m.place.at = e.At
	}
	m.Parked = true
	return m
}

func stanzaPercentage(stanza map[string]json.RawMessage) Percentage {
	var s Percentage
	if raw, ok := stanza["mirrorPercentage"]; ok {
		s.Fields = append(s.Fields, istioPercent("mirrorPercentage", raw))
	}
	for _, key := range []string{"mirrorPercent", "mirror_percent"} {
		if raw, ok := stanza[key]; ok {
			f := PercentageField{Name: key}
			f.readPercent(raw, true)
			s.Fields = append(s.Fields, f)
		}
	}
	return s
}

func loosePercent(stanza map[string]json.RawMessage, path string) *PercentageField {
	share := stanzaPercentage(stanza)
	if len(share.Fields) == 0 {
		return nil
	}
	f := share.Fields[0]
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
