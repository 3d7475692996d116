package webhook

// Validating webhooks begin with failure policy Ignore, so that a broken installation blocks no write. This loop
// moves each to Fail after it has denied a write that must be denied.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// How often the configuration is checked: often while a webhook is still open, then less, because applying
// the manifests again opens them again, and because kinds of routes may be installed later.
const (
	checkNew    = 50 * time.Millisecond
	checkOpen   = 2 * time.Second
	checkClosed = 10 * time.Second
)

// FailClosed moves validating webhooks from failure policy Ignore to Fail, one by one, each after it denied a
// write in a dry run.
type FailClosed struct {
	Client kubernetes.Interface
	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
	// Namespace is the namespace of the dry runs; the webhooks must be called for it.
	Namespace string
	// Registry gets the metric mirrorgate_webhook_armed; may be nil.
	Registry prometheus.Registerer
	Log      logr.Logger

	closed *prometheus.GaugeVec
	logged map[string]string // the last problem of each webhook
}

// probes holds, for each webhook, an object that must be denied: a mirror of a backend to itself, which no
// later event can repair and no schema knows.
var probes = map[string]probe{
	"gateway.validate.mirrorgate.dev": {"gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute", gatewayProbe},
	"istio.validate.mirrorgate.dev":   {"networking.istio.io/v1", "virtualservices", "VirtualService", istioProbe},
}

const (
	gatewayProbe = `{"rules":[{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"mirrorgate-probe","port":80}}}],` +
		`"backendRefs":[{"name":"mirrorgate-probe","port":80}]}]}`
	istioProbe = `{"hosts":["mirrorgate-probe"],"http":[{"route":[{"destination":{"host":"mirrorgate-probe","port":{"number":80}}}],` +
		`"mirror":{"host":"mirrorgate-probe","port":{"number":80}}}]}`
)

type probe struct{ apiVersion, resource, kind, spec string }

// Try checks the configuration until every webhook whose kind the cluster serves is closed, or ctx ends. It logs
// no problem: the API server takes a moment to know a new configuration.
func (f *FailClosed) Try(ctx context.Context) {
	log := f.Log
	f.Log = logr.Discard()
	defer func() { f.Log = log }()
	f.begin()
	_ = wait.PollUntilContextCancel(ctx, checkNew, true, func(ctx context.Context) (bool, error) { return !f.check(ctx), nil })
}

func (f *FailClosed) begin() {
	f.logged = map[string]string{}
	if f.closed == nil {
		f.closed = promauto.With(f.Registry).NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirrorgate_webhook_armed",
			Help: "1 when a validating webhook was proved to deny and has failure policy Fail; reported by the leader.",
		}, []string{"webhook"})
	}
}

