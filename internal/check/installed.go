package check

// The checks of an installation: its webhooks, certificate and replicas.

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
	"github.com/mirrorgate/mirrorgate/webhook"
)

const (
	// installation is the name of the Deployment, of its container and of the Lease.
	installation = "mirrorgate"
	// probeNamespace is that of the dry runs of an installation.
	probeNamespace = "mirrorgate-probe"
	// soon is how long before its end a certificate is a fault, and a sixth of its life if that is less: it is
	// renewed when a third of it is left.
	soon = 5 * 24 * time.Hour
	// silence is how long a leader may not have renewed its lease.
	silence = 30 * time.Second
)

// installation returns the Service that the API server calls, nil if there is none.
func (v *View) installation() *admissionregistrationv1.ServiceReference {
	for _, c := range v.registered {
		for _, h := range c.Hooks {
			if h.Client.Service != nil {
				return h.Client.Service
			}
		}
	}
	return nil
}

// names returns the names of the configurations with a webhook for a group.
func (v *View) names(validating bool, group string) (names []string) {
	for _, c := range v.registered {
		for _, h := range c.Hooks {
			if c.Validating == validating && slices.Contains(h.Groups, group) && !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

var groups = []string{route.GatewayGroup, route.IstioGroup}

func (v *View) webhooksRegistered(context.Context) (found findings, err error) {
	if v.registeredAt != nil {
		return nil, v.registeredAt
	}
	registered := 0
	for _, group := range groups {
		mutating, validating := v.names(false, group), v.names(true, group)
		registered += len(mutating) + len(validating)
		switch {
		case len(mutating) == 0 && len(validating) > 0:
			found.add(Error, "no mutating webhook for "+group+": mirrors are not parked, and do not come back", "apply the manifests again")
		case len(mutating) > 0 && len(validating) == 0:
			found.add(Error, "no validating webhook for "+group+": contradictions are stored", "apply the manifests again")
		}
	}
	for _, c := range v.registered {
		if c.URL() != "" && c.Hooks[0].Name == webhook.ReachWebhook {
			found.add(Error, "the API server does not reach "+c.URL()+", so mirrorgate serve registers nothing there",
				"the log of mirrorgate serve has the API server's own words")
			return found, nil
		}
	}
	if registered == 0 {
		found.add(Error, "no webhook of mirrorgate is registered", "install mirrorgate, or run mirrorgate serve --webhook-url")
	}
	return found, nil
}

func (v *View) oneMirrorgate(context.Context) (found findings, err error) {
	for _, group := range groups {
		if names := v.names(false, group); len(names) > 1 {
			found.add(Warning, fmt.Sprintf("%s decide about %s, perhaps by different policies", strings.Join(names, " and "), group),
				"keep one of them; mirrorgate uninstall removes all")
		}
	}
	return found, nil
}

// validating returns the validating webhooks of all configurations that are called for routes that the cluster
// serves.
func (v *View) validating() (hooks []webhook.Hook, err error) {
	for _, c := range v.registered {
		if !c.Validating {
			continue
		}
		for _, h := range c.Hooks {
			served, err := v.servesAny(h.Groups)
			if err != nil {
				return nil, err
			}
			if served {
				hooks = append(hooks, h)
			}
		}
	}
	return hooks, nil
}

// servesAny reports whether the cluster serves a kind of route of one of the groups.
func (v *View) servesAny(groups []string) (bool, error) {
	for _, k := range kinds[:3] {
		if !slices.Contains(groups, k.group) {
			continue
		}
		if versions, err := v.served(k.group, k.resource); err != nil || len(versions) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

func (v *View) webhooksAnswer(ctx context.Context) (found findings, err error) {
	hooks, err := v.validating()
	if err != nil {
		return nil, err
	}
	namespace, err := webhook.ProbeNamespace(ctx, v.Client, probeNamespace)
	if err != nil {
		return nil, err
	}
	// Webhooks of one name in two configurations cannot be told apart by a dry run.
	hooks = slices.CompactFunc(hooks, func(a, b webhook.Hook) bool { return a.Name == b.Name })
	for _, h := range hooks {
		denied, err := v.Denies(ctx, namespace, h.Name)
		switch {
		case denied, err == nil:
		case apierrors.IsForbidden(err) && !strings.Contains(err.Error(), "admission webhook"):
			return found, err
		default:
			found.add(Error, h.Name+": "+err.Error(), "a firewall between the API server and mirrorgate (port 9443 of its pods), or another CA: see the log of the API server")
		}
	}
	return found, nil
}

func (v *View) failClosed(context.Context) (found findings, err error) {
	hooks, err := v.validating()
	if err != nil {
		return nil, err
	}
	for _, h := range hooks {
		if h.FailurePolicy != admissionregistrationv1.Fail {
			found.add(Warning, h.Name+" has failure policy Ignore: while mirrorgate is away, contradictions are stored",
				"it becomes Fail within seconds after a dry run was denied; until then the log of the leader says why not")
		}
	}
	return found, nil
}

func (v *View) caBundle(context.Context) (found findings, err error) {
	for _, c := range v.registered {
		for _, h := range c.Hooks {
			cas, err := certificates(h.Client.CABundle)
			name := fmt.Sprintf("%s of %s %s", h.Name, c.Kind(), c.Name)
			switch {
			case err != nil:
				found.add(Error, fmt.Sprintf("the CA bundle of %s cannot be read: %v", name, err), "delete the bundle: it is written again")
			case len(cas) == 0:
				found.add(Error, name+" has no CA bundle, so the API server trusts no certificate of mirrorgate",
					"the leader or cert-manager's cainjector writes it: see their logs")
			default:
				found.expiry("the CA of "+name, slices.MaxFunc(cas, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }), v.Now())
			}
		}
	}
	return found, nil
}

// expiry adds a finding when a certificate has expired or soon will.
func (f *findings) expiry(name string, c *x509.Certificate, now time.Time) {
	switch end := c.NotAfter.UTC().Format(time.RFC3339); {
	case now.After(c.NotAfter):
		f.add(Error, fmt.Sprintf("%s expired at %s", name, end), "see the log of the leader: Cannot use or make the certificate")
	case now.Add(min(soon, c.NotAfter.Sub(c.NotBefore)/6)).After(c.NotAfter):
		f.add(Warning, fmt.Sprintf("%s expires at %s, and should have been renewed long before", name, end), "see the log of the leader: Cannot use or make the certificate")
	}
}

// certificates reads a PEM bundle, which may be empty.
func certificates(bundle []byte) ([]*x509.Certificate, error) {
	if len(bytes.TrimSpace(bundle)) == 0 {
		return nil, nil
	}
	return cert.ParseCertsPEM(bundle)
}

func (v *View) probeNamespace(ctx context.Context) (found findings, err error) {
	ns, err := v.Client.CoreV1().Namespaces().Get(ctx, probeNamespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		found.add(Error, "the namespace "+probeNamespace+" does not exist, so the validating webhooks cannot be proved to deny", "apply the manifests again")
	case err != nil:
		return nil, err
	case ns.Labels["mirrorgate.dev/admission"] == "disabled":
		found.add(Error, "the namespace "+probeNamespace+" has opted out, so the validating webhooks cannot be proved to deny",
			"kubectl label namespace "+probeNamespace+" mirrorgate.dev/admission-")
	}
	return found, nil
}

func (v *View) endpoints(ctx context.Context) (found findings, err error) {
	s := v.installation()
	if _, err := v.Client.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		found.add(Error, fmt.Sprintf("the Service %s/%s, which the API server calls, does not exist", s.Namespace, s.Name), "apply the manifests again, or run mirrorgate uninstall")
		return found, nil
	} else if err != nil {
		return nil, err
	}
	list, err := v.Client.DiscoveryV1().EndpointSlices(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + s.Name})
	if err != nil {
		return nil, err
	}
	for _, slice := range list.Items {
		if slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }) {
			return nil, nil
		}
	}
	found.add(Error, fmt.Sprintf("no replica is ready behind the Service %s/%s", s.Namespace, s.Name), "see the check replicas, and the pods' Events")
	return found, nil
}

