package routing

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// expressions returns a table with so many rules of one regular expression for paths or for a header, and, as it has
// less precedence than that for a header, one for everything.
func expressions(t *testing.T, n int, header bool, value string) *Table {
	t.Helper()
	l := spec.Listener{Address: ":80"}
	for range n {
		match := spec.Match{Path: &spec.PathMatch{Type: "RegularExpression", Value: &value}}
		if header {
			match = spec.Match{Headers: []spec.ValueMatch{{Type: "RegularExpression", Name: "x", Value: value}}}
		}
		l.Rules = append(l.Rules, spec.Rule{Matches: []spec.Match{match}, BackendRefs: []spec.BackendRef{{Name: "a", Port: 80}}})
	}
	if header {
		l.Rules = append(l.Rules, spec.Rule{BackendRefs: []spec.BackendRef{{Name: "a", Port: 80}}})
	}
	table, problems := Compile(&spec.Table{Listeners: []spec.Listener{l}, Services: map[string]spec.Service{"a": {80: {}}}})
	require.NotNil(t, table, problems)
	return table
}

type oneHeader string

func (h oneHeader) Get(name string) (string, bool) { return string(h), name == "x" }

// Many expressions are tried with a usual request. Those for a long one are not tried without end, and then it gets no
// rule at all, since one that was not tried may have precedence.
func TestWorkOfRegularExpressions(t *testing.T) {
	long := strings.Repeat("a", 16_000)
	for _, tt := range []struct {
		rules       int
		header      bool
		path, value string
		want        int
		expression  string
	}{
		{1000, false, "/" + long[:300], "", 0, "/[a-z]*/v[0-9]+/(items|users)"},
		{1000, true, "/", long[:300], 0, "[a-z]*/v[0-9]+/(items|users)"},
		{1000, false, "/" + long, "", 414, "/[a-z]*/v[0-9]+/(items|users)"},
		{1000, true, "/", long, 431, "[a-z]*/v[0-9]+/(items|users)"},
		{1, false, "/" + long, "", 414, "/(abcdefg?){900}b"},
	} {
		table := expressions(t, tt.rules, tt.header, tt.expression)
		r := &Request{Method: "GET", Host: "a", Path: tt.path, Header: oneHeader(tt.value)}
		rule := table.Match(0, r)
		assert.Equal(t, tt.want, r.Refused, "%d %s", tt.rules, tt.expression)
		assert.Equal(t, tt.want == 0 && tt.header, rule != nil)
	}
}

// An expression that repeats others is refused before it takes memory.
func TestStepsOfRegularExpressions(t *testing.T) {
	for value, ok := range map[string]bool{
		"/a{1000}": true, "/(ab|cd){0,100}x*": true, "/" + strings.Repeat("a", 1000): true,
		"/(abcdefghijk){1000}": false, "/((abcdefghijklmnopqrst|u){1,30}x){1,30}": false, "/(abcdefghijk){999,}": false,
	} {
		_, problems := Compile(&spec.Table{Listeners: []spec.Listener{{Address: ":80", Rules: []spec.Rule{{
			Matches: []spec.Match{{Path: &spec.PathMatch{Type: "RegularExpression", Value: &value}}},
		}}}}})
		failed := strings.Contains(fmt.Sprint(problems), "repeats too much")
		assert.Equal(t, ok, !failed, "%.40s", value)
	}
}
