package dataplane

// Tokens of a real API server, against the server of reports: who may report, and about which namespace.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// issuer makes tokens.
type issuer struct {
	t      *testing.T
	client kubernetes.Interface
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", env.Kubeconfig)
	require.NoError(t, err)
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return issuer{t, client}
}

// account makes a ServiceAccount, and a pod that runs as it.
func (i issuer) account(namespace, name string) *corev1.Pod {
	i.t.Helper()
	env.MustKubectl(i.t, "", "-n", namespace, "create", "serviceaccount", name)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "proxy-"},
		Spec:       corev1.PodSpec{ServiceAccountName: name, Containers: []corev1.Container{{Name: "proxy", Image: "proxy"}}},
	}
	pod, err := i.client.CoreV1().Pods(namespace).Create(i.t.Context(), pod, metav1.CreateOptions{})
	require.NoError(i.t, err)
	return pod
}

// token is one for an audience, the API server's own if it is "". It is bound to the pod unless that is nil.
func (i issuer) token(namespace, account, audience string, pod *corev1.Pod) string {
	i.t.Helper()
	request := &authenticationv1.TokenRequest{}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	got, err := i.client.CoreV1().ServiceAccounts(namespace).CreateToken(i.t.Context(), account, request, metav1.CreateOptions{})
	require.NoError(i.t, err)
	return got.Status.Token
}

func TestTokensOfARealAPIServer(t *testing.T) {
	issue := newIssuer(t)
	ns, other := env.Namespace(t), env.Namespace(t)
	proxy, stranger := issue.account(ns, wellknown.ProxyAccount), issue.account(ns, "stranger")
	neighbour := issue.account(other, wellknown.ProxyAccount)

	counters := report.NewCounters()
	newServer := func() *report.Server {
		s := report.New(report.Options{
			Reviews: issue.client.AuthenticationV1().TokenReviews(), Sections: map[string]report.Section{report.Mirrors: counters}, Log: logr.Discard(),
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Lead(ctx) }()
		t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
		return s
	}
	server := newServer()
	process := 0
	post := func(token string) (int, string) {
		t.Helper()
		process++
		body, err := json.Marshal(&report.Report{
			Version: report.Version, Service: "web", Process: fmt.Sprint("p", process), Sequence: 1,
			Sections: map[string]json.RawMessage{report.Mirrors: []byte(`[{"route": "HTTPRoute/web", "rule": "0", "target": "x/v2:80", "ok": 1}]`)},
		})
		require.NoError(t, err)
		request := httptest.NewRequest(http.MethodPost, report.Path, bytes.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, request)
		return w.Code, w.Body.String()
	}
	good := issue.token(ns, wellknown.ProxyAccount, report.Audience, proxy)
	require.Eventually(t, func() bool { status, _ := post(good); return status == http.StatusOK }, harness.Wait, 50*time.Millisecond)
	assert.Len(t, counters.Of(ns, "HTTPRoute/web"), 1)
	assert.Empty(t, counters.Of(other, "HTTPRoute/web"))

	status, _ := post(issue.token(other, wellknown.ProxyAccount, report.Audience, neighbour))
	assert.Equal(t, http.StatusOK, status)
	assert.Len(t, counters.Of(other, "HTTPRoute/web"), 1, "a token counts for its own namespace")

	issue.account(ns, "ended")
	for name, token := range map[string]string{
		"another audience":            issue.token(ns, wellknown.ProxyAccount, "vault", proxy),
		"the API server's audience":   issue.token(ns, wellknown.ProxyAccount, "", proxy),
		"another account":             issue.token(ns, "stranger", report.Audience, stranger),
		"another account, unbound":    issue.token(ns, "ended", report.Audience, nil),
		"a signature that was forged": good[:strings.LastIndex(good, ".")+1] + strings.Repeat("A", 342),
		"none":                        "",
	} {
		status, text := post(token)
		assert.Equal(t, http.StatusUnauthorized, status, "%s: %s", name, text)
	}

	// A token ends with its pod, as it does by its time.
	zero := int64(0)
	require.NoError(t, issue.client.CoreV1().Pods(ns).Delete(t.Context(), proxy.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero}))
	server = newServer() // one that remembers nothing
	require.Eventually(t, func() bool { status, _ := post(good); return status == http.StatusUnauthorized }, harness.Wait, 50*time.Millisecond)
}