// deployment returns the Deployment of the pods that the Service selects, which the chart may give another name.
func (v *View) deployment(ctx context.Context) (*appsv1.Deployment, error) {
	s := v.installation()
	service, err := v.Client.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil || len(service.Spec.Selector) == 0 {
		return v.Client.AppsV1().Deployments(s.Namespace).Get(ctx, installation, metav1.GetOptions{})
	}
	list, err := v.Client.AppsV1().Deployments(s.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	selector := labels.SelectorFromSet(service.Spec.Selector)
	for i := range list.Items {
		if selector.Matches(labels.Set(list.Items[i].Spec.Template.Labels)) {
			return &list.Items[i], nil
		}
	}
	return nil, apierrors.NewNotFound(appsv1.Resource("deployments"), installation)
}

func (v *View) replicas(ctx context.Context) (found findings, err error) {
	d, err := v.deployment(ctx)
	if apierrors.IsNotFound(err) {
		found.add(Error, fmt.Sprintf("the Deployment of mirrorgate in namespace %s does not exist", v.installation().Namespace), "apply the manifests again, or run mirrorgate uninstall")
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	found = v.ready(ctx, d)
	if len(found) == 0 && ptr.Deref(d.Spec.Replicas, 1) == 1 {
		found.add(Warning, "there is one replica: while it restarts, writes of mirrored routes are refused", "run two")
	}
	return found, nil
}

// interception checks the Deployment of `mirrorgate intercept`. It is needed where the webhook of Services is
// registered.
func (v *View) interception(ctx context.Context) (found findings, err error) {
	ofServices := func(h webhook.Hook) bool {
		s := h.Client.Service
		return s != nil && ptr.Deref(s.Path, "") == webhook.ServicesPath
	}
	if !slices.ContainsFunc(v.registered, func(r webhook.Registered) bool { return slices.ContainsFunc(r.Hooks, ofServices) }) {
		return nil, nil
	}
	s := v.installation()
	d, err := v.Client.AppsV1().Deployments(s.Namespace).Get(ctx, installation+"-intercept", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		found.add(Error, fmt.Sprintf("the Deployment %s/%s-intercept does not exist, so no Service gets proxies", s.Namespace, installation),
			"apply the manifests of no-mesh again")
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	return v.ready(ctx, d), nil
}

// ready reports the replicas of a Deployment that are not ready.
func (v *View) ready(ctx context.Context, d *appsv1.Deployment) (found findings) {
	want, ready := ptr.Deref(d.Spec.Replicas, 1), d.Status.ReadyReplicas
	text := fmt.Sprintf("%d of %d replicas are ready", ready, want)
	switch {
	case ready == 0:
		found.add(Error, text+v.unready(ctx, d), "the pods' Events and logs have the reason")
	case ready < want:
		found.add(Warning, text+v.unready(ctx, d), "the pods' Events and logs have the reason")
	}
	return found
}

// unready returns which parts of the unready pods are not ready, as far as the user may ask them.
func (v *View) unready(ctx context.Context, d *appsv1.Deployment) string {
	pods, err := v.Client.CoreV1().Pods(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set(d.Spec.Selector.MatchLabels).String()})
	if err != nil {
		return ""
	}
	var faults []string
	for _, p := range pods.Items {
		if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
			continue
		}
		// An answer of 500 is an error of the client, and its body the one that counts.
		body, _ := v.Client.CoreV1().Pods(p.Namespace).ProxyGet("http", p.Name, "8081", "readyz", map[string]string{"verbose": "true"}).DoRaw(ctx)
		for line := range strings.Lines(string(body)) {
			if part, is := strings.CutPrefix(line, "[-]"); is {
				faults = append(faults, p.Name+": "+strings.Fields(part)[0])
			}
		}
	}
	if len(faults) == 0 {
		return ""
	}
	return "; not ready: " + strings.Join(faults, ", ")
}

// certificate reads the Secret of mirrorgate's own certificate, or of cert-manager's; with files there is none. A
// Secret of a source that is no longer used may be there beside the one that the API server trusts.
func (v *View) certificate(ctx context.Context) (found findings, err error) {
	s := v.installation()
	for _, name := range []string{certs.SelfSecret, certs.IssuedSecret} {
		secret, err := v.Client.CoreV1().Secrets(s.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		chain, err := certificates(secret.Data[corev1.TLSCertKey])
		if err != nil || len(chain) == 0 {
			found.add(Error, fmt.Sprintf("the Secret %s/%s has no certificate that can be read", s.Namespace, name), "delete the Secret: a new one is made")
			continue
		}
		if v.trusted(chain[0], s.Name+"."+s.Namespace+".svc") {
			found = nil
			found.expiry(fmt.Sprintf("the certificate in Secret %s/%s", s.Namespace, name), chain[0], v.Now())
			return found, nil
		}
		found.add(Error, fmt.Sprintf("the API server does not trust the certificate in Secret %s/%s: it is by another CA, or for another name", s.Namespace, name),
			"restart the leader, which writes the CA bundle; with cert-manager, see the log of its cainjector")
	}
	return found, nil
}

// trusted reports whether every webhook of the installation has a CA for the certificate. Its time does not
// count.
func (v *View) trusted(leaf *x509.Certificate, host string) bool {
	for _, c := range v.registered {
		for _, h := range c.Hooks {
			if h.Client.Service == nil {
				continue
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(h.Client.CABundle)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: leaf.NotAfter.Add(-time.Second)}); err != nil {
				return false
			}
		}
	}
	return true
}

func (v *View) leader(ctx context.Context) (found findings, err error) {
	lease, err := v.Client.CoordinationV1().Leases(v.installation().Namespace).Get(ctx, installation, metav1.GetOptions{})
	hint := "see the logs of the replicas, and their right to write Leases"
	switch {
	case apierrors.IsNotFound(err) && v.leadsAlone(ctx):
	case apierrors.IsNotFound(err):
		found.add(Error, "no replica has ever led, so no mirror moves when its variant does", hint)
	case err != nil:
		return nil, err
	case lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "":
		found.add(Error, "no replica leads, so no mirror moves when its variant does", hint)
	case lease.Spec.RenewTime == nil || v.Now().Sub(lease.Spec.RenewTime.Time) > silence:
		found.add(Error, fmt.Sprintf("the leader %s is silent, so no mirror moves when its variant does", *lease.Spec.HolderIdentity), hint)
	}
	return found, nil
}

// leadsAlone reports whether the replicas run without an election, in which case there is no Lease. The last of
// several flags counts.
func (v *View) leadsAlone(ctx context.Context) bool {
	d, err := v.deployment(ctx)
	if err != nil {
		return false
	}
	elects := false
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, arg := range c.Args {
			if value, is := strings.CutPrefix(arg, "--leader-elect"); is && (value == "" || value[0] == '=') {
				elects = value == "" || value == "=true"
			}
		}
	}
	return !elects
}

func (v *View) version(ctx context.Context) (found findings, err error) {
	d, err := v.deployment(ctx)
	if apierrors.IsNotFound(err) || v.Version == "devel" {
		return nil, nil // the check replicas reports it
	}
	if err != nil {
		return nil, err
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		_, tag, tagged := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
		tag, _, _ = strings.Cut(tag, "@")
		if tagged && c.Name == installation && strings.TrimPrefix(tag, "v") != strings.TrimPrefix(v.Version, "v") {
			found.add(Warning, fmt.Sprintf("the cluster runs %s, and this program is %s: it may judge by other rules", tag, v.Version), "use the program of the same version")
		}
	}
	return found, nil
}

// managed selects the objects of the proxies in front of Services.
const managed = wellknown.ManagedByLabel + "=" + wellknown.ManagedBy + "," + wellknown.ParentLabel
