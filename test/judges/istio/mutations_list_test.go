package istio

// mutations are the rules of the resolver, as docs/design/judges.md lists them.
var mutations = []mutation{
	{"a subset needs a ready pod with its labels", "internal/variant/state.go", "known && have.contain(subsetLabels)", "known"},
	{"a wildcard applies to the hosts below it", "internal/variant/hosts.go", `hosts = append(hosts, "*."+parent)`, ""},
}
