package lint

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

func check(t *testing.T, opts Options, text string) []Finding {
	t.Helper()
	report, err := Check(t.Context(), opts, Source{Name: "f", Text: []byte(text)})
	require.NoError(t, err)
	return report.Findings
}

func TestPositions(t *testing.T) {
	const text = `# A comment.
a: &x
  b:
  - c: 1
  -
    c: 2
  mirrorgate.dev/gate: Ready
d: *x
`
	objects, failures := split(Source{Text: []byte("# 1\n---\napiVersion: v\nkind: K\n" + text)}, func(*yamlv3.Node) {})
	require.Nil(t, objects[0].node, "the tree of an object that is no route is dropped, and made again")
	require.Empty(t, failures)
	o := objects[0]
	place := func(field string) string {
		line, column := o.position(field)
		return fmt.Sprintf("%d:%d", line, column)
	}
	for field, want := range map[string]string{
		"":                            "3:1",
		"apiVersion":                  "3:1",
		"a":                           "6:1",
		"a.b":                         "7:3",
		"a.b[0].c":                    "8:5",
		"a.b[1].c":                    "10:5",
		"a.b[1].none":                 "10:5",
		"a.b[2].c":                    "7:3",
		"a.b[name].c":                 "7:3",
		"a[mirrorgate.dev/gate]":      "11:3",
		"d.b[0].c":                    "8:5",
		"none.b":                      "3:1",
		"a.b[0].c.further[3].no.more": "8:5",
	} {
		assert.Equal(t, want, place(field), field)
	}
	o.parked = []string{"a.b[0]"}
	assert.Equal(t, "3:1", place("a.b[0].c"), "the place of a parked mirror is that of the annotation")
	assert.Equal(t, "10:5", place("a.b[1].c"))
}

func TestReadingFails(t *testing.T) {
	_, err := Read(iotest.ErrReader(io.ErrUnexpectedEOF), "-")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	sources, err := Read(strings.NewReader("a: 1"), "missing", "-")
	require.ErrorContains(t, err, "missing")
	assert.Equal(t, []Source{{Name: "<stdin>", Text: []byte("a: 1")}}, sources, "the input that can be read is returned")
}

func TestEveryReasonToParkAMirrorHasARemedy(t *testing.T) {
	for _, reason := range []policy.Reason{
		policy.ServiceNotFound, policy.ServiceDeleting, policy.HostNotFound, policy.DestinationRuleNotFound, policy.WorkloadNotFound,
		policy.WorkloadDeleting, policy.ScaledToZero, policy.NoReadyEndpoints, policy.NotGranted,
	} {
		assert.Contains(t, remedies[reason], "the mirror comes back by itself then", reason)
	}
}

// Istio compares hosts letter by letter, so a capital is no matter of taste.
func TestAHostWithCapitalsIsNoService(t *testing.T) {
	findings := check(t, Options{}, strings.Replace(variable, "${VAR}", "Web-V2", 1))
	require.Len(t, findings, 1)
	assert.Equal(t, policy.HostNotFound, findings[0].Reason)
	assert.Contains(t, findings[0].Remedy, "write web-v2")
}

const managed = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: web
  ownerReferences: [{apiVersion: flagger.app/v1beta1, kind: Canary, name: web, uid: u-1, controller: true}]
spec: {hosts: [web], http: [{mirror: {host: v2}, mirrorPercentage: {value: 101}}]}
`

// A route that another tool manages is judged all the same; only its mirrors do not move.
func TestManagedRoutesAreJudged(t *testing.T) {
	const canary = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: web, uid: u-1}\n"
	levels := map[policy.Reason]Level{}
	for _, f := range check(t, Options{}, managed+"---\n"+canary) {
		levels[f.Reason] = f.Level
	}
	assert.Equal(t, map[policy.Reason]Level{policy.PercentOutOfRange: Error, policy.ManagedRoute: Warning}, levels)
}

const variable = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}], mirror: {host: "${VAR}"}}]}
`

// Istio's validator refuses the host, and no schema does.
func TestAMirrorThatTheAPIRefusesIsAnError(t *testing.T) {
	findings := check(t, Options{}, variable)
	require.Len(t, findings, 1)
	assert.Equal(t, Error, findings[0].Level)
	assert.Equal(t, policy.MirrorInvalid, findings[0].Reason)
	assert.Contains(t, findings[0].Message, `"${VAR}" is no host`)
}

const otherNamespace = `
apiVersion: v1
kind: Service
metadata: {name: v2}
spec: {selector: {app: v2}, ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, namespace: default, port: PORT}}}]}]}
`

func TestAssumeAppliedAcceptsMissingObjectsAndNoContradictions(t *testing.T) {
	text := strings.Replace(otherNamespace, "PORT", "80", 1)
	findings := check(t, Options{}, text)
	require.Len(t, findings, 1)
	assert.Equal(t, policy.NotGranted, findings[0].Reason)
	assert.Empty(t, check(t, Options{AssumeApplied: true, Policy: policy.Config{Strict: true}}, text))

	findings = check(t, Options{AssumeApplied: true}, strings.Replace(otherNamespace, "PORT", "81", 1))
	require.Len(t, findings, 1)
	assert.Equal(t, policy.PortNotFound, findings[0].Reason)
	assert.Equal(t, Error, findings[0].Level)
}

// FuzzCheck requires a report about any text, with lines that the text has, and fixes that break nothing.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(managed))
	f.Add([]byte(strings.Replace(managed, "mirrorPercentage: {value: 101}", "mirrorPercent: 5", 1)))
	f.Add([]byte("a: 1 # mirrorgate:ignore PortNotFound because x\nb: |\n  # mirrorgate:ignore\n"))
	f.Add([]byte(otherNamespace))
	f.Add([]byte("{\"apiVersion\": \"v1\",\n\"kind\": \"List\", \"items\": [7, {}]}\n{}"))
	f.Add([]byte("a: &a [*a]\n---\nkind: {{ .Kind }}\n...\n- [\n"))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: &x\n- apiVersion: v1\n  kind: List\n  items: *x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := Check(t.Context(), Options{}, Source{Name: "f", Text: text})
		require.NoError(t, err)
		for _, finding := range report.Findings {
			assert.GreaterOrEqual(t, finding.Line, 1, finding.String())
			assert.GreaterOrEqual(t, finding.Column, 1, finding.String())
			assert.LessOrEqual(t, finding.Line, bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r"))+2, finding.String())
			assert.NotContains(t, finding.String(), "\x1b")
		}
		require.NoError(t, report.WriteText(io.Discard))
		require.NoError(t, report.WriteJSON(io.Discard))
		require.NoError(t, report.WriteSARIF(io.Discard, ""))
		fixed, err := report.Fix([]Source{{Name: "f", Text: text}})
		require.NoError(t, err)
		for _, file := range fixed {
			again, err := Check(t.Context(), Options{}, file.Source)
			require.NoError(t, err)
			assert.Equal(t, report.Count(Unreadable), again.Count(Unreadable))
			more, err := again.Fix([]Source{file.Source})
			require.NoError(t, err)
			assert.Empty(t, more, "one run suffices")
		}
	})
}
