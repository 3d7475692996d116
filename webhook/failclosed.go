package webhook

// An installation begins with a validating webhook that lets through what it
// cannot judge. It is closed here, after a write that must be denied was.

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
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// How often an installation is looked at: soon until it is proved, then now and
// then, because whoever applies the manifests again opens it again, and because kinds
// of routes come later.
const (
	armSoon  = 2 * time.Second
	armLater = 10 * time.Second
)

// Arming moves the validating webhooks of an installation from failure policy
// Ignore to Fail, one by one, each after it denied a write in a dry run.
type Arming struct {
	Client kubernetes.Interface
	// Configuration is the name of the ValidatingWebhookConfiguration.
	Configuration string
	// Namespace is where the writes are tried; the webhooks must be called for it.
	Namespace string
	// Registry gets mirrorgate_webhook_armed; nil for none.
	Registry prometheus.Registerer
	Log      logr.Logger

	armed *prometheus.GaugeVec
	said  map[string]string
}

// proofs are, for each kind of webhook, the resources of which one that the
// cluster serves must be denied: a mirror of a backend to itself, which no later
// event can repair and no schema knows.
var proofs = map[string][]proof{
	"gateway.validate.mirrorgate.dev": {
		{"gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute", gatewayProof},
	},
	"istio.validate.mirrorgate.dev": {
		{"networking.istio.io/v1", "virtualservices", "VirtualService", istioProof},
	},
}

const (
	gatewayProof = `{"rules":[{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"mirrorgate-probe","port":80}}}],` +
		`"backendRefs":[{"name":"mirrorgate-probe","port":80}]}]}`
	istioProof = `{"hosts":["mirrorgate-probe"],"http":[{"route":[{"destination":{"host":"mirrorgate-probe","port":{"number":80}}}],` +
		`"mirror":{"host":"mirrorgate-probe","port":{"number":80}}}]}`
)

type proof struct{ apiVersion, resource, kind, spec string }

// Start looks at the configuration until ctx ends.
func (a *Arming) Start(ctx context.Context) error {
	a.said = map[string]string{}
	if a.Registry != nil && a.armed == nil {
		a.armed = prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirrorgate_webhook_armed",
			Help: "1 when a validating webhook was proved to deny and has failure policy Fail; told by the leader.",
		}, []string{"webhook"})
		a.Registry.MustRegister(a.armed)
	}
	if a.armed != nil {
		defer a.armed.Reset() // what another leader finds out is its to tell
	}
	for {
		pause := armLater
		if open := a.look(ctx); open {
			pause = armSoon
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
	}
}

// look proves and arms what is still open, and returns whether something stayed so.
func (a *Arming) look(ctx context.Context) (open bool) {
	api := a.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	have, err := api.Get(ctx, a.Configuration, metav1.GetOptions{})
	if err != nil {
		a.say(ctx, "configuration", fmt.Errorf("read ValidatingWebhookConfiguration %q: %w", a.Configuration, err))
		return true
	}
	changed := false
	for i := range have.Webhooks {
		w := &have.Webhooks[i]
		if w.FailurePolicy != nil && *w.FailurePolicy == admissionregistrationv1.Fail {
			a.tell(w.Name, 1)
			continue
		}
		a.tell(w.Name, 0)
		proved, err := a.prove(ctx, w.Name)
		a.say(ctx, w.Name, err)
		if !proved {
			open = open || err != nil // without the kind there is nothing to wait for
			continue
		}
		w.FailurePolicy, changed = new(admissionregistrationv1.Fail), true
	}
	if changed {
		if have, err = api.Update(ctx, have, metav1.UpdateOptions{FieldManager: FieldManager}); err != nil {
			a.say(ctx, "configuration", fmt.Errorf("move ValidatingWebhookConfiguration %q to Fail: %w", a.Configuration, err))
			return true
		}
		a.Log.Info("the validating webhooks deny: failure policy is now Fail", "configuration", a.Configuration)
		for _, w := range have.Webhooks {
			if *w.FailurePolicy == admissionregistrationv1.Fail {
				a.tell(w.Name, 1)
			}
		}
	}
	if err := a.disown(ctx, have); err != nil {
		a.say(ctx, "configuration", err)
		return true
	}
	return open
}

// disown gives up that the failure policy is ours: whoever applies the manifests
// again, with the Ignore that they hold, would meet a conflict.
func (a *Arming) disown(ctx context.Context, have *admissionregistrationv1.ValidatingWebhookConfiguration) error {
	fields := len(have.ManagedFields)
	have.ManagedFields = slices.DeleteFunc(have.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == FieldManager && e.FieldsV1 != nil && strings.Contains(e.FieldsV1.GetRawString(), `"f:failurePolicy"`)
	})
	if len(have.ManagedFields) == fields || len(have.ManagedFields) == 0 {
		return nil
	}
	_, err := a.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(ctx, have, metav1.UpdateOptions{FieldManager: FieldManager})
	if err != nil {
		return fmt.Errorf("give up the failure policy of ValidatingWebhookConfiguration %q: %w", a.Configuration, err)
	}
	return nil
}

// prove tells whether a webhook denied a write that must be denied. It is false
// without an error where the cluster serves none of its kinds.
func (a *Arming) prove(ctx context.Context, webhook string) (bool, error) {
	for _, p := range proofs[webhook] {
		err := a.try(ctx, p)
		var status apierrors.APIStatus
		switch {
		case err == nil:
			return false, fmt.Errorf("a %s that mirrors to itself was not denied in a dry run: the API server does not reach us, or trusts another CA; "+
				"failure policy stays Ignore", p.kind)
		case strings.Contains(err.Error(), fmt.Sprintf("admission webhook %q denied the request", webhook)):
			return true, nil
		case apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces":
			return false, fmt.Errorf("namespace %s, in which the webhook is tried, does not exist: %w", a.Namespace, err)
		case apierrors.IsNotFound(err):
			continue // the cluster does not serve this kind
		default:
			return false, fmt.Errorf("try a %s: %w", p.kind, err)
		}
	}
	return false, nil
}

func (a *Arming) try(ctx context.Context, p proof) error {
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"apiVersion":%q,"kind":%q,"metadata":{"name":"mirrorgate-probe","namespace":%q},"spec":%s}`,
		p.apiVersion, p.kind, a.Namespace, p.spec)
	return a.Client.AdmissionregistrationV1().RESTClient().Verb(http.MethodPost).
		AbsPath("/apis/"+p.apiVersion+"/namespaces/"+a.Namespace, p.resource).
		Param("dryRun", metav1.DryRunAll).Param("fieldManager", FieldManager).
		SetHeader("Content-Type", "application/json").Body(body.Bytes()).Do(ctx).Error()
}

// say logs what is wrong when it is news.
func (a *Arming) say(ctx context.Context, what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.said[what] && ctx.Err() == nil {
		a.Log.Info("the validating webhook stays open", "webhook", what, "why", text)
	}
	a.said[what] = text
}

func (a *Arming) tell(webhook string, value float64) {
	if a.armed != nil {
		a.armed.WithLabelValues(webhook).Set(value)
	}
}
