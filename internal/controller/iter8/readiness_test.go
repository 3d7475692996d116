package iter8

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

func TestReadinessByKindAndStatus(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	services := schema.GroupResource{Resource: "services"}
	inference := schema.GroupResource{Group: "serving.kserve.io", Resource: "inferenceservices"}
	const head = "{apiVersion: a/v1, kind: A, metadata: {name: a, generation: 2}, "
	for name, c := range map[string]struct {
		kind                schema.GroupResource
		text                string
		ready, scaledToZero bool
	}{
		"a Service":                      {services, head + "spec: {}}", true, false},
		"a new Deployment, no status":    {deployments, head + "spec: {replicas: 1}}", false, false},
		"a Deployment":                   {deployments, head + "spec: {replicas: 3}, status: {readyReplicas: 1, conditions: [{type: Available, status: 'False'}]}}", true, false},
		"scaled to 0":                    {deployments, head + "spec: {replicas: 0}, status: {conditions: [{type: Available, status: 'True'}]}}", false, true},
		"a DaemonSet":                    {schema.GroupResource{Group: "apps", Resource: "daemonsets"}, head + "status: {desiredNumberScheduled: 2, numberReady: 1}}", true, false},
		"a DaemonSet without nodes":      {schema.GroupResource{Group: "apps", Resource: "daemonsets"}, head + "status: {desiredNumberScheduled: 0, numberReady: 0}}", false, true},
		"Ready wins over Available":      {inference, head + "status: {conditions: [{type: Available, status: 'True'}, {type: Ready, status: 'False'}]}}", false, false},
		"Ready":                          {inference, head + "status: {conditions: [{type: Ready, status: 'True'}]}}", true, false},
		"Ready of an older generation":   {inference, head + "status: {observedGeneration: 1, conditions: [{type: Ready, status: 'True'}]}}", false, false},
		"Ready, the condition is older":  {inference, head + "status: {observedGeneration: 2, conditions: [{type: Ready, status: 'True', observedGeneration: 1}]}}", false, false},
		"an InferenceService, no status": {inference, head + "spec: {}}", false, false},
		"anything else that is Unknown":  {schema.GroupResource{Group: "a", Resource: "as"}, head + "status: {conditions: [{type: Ready, status: Unknown}]}}", false, false},
		"anything else, no status":       {schema.GroupResource{Group: "a", Resource: "as"}, head + "spec: {}}", true, false},
		"odd conditions":                 {schema.GroupResource{Group: "a", Resource: "as"}, head + "status: {conditions: [1, {type: 3}]}}", true, false},
		"a new Pod, no status":           {schema.GroupResource{Resource: "pods"}, head + "spec: {}}", false, false},
	} {
		reduced, err := reduce(object(t, c.text))
		require.NoError(t, err)
		got := reduced.(*watched)
		assert.Equal(t, c.ready, got.isReady(c.kind), name)
		assert.Equal(t, c.scaledToZero, got.scaledToZero, name)
	}
	same, err := reduce("a tombstone of the cache")
	require.NoError(t, err)
	require.Equal(t, "a tombstone of the cache", same)
}

func TestResourceStaysReadyDuringItsGrace(t *testing.T) {
	s, _ := newTestState(t, fakeIndex{}, policy.Config{})
	now := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	require.False(t, s.readyOrInGrace("a", false, at(0)), "it never was ready")
	require.True(t, s.readyOrInGrace("a", true, at(1)))
	require.True(t, s.readyOrInGrace("a", false, at(60)), "its grace begins when it is seen unready")
	require.Equal(t, 10*time.Second, s.recheck)
	require.True(t, s.readyOrInGrace("a", true, at(65)))
	require.True(t, s.readyOrInGrace("a", false, at(66)), "a new grace begins")
	require.True(t, s.readyOrInGrace("a", false, at(75)))
	require.False(t, s.readyOrInGrace("a", false, at(76)))
	require.False(t, s.readyOrInGrace("a", false, at(77)), "a grace brings nothing back")
}
