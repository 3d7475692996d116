package istio

const (
	aliasesFile   = "internal/variant/aliases.go"
	endpointsFile = "internal/variant/endpoints.go"
	clientsFile   = "internal/variant/clients.go"
	istioFile     = "internal/variant/istio_hosts.go"
	portsFile     = "internal/variant/called_ports.go"
	hostsFile     = "internal/variant/hosts/hosts.go"
	rulesFile     = "internal/variant/hosts/destination_rules.go"
	stateFile     = "internal/variant/state.go"
	routeFile     = "internal/route/virtualservice.go"
)

// mutations switch off the rules of the resolver, in the order of the table in docs/design/admission.md.
var mutations = []mutation{
	{"an EndpointSlice counts for the ports that it has", endpointsFile, `if !ports.overlaps(sl.ports) {`, `if false {`},
	{"without a port, a mirror goes to the port that the client called", portsFile,
		`		return v.calls(c, at) && `, `		return true && `},
	{"a gateway takes the only port of a Service", portsFile, `case c.gateway && len(through) == 1:`, `case false:`},
	{"a sidecar knows an alias only at the ports that its client calls", portsFile, `return !alias || c.gateway || slices.ContainsFunc(through, called)`, `return called(policy.Port{}) || true`},
	{"an alias leads to the port of the same number", portsFile, `(c.gateway || slices.ContainsFunc(through, func(p policy.Port) bool { return p.Number == at }))`, `true`},
	{"clients call the ports of a ServiceEntry for their host", portsFile, `		add(entries[p.Text])
`, ``},
	{"a wildcard stands for the ports that it covers", portsFile, `known := v.addCovered(ports, c, hosts.Parse(v.base.hostOf(t)))`,
		`if strings.HasPrefix(t.Name, "*") {
			return nil, true
		}
		known := v.addCovered(ports, c, hosts.Parse(v.base.hostOf(t)))`},
	{"a mirror must reach a port of a ServiceEntry", stateFile, `if !v.reachesEntry(host, alias, m.Target.Port) {`, `if false {`},
	{"a gateway whose pods do not see the route is no client", clientsFile, `all = slices.DeleteFunc(all, nobody)`, `_ = nobody`},
	{"the client's namespace comes first", rulesFile, `if found := l.mostSpecific(client, host, own); len(found) > 0 {`, `if found := l.mostSpecific(client, host, own); false {`},
	{"the Service's namespace comes before the root", rulesFile, `[]string{service, l.Root}`, `[]string{l.Root, service}`},
	{"the root's rules apply everywhere", rulesFile, `[]string{service, l.Root}`, `[]string{service}`},
	{"clients in the root namespace look in the Service's first", rulesFile, `(client != l.Root || r.private())`, `true`},
	{"wildcards apply", hostsFile, `if (rest[i] == '.' || rest[i] == '-') && !yield(`, `if false && !yield(`},
	{"the longer wildcard wins", hostsFile, `for i := 1; i < len(rest); i++ {`, `for i := len(rest) - 1; i > 0; i-- {`},
	{"a rule without subsets hides those behind it", rulesFile, `if counts(r) {`, `if counts(r) && len(r.Subsets) > 0 {`},
	{"the most specific host is chosen before exportTo is looked at", rulesFile, `func(r *Rule[L]) bool { return !r.private() })`,
		`func(r *Rule[L]) bool { return !r.private() && (len(r.ExportTo) == 0 || slices.Contains(r.ExportTo, "*") || slices.Contains(r.ExportTo, client)) })`},
	{"exportTo hides a rule from other namespaces", rulesFile, `return len(m.exportTo) > 0 && !slices.Contains(m.exportTo, "*") && !slices.Contains(m.exportTo, client)`, `return false`},
	{"exportTo with another namespace does not include one's own", rulesFile, `return len(to) == 0 || slices.Contains(to, "*") || slices.Contains(to, r.Namespace)`, `return len(to) >= 0`},
	{"rules for one host merge", rulesFile, `m.Rules = append(m.Rules, r)`, `_ = m`},
	{"a workloadSelector must match a client", rulesFile, `case first.Namespace == client && matches(first.Selector):`, `case first.Namespace == client:`},
	{"a workloadSelector that does not match ends the search", rulesFile, `if found := l.mostSpecific(client, host, own); len(found) > 0 {`,
		`if found := l.mostSpecific(client, host, own); len(found) > 0 && !found[len(found)-1].Rules[0].Selects {`},
	{"only clients that see the route count", clientsFile, `	everywhere := len(a.ExportTo) == 0 || slices.Contains(a.ExportTo, "*")
`, `	everywhere := true
`},
	{"for a route of a gateway, the namespace of its pods is the client", clientsFile, `c.namespaces = slices.Sorted(maps.Keys(g.pods))`, `c.namespaces = []string{own}`},
	{"the clients of a delegate are those of its roots", clientsFile, `if !rt.IsDelegate() {`, `if true {`},
	{"a host of two labels is not expanded", istioFile, `	if host == "*" || strings.Contains(host, ".") {`, `	if strings.Count(host, ".") == 1 {
		return host + ".svc." + i.opts.ClusterDomain
	}
	if host == "*" || strings.Contains(host, ".") {`},
	{"hosts are compared letter by letter", routeFile, `	if host == "" || strings.HasPrefix(host, "*") || host != strings.ToLower(host) {`, `	host = strings.ToLower(host)
	if host == "" || strings.HasPrefix(host, "*") {`},
	{"exportTo hides a ServiceEntry", clientsFile, `|| exported(e.exportTo, ns)`, `|| true`},
	{"a ServiceEntry in the client's namespace is found whatever its exportTo", clientsFile, `(ns == e.Namespace && !c.gateway) || `, ``},
	{"an ExternalName Service stands for its target", aliasesFile, `if target == nil || target.externalName {`, `if true {`},
	{"an alias of an alias leads nowhere", aliasesFile, `if target == nil || target.externalName {`, `if target != nil && target.externalName {
		return policy.Variant{State: policy.Ready, Exists: true}
	}
	if target == nil {`},
}
