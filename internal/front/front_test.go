package front

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = Name{Namespace: "shop", Name: "web"}

func proxy(parent string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      map[string]string{wellknown.ParentLabel: parent, "app": wellknown.Sentinel(parent)},
			Annotations: map[string]string{wellknown.ServesAnnotation: `{"keys":["app"],"ports":[{"number":80}]}`},
		},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue},
		}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{wellknown.Label: wellknown.Enabled}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// Only proxies that are ready, and not ending, may be sent to; each counts for its own Service.
func TestWhichProxiesServe(t *testing.T) {
	s := New(dataplane.NewIndex(dataplane.Options{}), func() bool { return true })
	var told []Name
	s.Subscribe(func(parent Name) { told = append(told, parent) })
	put := func(name string, p *corev1.Pod) { s.Put(Name{Namespace: "shop", Name: name}, p) }
	put("ready", proxy("web", nil))
	put("unready", proxy("web", func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionFalse }))
	put("new", proxy("web", func(p *corev1.Pod) { p.Status.Conditions = nil }))
	put("ending", proxy("web", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }))
	put("other", proxy("other", nil))
	s.Put(Name{Namespace: "elsewhere", Name: "ready"}, proxy("web", nil))
	v := s.Look(service("web"))
	require.Len(t, v.Proxies, 1)
	assert.Equal(t, []intercept.Port{{Number: 80}}, v.Proxies[0].Serves.Ports)
	assert.Equal(t, 4, s.Pods(web))
	assert.Len(t, told, 6)
	assert.Contains(t, s.Names(), web)

	put("ready", proxy("other", nil))
	assert.Empty(t, s.Look(service("web")).Proxies, "another's by now")
	put("unready", nil)
	put("nobody", nil)
	assert.Len(t, told, 8, "of nobody there is nothing to tell")
	assert.Equal(t, 2, s.Pods(web))
}

// A list replaces all that was known.
func TestListOfPods(t *testing.T) {
	s := New(dataplane.NewIndex(dataplane.Options{}), func() bool { return true })
	item := func(name string) *feed.Item {
		return &feed.Item{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Record: read(proxy("web", nil))}
	}
	sink := s.sink()
	sink.Replace([]*feed.Item{item("a"), item("b")})
	require.Equal(t, 2, s.Pods(web))
	sink.Replace([]*feed.Item{item("b"), item("c")})
	require.Equal(t, 2, s.Pods(web))
	sink.Remove(item("c"))
	sink.Set(item("b"))
	require.Equal(t, 1, s.Pods(web))
	sink.Replace(nil)
	require.Zero(t, s.Pods(web))
	require.Empty(t, s.Names())
}

func TestNothingIsSaidBeforeAllIsKnown(t *testing.T) {
	s := New(dataplane.NewIndex(dataplane.Options{}), func() bool { return true })
	_, err := s.View(service("web"))
	require.ErrorIs(t, err, intercept.ErrNotSynced)
}
