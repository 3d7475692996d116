package webhook

// The proof that the API server reaches a process by its URL. It comes before the registration, so that a URL
// that leads nowhere neither refuses nor delays a write of anybody.

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	// ReachPath is the path of the handler of the proof.
	ReachPath = "/reach"
	// ReachWebhook is the name of the webhook of the proof. Unlike the others it has failure policy Fail, since
	// the API server gives the reason of a failed call only then.
	ReachWebhook = "reach.mirrorgate.dev"
	// reachLabel is on the ConfigMap that the webhook of the proof is called for; its value is the registration's
	// name.
	reachLabel = wellknown.Prefix + "reach"
)

// RegisterReach mounts the handler of the proof, which denies everything.
func RegisterReach(server interface{ Register(string, http.Handler) }) {
	server.Register(ReachPath, newReviews(admission.HandlerFunc(func(context.Context, admission.Request) admission.Response {
		return admission.Denied("the API server reaches mirrorgate")
	}), processLimit))
}

// NotReachedError reports that the API server does not reach a URL, in the API server's own words.
type NotReachedError struct{ URL, Words string }

func (e *NotReachedError) Error() string {
	return fmt.Sprintf("The API server does not reach %s: %s", e.URL, e.Words)
}

// PrepareProof registers the webhook of the proof alone, in place of all that an earlier process with the same URL
// has left. It is called for nothing but dry runs of ConfigMaps with a label of the registration's.
func (r Registration) PrepareProof(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, v, err := r.configurations() // for the labels
	if err != nil {
		return err
	}
	v.Webhooks = []admissionregistrationv1.ValidatingWebhook{{
		Name: ReachWebhook, ClientConfig: r.client(ReachPath), AdmissionReviewVersions: []string{"v1"},
		SideEffects: new(admissionregistrationv1.SideEffectClassNone), FailurePolicy: new(admissionregistrationv1.Fail),
		TimeoutSeconds:    new(int32(3)),
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
		ObjectSelector:    &metav1.LabelSelector{MatchLabels: map[string]string{reachLabel: r.Name()}},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
		}},
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name: "dry-run", Expression: "has(request.dryRun) && request.dryRun",
		}},
	}}
	mutating := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if err := mutating.Delete(ctx, r.Name(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove what an earlier process registered: %w", err)
	}
	if err := store(ctx, client.AdmissionregistrationV1().ValidatingWebhookConfigurations(), v); err != nil {
		return fmt.Errorf("register the webhook %s: %w", ReachWebhook, err)
	}
	return nil
}

// Prove reports whether the API server has reached the handler of the proof. It is false without an error while
// the API server does not know the webhook of the proof yet.
func (r Registration) Prove(ctx context.Context, client kubernetes.Interface, namespace string) (bool, error) {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "mirrorgate-reach-", Namespace: namespace, Labels: map[string]string{reachLabel: r.Name()},
	}}
	_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: FieldManager})
	if err == nil {
		return false, nil
	}
	if strings.Contains(err.Error(), fmt.Sprintf("admission webhook %q denied the request", ReachWebhook)) {
		return true, nil
	}
	if _, words, failed := strings.Cut(err.Error(), fmt.Sprintf("failed calling webhook %q: ", ReachWebhook)); failed {
		return false, &NotReachedError{r.URL.String(), strings.TrimPrefix(words, "failed to call webhook: ")}
	}
	return false, fmt.Errorf("try whether the API server reaches %s: %w", r.URL, err)
}

// ProbeNamespace returns the namespace of the dry runs: the wanted one if it exists, else "default", which every
// cluster has.
func ProbeNamespace(ctx context.Context, client kubernetes.Interface, wanted string) (string, error) {
	_, err := client.CoreV1().Namespaces().Get(ctx, wanted, metav1.GetOptions{})
	switch {
	case err == nil:
		return wanted, nil
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return metav1.NamespaceDefault, nil
	default:
		return "", fmt.Errorf("read namespace %q: %w", wanted, err)
	}
}
