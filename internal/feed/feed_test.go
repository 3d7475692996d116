package feed

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// fakeRestarted is an API server that has restarted: it refuses to watch from any version that it gave out
// before.
type fakeRestarted struct {
	mu     sync.Mutex
	lists  []metav1.ListOptions
	events watch.Interface
}

func (f *fakeRestarted) List(_ context.Context, _ string, opts metav1.ListOptions) (*List, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists = append(f.lists, opts)
	return &List{ListMeta: metav1.ListMeta{ResourceVersion: "356"}}, nil
}

func (f *fakeRestarted) Watch(context.Context, string, metav1.ListOptions) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lists) < 3 {
		return nil, apierrors.NewResourceExpired("too old resource version")
	}
	return f.events, nil
}

func TestFeedListsTheNewestVersionAfterAnOutage(t *testing.T) {
	from := &fakeRestarted{events: watch.NewFake()}
	nothing := Sink{Set: func(*Item) {}, Remove: func(*Item) {}, Replace: func([]*Item) {}}
	f := Start(t.Context(), logr.Discard(), "routes", from, "", nothing)
	defer f.End()
	lists := func() []metav1.ListOptions {
		from.mu.Lock()
		defer from.mu.Unlock()
		return from.lists
	}
	require.Eventually(t, func() bool { return len(lists()) == 3 }, 10*time.Second, time.Millisecond, "an outage is over within seconds")
	for _, opts := range lists() {
		require.Empty(t, opts.ResourceVersion)
		require.EqualValues(t, PageSize, opts.Limit)
	}
}
