package manifest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func objects(t *testing.T, text string) []string {
	t.Helper()
	found, err := Objects([]byte(text))
	require.NoError(t, err, text)
	var out []string
	for _, raw := range found {
		out = append(out, string(raw))
	}
	return out
}

func TestJSONIsNotChanged(t *testing.T) {
	const text = `{"b": "\ud83d\ude00 \/ \u003c", "a": [9007199254740993, 123456789012345678901234567890, 1e-05, 1.10],	"c":1}`
	for _, whole := range []string{text, "\n" + text + "\n", "\ufeff" + text, "# Source: chart/templates/a.yaml\n" + text} {
		assert.Equal(t, []string{text}, objects(t, whole))
	}
}

func TestNumbersOfYAMLStayAsWritten(t *testing.T) {
	assert.Equal(t, []string{`{"a":9007199254740993,"b":1e-05,"c":123456789012345678901234567890,"d":1.10,"e":"1.10"}`},
		objects(t, "a: 9007199254740993\nb: 1e-05\nc: 123456789012345678901234567890\nd: 1.10\ne: '1.10'"))
}

func TestYAMLMeansWhatItMeansToKubectl(t *testing.T) {
	for text, want := range map[string]string{
		"a: yes":                          `{"a":true}`,
		"a: off":                          `{"a":false}`,
		"a: 'yes'":                        `{"a":"yes"}`,
		"a: 0777":                         `{"a":511}`,
		"a: 0x1F":                         `{"a":31}`,
		"a: .5":                           `{"a":0.5}`,
		"a: 2026-01-01":                   `{"a":"2026-01-01"}`,
		"a: ~":                            `{"a":null}`,
		"a: <b>":                          `{"a":"<b>"}`,
		"a: {8080: x}":                    `{"a":{"8080":"x"}}`,
		"a: []\nb: {}":                    `{"a":[],"b":{}}`,
		"a: \"\\U0001f600\"":              `{"a":"😀"}`,
		"a: &x {q: 1}\nb: {<<: *x, r: 2}": `{"a":{"q":1},"b":{"r":2,"q":1}}`,
	} {
		assert.Equal(t, []string{want}, objects(t, text), text)
	}
}

func TestDocumentsAndListsAreTakenApart(t *testing.T) {
	assert.Equal(t, []string{`{"a":1}`, `{"b":"\/"}`, `{"c":3}`, `{"d":4}`}, objects(t, "# a comment\n---\na: 1\n---\n{\"b\":\"\\/\"}\n{\"c\":3}\n--- # one more\nd: 4\n---\n"))
	assert.Equal(t, []string{`{"a":1}`, `{"b":2}`, `{"kind":"ConfigMap"}`},
		objects(t, "kind: List\nitems:\n- a: 1\n- {kind: RouteList, items: [{b: 2}, null]}\n---\nkind: ConfigMap"))
	assert.Equal(t, []string{`{"kind":"AllowList","spec":1}`}, objects(t, "{kind: AllowList, spec: 1}"), "a kind that ends in List and has no items")
	assert.Empty(t, objects(t, ""))
}

func TestErrorsNameTheDocument(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n---\na: [": "document 2: line 3: a value is missing, or a bracket is not closed",
		"a: 1\na: 2":      `document 1: line 2: key "a" is already set at line 1`,
		`{"a": "\ud83d"`:  "document 1: line 1: invalid surrogate pair",
		"a: .inf":         `document 1: line 1: the value ".inf" cannot be sent as JSON`,
	} {
		_, err := Objects([]byte(text))
		assert.ErrorContains(t, err, want, text)
	}
}
