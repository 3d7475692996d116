package serve

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The lease over client-go's fake clientset; losing it for real is tested in test/integration/gate.
func fakeLease(t *testing.T, identity string, clientset *fake.Clientset) resourcelock.Interface {
	t.Helper()
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, "ns", "mirrorgate",
		clientset.CoreV1(), clientset.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: identity})
	require.NoError(t, err)
	return lock
}

func holder(ctx context.Context, t *testing.T, clientset *fake.Clientset) string {
	t.Helper()
	lease, err := clientset.CoordinationV1().Leases("ns").Get(ctx, "mirrorgate", metav1.GetOptions{})
	require.NoError(t, err)
	return *lease.Spec.HolderIdentity
}

func TestLeaderThatFailsGivesTheLeaseBackAndSaysWhy(t *testing.T) {
	clientset := fake.NewClientset()
	broken := errors.New("broken")
	err := leadership{fakeLease(t, "a", clientset), func(context.Context) error { return broken }}.Start(t.Context())
	require.ErrorIs(t, err, broken)
	assert.Empty(t, holder(t.Context(), t, clientset))
}

func TestLeaderThatIsToldToEndGivesTheLeaseBackAfterItsWork(t *testing.T) {
	clientset := fake.NewClientset()
	ctx, cancel := context.WithCancel(t.Context())
	var ended atomic.Bool
	err := leadership{fakeLease(t, "a", clientset), func(ctx context.Context) error {
		assert.Equal(t, "a", holder(ctx, t, clientset))
		cancel()
		<-ctx.Done()
		ended.Store(true)
		return nil
	}}.Start(ctx)
	require.NoError(t, err)
	assert.True(t, ended.Load())
	assert.Empty(t, holder(t.Context(), t, clientset))
}
