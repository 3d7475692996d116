package routing

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAppendHost(t *testing.T) {
	for host, want := range map[string]string{
		"cluster-1:8000":   "cluster-1-shadow:8000",
		"cluster-1":        "cluster-1-shadow",
		"x.":               "x-shadow.",
		"example.com.:80":  "example.com-shadow.:80",
		".":                ".-shadow",
		"example.com:":     "example.com-shadow:",
		"127.0.0.1:80":     "127.0.0.1-shadow:80",
		"8080":             "8080-shadow",
		"[::1]:8000":       "[::1]:8000",
		"[::1]":            "[::1]",
		"[fe80::1%25eth0]": "[fe80::1%25eth0]",
		"":                 "",
		":80":              ":80",
	} {
		_, r := rule(t, mirrorRule(``))
		assert.Equal(t, want, string(r.Mirrors[0].AppendHost(nil, host)))
		_, r = rule(t, mirrorRule(`"mirrorgate": {"shadowHost": false}`))
		assert.Equal(t, host, string(r.Mirrors[0].AppendHost(nil, host)))
	}
}

// mirrorRule returns the fields of a rule with the backend v1 and a mirror to v2 that has the given fields.
func mirrorRule(fields string) string {
	if fields != "" {
		fields = ", " + fields
	}
	return `"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}` + fields + `}}],
	  "backendRefs": [{"name": "v1", "port": 80}]`
}

func TestMirrorSettings(t *testing.T) {
	table, r := rule(t, mirrorRule(``))
	m := r.Mirrors[0]
	assert.Equal(t, int64(defaultMaxBody), m.MaxBody)
	assert.Equal(t, defaultTimeout, m.Timeout)
	assert.False(t, m.Compare)
	assert.Equal(t, Limits{MaxInFlight: 128, Queue: 512, Budget: 64 << 20, Penalty: DefaultLimits.Penalty}, m.Target.Limits)
	assert.Equal(t, "v2:80", m.Target.Name)
	assert.Same(t, table.Ports[m.Target.Port.Index], m.Target.Port)
	assert.Same(t, r, m.Rule)

	_, r = rule(t, mirrorRule(`"mirrorgate": {"maxBody": "64Ki", "timeout": "2s", "compare": true, "maxInFlight": 7, "queue": 0, "budget": "1Mi",
	  "penalty": {"failures": 1, "pause": "10ms", "longFailures": 2, "longPause": "1m"}}`))
	m = r.Mirrors[0]
	assert.Equal(t, int64(65536), m.MaxBody)
	assert.Equal(t, 2*time.Second, m.Timeout)
	assert.True(t, m.Compare)
	assert.Equal(t, Limits{MaxInFlight: 7, Queue: 0, Budget: 1 << 20, Penalty: Penalty{
		Failures: 1, Pause: 10 * time.Millisecond, LongFailures: 2, LongPause: time.Minute,
	}}, m.Target.Limits)
}

func TestMirrorsShareTargets(t *testing.T) {
	table, r := rule(t, `"filters": [
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "mirrorgate": {"queue": 3}}},
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}, "mirrorgate": {"queue": 3, "maxInFlight": 4}}},
	    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "gone", "port": 1}}}],
	  "backendRefs": [{"name": "v1", "port": 80}]`)
	require.Len(t, r.Mirrors, 3)
	assert.Same(t, r.Mirrors[0].Target, r.Mirrors[1].Target)
	assert.NotEqual(t, r.Mirrors[0].Name, r.Mirrors[1].Name)
	assert.Equal(t, 3, r.Mirrors[0].Target.Limits.Queue)
	assert.Equal(t, 4, r.Mirrors[0].Target.Limits.MaxInFlight)
	assert.Nil(t, r.Mirrors[2].Target.Port)
	for i, target := range table.Targets {
		assert.Equal(t, i, target.Index)
	}
	for i, m := range table.Mirrors {
		assert.Equal(t, i, m.Index)
	}
}
