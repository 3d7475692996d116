package webhook

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// The alert takes the minimum over all replicas: one that no longer leads must not go on reporting old
// values.
func TestOnlyTheLeaderReportsWhichWebhooksAreClosed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	reported := func() int {
		n, err := testutil.GatherAndCount(registry, "mirrorgate_webhook_armed")
		require.NoError(t, err)
		return n
	}
	f := &FailClosed{
		Client: fake.NewClientset(&admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "mirrorgate"},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{
				{Name: "gateway.validate.mirrorgate.dev", FailurePolicy: new(admissionregistrationv1.Fail)},
				{Name: "of.somebody.else", FailurePolicy: new(admissionregistrationv1.Ignore)},
			},
		}),
		Configuration: "mirrorgate", Namespace: "mirrorgate-probe", Registry: registry,
	}
	for range 2 {
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Start(ctx) }()
		require.Eventually(t, func() bool { return reported() == 2 }, 10*time.Second, time.Millisecond)
		end()
		require.NoError(t, <-ended)
		require.Zero(t, reported())
	}
}
