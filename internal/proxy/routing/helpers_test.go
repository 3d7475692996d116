package routing

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// header is a Header for tests: a list of fields.
type header []message.Field

func (h header) Get(name string) (string, bool) {
	var values []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return strings.Join(values, ","), len(values) > 0
}

// request parses a line "METHOD host path?query", and fields "name: value".
func request(line string, fields ...string) *Request {
	part := strings.SplitN(line, " ", 3)
	r := &Request{Method: part[0], Host: part[1]}
	r.Path, r.RawQuery, _ = strings.Cut(part[2], "?")
	var h header
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h = append(h, message.Field{Name: name, Value: value})
	}
	r.Header = h
	return r
}

const testServices = `{
  "v1": {"80": {"endpoints": [{"address": "127.0.0.1:9001"}]}},
  "v2": {"80": {"endpoints": [{"address": "127.0.0.1:9002"}]}, "81": {"protocol": "h2c"}},
  "v3": {"80": {"endpoints": [{"address": "127.0.0.1:9003", "ready": false}]}}
}`

// compile compiles a table with one listener. listener holds further fields of the listener in JSON.
func compile(t testing.TB, listener string) *Table {
	t.Helper()
	table, problems := Compile(parse(t, listener))
	require.NotNil(t, table, "%v", problems)
	return table
}

// parse is compile without compiling.
func parse(t testing.TB, listener string) *spec.Table {
	t.Helper()
	var s spec.Table
	d := json.NewDecoder(strings.NewReader(`{"listeners": [{"address": "127.0.0.1:8000", ` + listener + `}], "services": ` + testServices + `}`))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&s))
	return &s
}

// rule compiles a table with one rule, which has the given fields in JSON.
func rule(t testing.TB, fields string) (*Table, *Rule) {
	t.Helper()
	table := compile(t, `"rules": [{`+fields+`}]`)
	return table, table.Rules[0]
}