// Start checks the configuration again and again until ctx ends.
func (f *FailClosed) Start(ctx context.Context) error {
	f.begin()
	defer f.closed.Reset() // only the current leader reports
	for {
		pause := checkClosed
		if open := f.check(ctx); open {
			pause = checkOpen
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// check probes and closes the webhooks that are still open, and reports whether one stayed open.
func (f *FailClosed) check(ctx context.Context) (open bool) {
	api := f.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	have, err := api.Get(ctx, f.Configuration, metav1.GetOptions{})
	if err != nil {
		f.report(ctx, "configuration", fmt.Errorf("read ValidatingWebhookConfiguration %q: %w", f.Configuration, err))
		return true
	}
	changed := false
	for i := range have.Webhooks {
		w := &have.Webhooks[i]
		if w.FailurePolicy != nil && *w.FailurePolicy == admissionregistrationv1.Fail {
			f.closed.WithLabelValues(w.Name).Set(1)
			continue
		}
		f.closed.WithLabelValues(w.Name).Set(0)
		denies, err := f.denies(ctx, w.Name)
		f.report(ctx, w.Name, err)
		if !denies {
			open = open || err != nil // a kind that is not served needs no frequent checks
			continue
		}
		w.FailurePolicy, changed = new(admissionregistrationv1.Fail), true
	}
	if changed {
		if have, err = api.Update(ctx, have, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
			f.report(ctx, "configuration", fmt.Errorf("move ValidatingWebhookConfiguration %q to Fail: %w", f.Configuration, err))
			return true
		}
		f.Log.Info("The validating webhooks deny: failure policy is now Fail", "configuration", f.Configuration)
		for _, w := range have.Webhooks {
			if *w.FailurePolicy == admissionregistrationv1.Fail {
				f.closed.WithLabelValues(w.Name).Set(1)
			}
		}
	}
	if err := f.disown(ctx, have); err != nil {
		f.report(ctx, "configuration", err)
		return true
	}
	return open
}

// disown gives up the ownership of the failure policy: otherwise applying the manifests again, with the
// Ignore that they hold, would be a conflict.
func (f *FailClosed) disown(ctx context.Context, have *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	fields := len(have.ManagedFields)
	have.ManagedFields = slices.DeleteFunc(have.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == FieldManager && e.FieldsV1 != nil && strings.Contains(e.FieldsV1.GetRawString(), `"f:failurePolicy"`)
	})
	if len(have.ManagedFields) == fields || len(have.ManagedFields) == 0 {
		return nil
	}
	_, err := f.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, have, metav1.UpdateOptions{FieldManager: FieldManager})
	if err != nil {
		return fmt.Errorf("give up the failure policy of ValidatingWebhookConfiguration %q: %w", f.Configuration, err)
	}
	return nil
}

// Denies reports whether a validating webhook denies a write that must be denied, in a dry run. It is false
// without an error where the cluster serves none of its kinds.
func Denies(ctx context.Context, client kubernetes.Interface, namespace, webhook string) (bool, error) {
	return (&FailClosed{Client: client, Namespace: namespace}).denies(ctx, webhook)
}

// denies reports whether a webhook denied a write that must be denied. It is false without an error where the
// cluster serves none of its kinds.
func (f *FailClosed) denies(ctx context.Context, webhook string) (bool, error) {
	p, known := probes[webhook]
	if !known {
		return false, nil
	}
	err := f.dryRun(ctx, p)
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return false, fmt.Errorf("a %s that mirrors to itself was not denied in a dry run: the API server does not reach mirrorgate, or trusts another CA; "+
			"failure policy stays Ignore", p.kind)
	case strings.Contains(err.Error(), fmt.Sprintf("admission webhook %q denied the request", webhook)):
		return true, nil
	case apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces":
		return false, fmt.Errorf("namespace %s, in which the webhook is tried, does not exist: %w", f.Namespace, err)
	case apierrors.IsNotFound(err):
		return false, nil // the cluster does not serve this kind
	default:
		return false, fmt.Errorf("try a %s: %w", p.kind, err)
	}
}

func (f *FailClosed) dryRun(ctx context.Context, p probe) error {
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"apiVersion":%q,"kind":%q,"metadata":{"name":"mirrorgate-probe","namespace":%q},"spec":%s}`,
		p.apiVersion, p.kind, f.Namespace, p.spec)
	return f.Client.AdmissionregistrationV1().RESTClient().Verb(http.MethodPost).
		AbsPath("/apis/"+p.apiVersion+"/namespaces/"+f.Namespace, p.resource).
		Param("dryRun", metav1.DryRunAll).Param("fieldManager", FieldManager).
		SetHeader("Content-Type", "application/json").Body(body.Bytes()).Do(ctx).Error()
}

// report logs a problem unless it was the last one logged for the subject.
func (f *FailClosed) report(ctx context.Context, subject string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.logged[subject] && ctx.Err() == nil {
		f.Log.Info("The validating webhook stays open", "webhook", subject, "reason", text)
	}
	f.logged[subject] = text
}
