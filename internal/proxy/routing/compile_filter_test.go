package routing

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// edit applies edits to a head as the data plane does.
func edit(e *message.HeaderEdits, fields ...string) string {
	head := &message.Response{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		head.Fields = append(head.Fields, message.Field{Name: name, Value: value})
	}
	var out []string
	for name, value := range (&message.Reply{Response: head, Edits: e}).Each {
		out = append(out, name+": "+value)
	}
	return strings.Join(out, "\n")
}

func TestHeaderEdits(t *testing.T) {
	_, r := rule(t, `
	  "filters": [
	    {"type": "RequestHeaderModifier", "requestHeaderModifier": {
	      "set": [{"name": "X-Set", "value": "rule"}, {"name": "x-both", "value": "set"}],
	      "add": [{"name": "X-Add", "value": "rule"}, {"name": "x-both", "value": "added"}],
	      "remove": ["X-Gone"]}},
	    {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-res", "value": "rule"}], "remove": ["x-inner"]}},
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "mirrorgate": {
	      "headers": {"remove": ["authorization", "x-add"], "set": [{"name": "x-copy", "value": "yes"}]}}}}],
	  "backendRefs": [{"name": "v1", "port": 80, "filters": [
	    {"type": "RequestHeaderModifier", "requestHeaderModifier": {
	      "set": [{"name": "x-set", "value": "backend"}], "add": [{"name": "x-gone", "value": "back"}], "remove": ["x-sent"]}},
	    {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-inner", "value": "dropped by the rule"}]}},
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}}]}]`)
	b := r.backends[0]
	sent := []string{"Accept: */*", "x-sent: 1", "x-set: client", "X-GONE: 1", "x-add: client", "Authorization: secret", "X-Set: again"}

	assert.Equal(t, `Accept: */*
x-add: client
Authorization: secret
x-both: set
X-Add: rule
x-both: added
x-set: backend
x-gone: back`, edit(&b.RequestHeaders, sent...))
	assert.Equal(t, `Accept: */*
x-sent: 1
X-Set: rule
x-both: set
x-both: added
x-copy: yes`, edit(&r.Mirrors[0].Headers, sent...), "the copy has the edits of the rule, then those of the mirror")
	assert.Equal(t, edit(&b.RequestHeaders, sent...), edit(&b.Mirrors[0].Headers, sent...))
	assert.Equal(t, "Date: now\nx-res: rule", edit(&b.ResponseHeaders, "Date: now", "X-Inner: 1"))
	assert.Equal(t, "Date: now\nx-res: rule", edit(&r.ResponseHeaders, "Date: now", "X-Inner: 1"))
	assert.NotZero(t, b.RequestHeaders)

	_, r = rule(t, `"backendRefs": [{"name": "v1", "port": 80}]`)
	assert.Zero(t, r.backends[0].RequestHeaders)
	assert.Equal(t, "a: b", edit(&r.backends[0].RequestHeaders, "a: b"))
}
