package iter8

import (
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	k8sevents "k8s.io/client-go/tools/events"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// invalidDocument is a ConfigMap about which an Event reports a problem whenever its namespace is served.
func invalidDocument(namespace string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "web", UID: "u", ResourceVersion: "1",
			Labels: map[string]string{documents.ManagedByLabel: documents.ManagedBy},
		},
		Data: map[string]string{"spec": "a: b"},
	}
}

func TestEachRunServesTheDocumentsOfAllNamespaces(t *testing.T) {
	client := fake.NewClientset(invalidDocument("shop"))
	recorder := k8sevents.NewFakeRecorder(20)
	c := &Controller{
		index: fakeIndex{}, clientset: client, events: events.NewReporter(recorder, "Route"),
		opts: Options{Metrics: NewMetrics(nil), Log: logr.Discard()},
	}
	keys := func() iter.Seq[string] { return slices.Values(c.run.Load().names()) }
	c.loop = loop.New("mirrorgate-iter8", c, loop.Options[string]{Keys: keys, Log: logr.Discard(), LogKey: "namespace"})
	eventually := func(condition func() bool, message string) {
		t.Helper()
		require.Eventually(t, condition, 10*time.Second, time.Millisecond, message)
	}
	has := func(namespace string) bool {
		_, ok := c.run.Load().states.Load(namespace)
		return ok
	}
	for range 2 {
		require.Nil(t, c.run.Load())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Start(ctx) }()
		require.Contains(t, <-recorder.Events, "DocumentInvalid")
		eventually(func() bool { return c.run.Load().complete.Load() }, "all documents were served")

		maps := client.CoreV1().ConfigMaps("later")
		_, err := maps.Create(ctx, invalidDocument("later"), metav1.CreateOptions{})
		require.NoError(t, err)
		require.Contains(t, <-recorder.Events, "DocumentInvalid")
		require.NoError(t, maps.Delete(ctx, "web", metav1.DeleteOptions{}))
		eventually(func() bool { return !has("later") }, "a namespace without documents is forgotten")
		require.True(t, c.run.Load().complete.Load())
		stop()
		require.NoError(t, <-done)
	}
}
