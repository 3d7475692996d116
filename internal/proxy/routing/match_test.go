package routing

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		name    string
		matches []string // one rule each
		// want has the index of the rule, or -1, by request line. Fields follow after " | ".
		want map[string]int
	}{
		{"a rule without matches matches everything", []string{``}, map[string]int{
			"GET h /": 0, "GET h /a/b?c": 0, "OPTIONS h *": 0, "CONNECT h:443 ": 0,
		}},
		{"exact path", []string{`{"path": {"type": "Exact", "value": "/foo"}}`}, map[string]int{
			"GET h /foo": 0, "GET h /foo?x=1": 0, "GET h /foo/": -1, "GET h /Foo": -1, "GET h /": -1, "GET h /foo/bar": -1,
		}},
		{"a prefix matches whole path elements", []string{`{"path": {"value": "/foo"}}`}, map[string]int{
			"GET h /foo": 0, "GET h /foo/": 0, "GET h /foo/bar": 0, "GET h /foo//": 0, "GET h /foobar": -1, "GET h /fo": -1, "GET h /": -1, "GET h /bar/foo": -1, "OPTIONS h *": -1,
		}},
		{"the final slash of a prefix is ignored", []string{`{"path": {"value": "/foo/"}}`}, map[string]int{
			"GET h /foo": 0, "GET h /foo/": 0, "GET h /foo/bar": 0, "GET h /foobar": -1,
		}},
		{"exact path before longest prefix before regular expression", []string{
			`{"path": {"type": "RegularExpression", "value": "/a/.*"}}`,
			`{"path": {"value": "/a"}}`, `{"path": {"value": "/a/b"}}`,
			`{"path": {"type": "Exact", "value": "/a/b/c"}}`,
			`{"path": {"type": "RegularExpression", "value": "/r|/rr"}}`,
		}, map[string]int{
			"GET h /a/x": 1, "GET h /a/b": 2, "GET h /a/b/d": 2, "GET h /a/b/c": 3, "GET h /a/b/c/": 2,
			"GET h /r": 4, "GET h /rr": 4, "GET h /rrr": -1, "GET h /x/r": -1,
		}},
		{"a regular expression matches the whole path", []string{`{"path": {"type": "RegularExpression", "value": "/v[0-9]+"}}`}, map[string]int{
			"GET h /v1": 0, "GET h /v12": 0, "GET h /v1/": -1, "GET h /x/v1": -1, "GET h /v1\n": -1,
		}},
		{"method before headers before query before order", []string{
			`{"queryParams": [{"name": "q", "value": "1"}]}`,
			`{"headers": [{"name": "X-A", "value": "1"}]}`,
			`{"headers": [{"name": "x-a", "value": "1"}, {"name": "x-b", "value": "2"}]}`,
			`{"method": "POST"}`, `{}`, `{}`,
		}, map[string]int{
			"GET h /":                        4,
			"GET h /?q=1":                    0,
			"GET h /?q=2":                    4,
			"GET h / | x-A: 1":               1,
			"GET h /?q=1 | x-a: 1":           1,
			"GET h /?q=1 | x-a: 1 | X-B: 2":  2,
			"POST h /?q=1 | x-a: 1 | X-B: 2": 3,
			"post h /":                       4,
		}},
		{"a longer path wins over a method", []string{`{"method": "GET"}`, `{"path": {"value": "/a"}}`}, map[string]int{
			"GET h /a": 1, "GET h /b": 0, "POST h /a": 1, "POST h /b": -1,
		}},
		{"a request that a longer path does not match falls through to a shorter path", []string{
			`{"path": {"value": "/a/b"}, "method": "PUT"}`, `{"path": {"value": "/a"}}`,
			`{"path": {"type": "Exact", "value": "/a/b"}, "headers": [{"name": "x", "value": "y"}]}`,
		}, map[string]int{"GET h /a/b": 1, "PUT h /a/b": 0, "PUT h /a/b | x: y": 2}},
		{"headers", []string{
			`{"path": {"value": "/exact"}, "headers": [{"name": "version", "value": "one"}]}`,
			`{"path": {"value": "/regex"}, "headers": [{"type": "RegularExpression", "name": "version", "value": "[a-z]+"}]}`,
			`{"path": {"value": "/empty"}, "headers": [{"name": "version", "value": ""}]}`,
			`{"path": {"value": "/twice"}, "headers": [{"name": "version", "value": "one"}, {"name": "VERSION", "value": "two"}]}`,
			`{"path": {"value": "/host"}, "headers": [{"name": "Host", "value": "h:80"}]}`,
		}, map[string]int{
			"GET h /exact | version: one": 0, "GET h /exact | Version: One": -1, "GET h /exact": -1,
			"GET h /exact | version: one | version: two": -1,
			"GET h /regex | version: abc":                1, "GET h /regex | version: abc1": -1,
			"GET h /empty | version: ": 2, "GET h /empty": -1,
			"GET h /twice | version: one": 3, "GET h /twice | version: two": -1,
			"GET h:80 /host": 4, "GET h /host": -1,
		}},
		{"query", []string{
			`{"path": {"value": "/e"}, "queryParams": [{"name": "a b", "value": "ü&"}]}`,
			`{"path": {"value": "/r"}, "queryParams": [{"type": "RegularExpression", "name": "n", "value": "[0-9]+"}]}`,
			`{"path": {"value": "/n"}, "queryParams": [{"name": "Flag", "value": ""}]}`,
		}, map[string]int{
			"GET h /e?a+b=%C3%BC%26": 0, "GET h /e?x&a%20b=ü%26": 0, "GET h /e?a+b=x&a+b=%C3%BC%26": -1, "GET h /e": -1,
			"GET h /r?n=1": 1, "GET h /r?n=1&n=x": 1, "GET h /r?n=x&n=1": -1, "GET h /r?n=1x": -1, "GET h /r?N=1": -1,
			"GET h /n?Flag": 2, "GET h /n?&&Flag=": 2, "GET h /n?Flag=1": -1, "GET h /n?": -1, "GET h /n?flag": -1,
		}},
		{"calls of gRPC: service before method before headers before order", []string{
			`{"call": {}}`,
			`{"call": {}, "headers": [{"name": "x", "value": "1"}]}`,
			`{"call": {"method": "Get"}}`,
			`{"call": {"service": "a.S"}}`,
			`{"call": {"service": "a.S", "method": "Get"}}`,
			`{"call": {"service": "a.S", "method": "Get"}, "headers": [{"name": "x", "value": "1"}]}`,
			`{"call": {"type": "RegularExpression", "service": "b[.]S|c[.]S", "method": "G.."}}`,
			`{"call": {"type": "RegularExpression", "service": "b.*"}}`,
		}, map[string]int{
			"POST h /a.S/Get": 4, "POST h /a.S/Get | x: 1": 5, "POST h /a.S/Put": 3, "POST h /a.S/Put | x: 1": 3, "POST h /A.S/Put": 0,
			"POST h /d.S/Get": 2, "POST h /d.S/Get/x": 0, "POST h /d.S/Put": 0, "POST h /d.S/Put | x: 1": 1,
			"POST h /b.S/Get": 6, "POST h /c.S/Get": 6, "POST h /b.S/Put": 7, "POST h /c.S/Put": 0, "POST h /xb.S/Get": 2,
		}},
		{"every call, among others", []string{`{"call": {}}`, `{"call": {}, "headers": [{"name": "x", "value": "1"}]}`, `{"call": {"method": "Get"}}`}, map[string]int{
			"POST h /d.S/Put": 0, "POST h /d.S/Put | x: 1": 1, "POST h /d.S/Get | x: 1": 2,
		}},
		{"several matches of a rule are alternatives", []string{`{"path": {"value": "/a"}}, {"method": "PUT"}`}, map[string]int{
			"GET h /a": 0, "PUT h /b": 0, "GET h /b": -1,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var rules []string
			for _, m := range test.matches {
				rules = append(rules, `{"backendRefs": [{"name": "v1", "port": 80}], "matches": [`+m+`]}`)
			}
			table := compile(t, `"rules": [`+strings.Join(rules, ",")+`]`)
			for line, want := range test.want {
				part := strings.Split(line, " | ")
				got := -1
				if r := table.Match(0, request(part[0], part[1:]...)); r != nil {
					got = r.Index
				}
				assert.Equal(t, want, got, "%s", line)
			}
		})
	}
}

