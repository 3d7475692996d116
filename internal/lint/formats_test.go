package lint

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mixed has findings of every level, and one that a comment ignores, in a file with a name that formats must
// escape.
func mixed(t *testing.T) *Report {
	t.Helper()
	const text = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  rules:
  - matches: [{method: POST}]
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: v2, port: 80}, percent: 10}
    - type: RequestMirror
      # mirrorgate:ignore UnknownField because 100 % is meant
      requestMirror: {backendRef: {name: v3, port: 80}, percnt: 10}
    - type: RequestMirror
      requestMirror: {backendRef: {name: v4, port: 80}, percent: 101}
---
a: [
`
	report, err := Check(t.Context(), Options{}, Source{Name: "a b/50%,x:ü.yaml", Text: []byte(text)})
	require.NoError(t, err)
	for _, level := range []Level{Unreadable, Error, Parked, Warning} {
		require.Positive(t, report.Count(level), level)
	}
	require.Len(t, report.Ignored, 1)
	return report
}

// The schema is that of OASIS, errata 01.
func TestSARIFIsValid(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/sarif-schema-2.1.0.json")
	require.NoError(t, err)
	for name, report := range map[string]*Report{"mixed": mixed(t), "empty": {}} {
		var out bytes.Buffer
		require.NoError(t, report.WriteSARIF(&out, "1.2.3"))
		log, err := jsonschema.UnmarshalJSON(&out)
		require.NoError(t, err)
		require.NoError(t, schema.Validate(log), name)
	}
	broken, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"version": "2.1.0", "runs": [{"results": []}]}`))
	require.NoError(t, err)
	require.Error(t, schema.Validate(broken), "a run needs a tool")
}

func TestSARIFHasPlacesRulesAndSuppressions(t *testing.T) {
	var out bytes.Buffer
	report := mixed(t)
	require.NoError(t, report.WriteSARIF(&out, "1.2.3"))
	var log sarifLog
	require.NoError(t, json.Unmarshal(out.Bytes(), &log))
	run := log.Runs[0]
	require.Len(t, run.Results, len(report.Findings)+1)
	seen := map[string]bool{}
	for _, result := range run.Results {
		assert.Equal(t, "a%20b/50%25%2Cx:%C3%BC.yaml", strings.ReplaceAll(result.Locations[0].PhysicalLocation.ArtifactLocation.URI, ",", "%2C"))
		assert.Equal(t, result.RuleID, run.Tool.Driver.Rules[result.RuleIndex].ID)
		assert.NotEmpty(t, run.Tool.Driver.Rules[result.RuleIndex].ShortDescription.Text)
		seen[result.Level] = true
		if result.RuleID == string(UnknownField) {
			assert.Equal(t, []sarifSuppression{{"inSource", "100 % is meant"}}, result.Suppressions)
			assert.Equal(t, 12, result.Locations[0].PhysicalLocation.Region.StartLine)
			assert.Equal(t, 57, result.Locations[0].PhysicalLocation.Region.StartColumn)
		}
	}
	assert.Equal(t, map[string]bool{"error": true, "warning": true, "note": true}, seen)
}

func TestGitHubAnnotationsAreEscaped(t *testing.T) {
	report := &Report{Findings: []Finding{{
		Level: Parked, File: "a,b:c%.yaml", Line: 2, Column: 3, Reason: "ServiceNotFound", Message: "100 %\n::error::x", Remedy: "one\r\ntwo",
	}}}
	var out bytes.Buffer
	require.NoError(t, report.WriteGitHub(&out))
	first, _, _ := strings.Cut(out.String(), "\n")
	assert.Equal(t, "::notice file=a%2Cb%3Ac%25.yaml,line=2,col=3,title=ServiceNotFound::ServiceNotFound: 100 %25 ::error::x%0Aone  two", first)
	out.Reset()
	require.NoError(t, mixed(t).WriteGitHub(&out))
	commands := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		if rest, ok := strings.CutPrefix(line, "::"); ok {
			command, _, _ := strings.Cut(rest, " ")
			commands[command] = true
		}
	}
	assert.Equal(t, map[string]bool{"error": true, "warning": true, "notice": true}, commands)
}
