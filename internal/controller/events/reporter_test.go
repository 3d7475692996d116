package events

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
)

func TestLongNotesAreCutAtTheLimitOfTheAPI(t *testing.T) {
	recorder := events.NewFakeRecorder(2)
	r := NewReporter(recorder, "Mirror")
	r.Report(&corev1.ObjectReference{}, nil, "Normal", "MirrorParked", "%s", strings.Repeat("ä", 1000))
	note := strings.TrimPrefix(<-recorder.Events, "Normal MirrorParked ")
	require.LessOrEqual(t, len(note), 1024)
	require.True(t, strings.HasSuffix(note, "ä..."), "no character is cut in half")
	r.Report(&corev1.ObjectReference{}, nil, "Normal", "MirrorParked", "100%% of %s", "it")
	require.Equal(t, "Normal MirrorParked 100% of it", <-recorder.Events)
}

func TestReporterWithoutRecorderWritesNothing(t *testing.T) {
	NewReporter(nil, "Mirror").Report(&corev1.ObjectReference{}, nil, "Normal", "MirrorParked", "parked")
}

func TestTheSameTextIsNewsOnce(t *testing.T) {
	var n News[string]
	require.True(t, n.Is("a", "x"))
	require.False(t, n.Is("a", "x"))
	require.True(t, n.Is("b", "x"), "another subject")
	require.True(t, n.Is("a", "y"), "another text")
	n.Forget("a")
	require.True(t, n.Is("a", "y"), "it was forgotten")
	require.False(t, n.Is("b", "x"))
	n.Clear()
	require.True(t, n.Is("b", "x"))
}