func TestMatchHostnames(t *testing.T) {
	table := compile(t, `"routes": [
	  {"rules": [{}]},
	  {"hostnames": ["*.example.com"], "rules": [{}, {"matches": [{"path": {"value": "/wild"}}]}]},
	  {"hostnames": ["*.b.example.com", "example.org"], "rules": [{}]},
	  {"hostnames": ["a.example.com"], "rules": [{"matches": [{"path": {"value": "/a"}}]}]},
	  {"hostnames": ["a.example.com"], "rules": [{"matches": [{"path": {"value": "/a"}}]}, {"matches": [{"method": "PUT"}]}]}
	]`)
	for line, want := range map[string]string{
		"GET  /":                    "route-0/0",
		"GET example.com /":         "route-0/0", // the asterisk stands for at least one label
		"GET .example.com /":        "route-0/0",
		"GET example.org /":         "route-2/0",
		"GET EXAMPLE.org:8080 /":    "route-2/0",
		"GET example.org.:8080 /":   "route-2/0",
		"GET x.example.org /":       "route-0/0",
		"GET x.example.com /":       "route-1/0",
		"GET x.y.example.com /":     "route-1/0",
		"GET b.example.com /":       "route-1/0",
		"GET x.b.example.com /":     "route-2/0",
		"GET x.y.b.example.com:1 /": "route-2/0",
		"GET a.example.com /a":      "route-3/0", // the first of two routes
		"GET a.example.com /b":      "route-1/0", // the exact name has no rule for it
		"PUT a.example.com /b":      "route-4/1",
		"GET A.example.com /wild/x": "route-1/1",
		"GET [::1]:80 /":            "route-0/0",
		"GET " + strings.Repeat("a.", 200) + "example.com /": "route-0/0",
	} {
		r := table.Match(0, request(line))
		require.NotNil(t, r, line)
		assert.Equal(t, "127.0.0.1:8000/"+want, r.Name, line)
	}
}

