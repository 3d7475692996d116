package dataplane

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// proxyPod is a pod of a parent's proxies, ready unless change says otherwise.
func proxyPod(full, parent string, change func(*corev1.Pod)) *corev1.Pod {
	n := name(full)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: n.Namespace, Name: n.Name,
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

func enabledService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{wellknown.Label: wellknown.Enabled}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// Only proxies that are ready, and not terminating, may receive requests; each counts for its own Service.
func TestWhichProxiesServe(t *testing.T) {
	w := newWorld(t)
	put := func(pods ...*corev1.Pod) {
		for _, p := range pods {
			require.NoError(t, w.Upsert(p))
		}
	}
	put(
		proxyPod("ready", "web", nil),
		proxyPod("unready", "web", func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionFalse }),
		proxyPod("new", "web", func(p *corev1.Pod) { p.Status.Conditions = nil }),
		proxyPod("terminating", "web", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		proxyPod("other", "other", nil),
		proxyPod("bank/ready", "web", nil),
	)
	v := w.View(enabledService())
	require.Len(t, v.Proxies, 1)
	assert.Equal(t, []intercept.Port{{Number: 80}}, v.Proxies[0].Serves.Ports)
	assert.Equal(t, 4, w.Pods(name("web")))
	assert.Len(t, w.changes, 6)
	assert.Contains(t, w.Parents(), name("web"))

	put(proxyPod("ready", "other", nil))
	assert.Empty(t, w.View(enabledService()).Proxies, "the pod has another parent now")
	w.Delete(KindPod, "shop", "unready")
	w.Delete(KindPod, "shop", "nobody")
	assert.Len(t, w.changes, 8, "a pod that is not known is no change")
	assert.Equal(t, 2, w.Pods(name("web")))
}

func TestListOfPodsReplacesAllPods(t *testing.T) {
	w := newWorld(t)
	replace := func(names ...string) {
		var pods []any
		for _, name := range names {
			pods = append(pods, proxyPod(name, "web", nil))
		}
		require.NoError(t, w.Replace(KindPod, pods...))
	}
	replace("a", "b")
	require.Equal(t, 2, w.Pods(name("web")))
	replace("b", "c")
	require.Equal(t, 2, w.Pods(name("web")))
	w.Delete(KindPod, "shop", "c")
	require.NoError(t, w.Upsert(proxyPod("b", "web", nil)))
	require.Equal(t, 1, w.Pods(name("web")))
	replace()
	require.Zero(t, w.Pods(name("web")))
	require.Empty(t, w.Parents())
}

func TestNoViewBeforeEverythingIsKnown(t *testing.T) {
	w := newWorld(t)
	synced := false
	s := Synced{w.Index, func() bool { return synced }}
	_, err := s.View(enabledService())
	require.ErrorIs(t, err, intercept.ErrNotSynced)
	synced = true
	_, err = s.View(enabledService())
	require.NoError(t, err)
}