// TestMatchDoesNotAllocate checks that matching, which is done for every request, does not allocate.
func TestMatchDoesNotAllocate(t *testing.T) {
	table := manyRules(t, 1000)
	r := request("GET host7.example.com:8080 /api/v7/items/42?page=3")
	r.Header = oneField{"x-version", "7"}
	require.NotNil(t, table.Match(0, r))
	assert.Zero(t, testing.AllocsPerRun(100, func() { table.Match(0, r) }))
}

// manyRules compiles n rules for different host names and paths.
func manyRules(t testing.TB, n int) *Table {
	var routes []string
	for i := range n / 10 {
		var rules []string
		for j := range 10 {
			rules = append(rules, fmt.Sprintf(`{"matches": [{"path": {"value": "/api/v%d"}, "headers": [{"name": "x-version", "value": "%d"}]}], "backendRefs": [{"name": "v1", "port": 80}]}`, j, j))
		}
		routes = append(routes, fmt.Sprintf(`{"hostnames": ["host%d.example.com"], "rules": [%s]}`, i, strings.Join(rules, ",")))
	}
	return compile(t, `"routes": [`+strings.Join(routes, ",")+`]`)
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			table := manyRules(b, n)
			r := request("GET host0.example.com:8080 /api/v7/items/42?page=3")
			r.Header = oneField{"x-version", "7"}
			require.NotNil(b, table.Match(0, r))
			b.ReportAllocs()
			for b.Loop() {
				table.Match(0, r)
			}
		})
	}
}

type oneField message.Field

func (f oneField) Get(name string) (string, bool) { return f.Value, name == f.Name }

// FuzzMatch compares the index with a literal implementation of Gateway API, which tries the matches of all
// rules and sorts those that match by precedence.
func FuzzMatch(f *testing.F) {
	f.Add("/a/b|/a|=/a/b|~/a.*|/", "GET", "a.example.com", "/a/b", "q=1")
	f.Add("/|*.example.com /a|example.com /a|POST /a", "POST", "x.example.com:80", "/a/", "")
	f.Add("x: /a|xy: /a|?q /a|?qr /a", "GET", "h", "/a", "q=1&r=1")
	f.Fuzz(func(t *testing.T, program, method, host, path, query string) {
		s, ok := fuzzSpec(program)
		if !ok {
			return
		}
		table, _ := Compile(s)
		if table == nil {
			return
		}
		r := &Request{Method: method, Host: host, Path: path, RawQuery: query, Header: header{{Name: "x", Value: "1"}, {Name: "y", Value: "1"}}}
		got, want := "", oracle(s, r)
		if rule := table.Match(0, r); rule != nil {
			got = rule.Name
		}
		assert.Equal(t, want, got)
	})
}

// fuzzSpec parses rules "[host ][METHOD ][headers: ][?params ][=~]path", separated by |. Each letter of
// headers and params is the name of a header or parameter that must be "1".
func fuzzSpec(program string) (*spec.Table, bool) {
	l := spec.Listener{Address: ":80"}
	for text := range strings.SplitSeq(program, "|") {
		var m spec.Match
		var route spec.Route
		words := strings.Fields(text)
		if len(words) == 0 || len(l.Routes) == 20 {
			return nil, false
		}
		value := words[len(words)-1]
		m.Path = &spec.PathMatch{Type: "PathPrefix", Value: &value}
		if kind := map[byte]string{'=': "Exact", '~': "RegularExpression"}[value[0]]; kind != "" {
			value = value[1:]
			m.Path.Type = kind
		}
		for _, w := range words[:len(words)-1] {
			switch {
			case strings.HasPrefix(w, "?"):
				for _, c := range w[1:] {
					m.QueryParams = append(m.QueryParams, spec.ValueMatch{Name: string(c), Value: "1"})
				}
			case strings.HasSuffix(w, ":"):
				for _, c := range w[:len(w)-1] {
					m.Headers = append(m.Headers, spec.ValueMatch{Name: string(c), Value: "1"})
				}
			case methodToken.MatchString(w):
				m.Method = w
			default:
				route.Hostnames = append(route.Hostnames, w)
			}
		}
		route.Rules = []spec.Rule{{Matches: []spec.Match{m}}}
		l.Routes = append(l.Routes, route)
	}
	return &spec.Table{Listeners: []spec.Listener{l}}, true
}

// oracle is the literal implementation. It returns the name of the rule.
func oracle(s *spec.Table, r *Request) string {
	type candidate struct {
		rank []int
		name string
	}
	var found []candidate
	host := strings.TrimSuffix(regexp.MustCompile(`:[0-9]*$`).ReplaceAllString(r.Host, ""), ".")
	host = strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			return c + 32
		}
		return c
	}, host)
	for i, route := range s.Listeners[0].Routes {
		m := route.Rules[0].Matches[0]
		hostRank, ok := oracleHost(route.Hostnames, host)
		pathRank, pathOK := oraclePath(m.Path, r.Path)
		if !ok || !pathOK || (m.Method != "" && m.Method != r.Method) {
			continue
		}
		headers, query := map[string]bool{}, map[string]bool{}
		for _, h := range m.Headers {
			value, _ := r.Header.Get(h.Name)
			ok = ok && value == "1"
			headers[strings.ToLower(h.Name)] = true
		}
		for _, q := range m.QueryParams {
			value, found := queryValue(r.RawQuery, q.Name)
			ok = ok && found && value == "1"
			query[q.Name] = true
		}
		if !ok {
			continue
		}
		found = append(found, candidate{
			slices.Concat(hostRank, pathRank, []int{min(len(m.Method), 1), len(headers), len(query)}),
			fmt.Sprintf(":80/route-%d/0", i),
		})
	}
	if len(found) == 0 {
		return ""
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return slices.Compare(b.rank, a.rank) })
	return found[0].name
}

func oracleHost(names []string, host string) (rank []int, ok bool) {
	if len(names) == 0 {
		return []int{0, 0}, true
	}
	best := []int{-1, -1}
	for _, name := range names {
		suffix, wild := strings.CutPrefix(name, "*")
		switch {
		case !wild && name == host:
			best = slices.MaxFunc([][]int{best, {len(name), len(name)}}, slices.Compare)
		case wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix):
			best = slices.MaxFunc([][]int{best, {0, len(name)}}, slices.Compare)
		}
	}
	return best, best[0] >= 0
}

func oraclePath(m *spec.PathMatch, path string) (rank []int, ok bool) {
	value := *m.Value
	switch m.Type {
	case "Exact":
		return []int{3, 0}, path == value
	case "PathPrefix":
		value = strings.TrimSuffix(value, "/")
		want, have := strings.Split(value, "/"), strings.Split(path, "/")
		return []int{2, len(value)}, value == "" || len(have) >= len(want) && slices.Equal(want, have[:len(want)])
	default:
		re := regexp.MustCompile(`\A(?:` + value + `)\z`) // Compile has checked it
		return []int{1, 0}, re.MatchString(path)
	}
}
