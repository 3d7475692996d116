package check

// The checks of the objects that mirrorgate looks after: routes, policies, and Services with proxies in front of them.

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// listed is how many names a finding lists.
const listed = 5

func (v *View) routes(ctx context.Context) (found findings, err error) {
	routes, err := v.Routes(ctx)
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, r := range routes {
		if !r.AsDecided && !r.OptedOut {
			wrong = append(wrong, fmt.Sprintf("%s %s/%s", r.Kind, r.Namespace, r.Name))
		}
	}
	if len(wrong) > 0 {
		found.add(Warning, fmt.Sprintf("%d of %d routes have mirrors that are not where they should be: %s", len(wrong), len(routes), shorten(wrong)),
			"wait a moment; if it stays, mirrorgate status -A -o wide says why")
	}
	return found, nil
}

var mirrorPolicies = v1alpha1.GroupVersion.WithResource("mirrorpolicies")

// policies finds targets that a policy does not apply to, because an older policy has them or there is no such route.
// Without the CustomResourceDefinition there is nothing to find.
func (v *View) policies(ctx context.Context) (found findings, err error) {
	list, err := v.Objects.Resource(mirrorPolicies).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		var policy v1alpha1.MirrorPolicy
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &policy); err != nil {
			return nil, fmt.Errorf("MirrorPolicy %s/%s: %w", list.Items[i].GetNamespace(), list.Items[i].GetName(), err)
		}
		for _, target := range policy.Status.Targets {
			accepted := meta.FindStatusCondition(target.Conditions, v1alpha1.ConditionAccepted)
			if accepted == nil || accepted.Status != metav1.ConditionFalse {
				continue
			}
			found.add(Warning, fmt.Sprintf("MirrorPolicy %s/%s does not apply to %s %s: %s",
				policy.Namespace, policy.Name, target.TargetRef.Kind, target.TargetRef.Name, accepted.Message),
				"give each route one policy, and take the target out of the others; a route that comes later is found")
		}
	}
	return found, nil
}

func (v *View) services(ctx context.Context) (found findings, err error) {
	list, err := v.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var past []string
	for _, s := range list.Items {
		if s.Annotations[wellknown.SelectorAnnotation] != "" && !intercept.LeadsToProxies(s.Name, s.Spec.Selector) {
			past = append(past, s.Namespace+"/"+s.Name)
		}
	}
	if len(past) > 0 {
		found.add(Warning, fmt.Sprintf("%d Services lead past their proxies, so nothing is copied: %s", len(past), shorten(past)),
			"the Event Bypassed of each Service has the reason")
	}
	return found, nil
}

func (v *View) proxies(ctx context.Context) (found findings, err error) {
	list, err := v.Client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{LabelSelector: managed})
	if err != nil {
		return nil, err
	}
	for _, d := range list.Items {
		want := ptr.Deref(d.Spec.Replicas, 1)
		if d.Status.ReadyReplicas < want {
			found.add(Warning, fmt.Sprintf("%d of %d proxies of Service %s/%s are ready", d.Status.ReadyReplicas, want, d.Namespace, d.Labels[wellknown.ParentLabel]),
				"the Events of the Service, its pods and their ReplicaSet have the reason")
		}
	}
	return found, nil
}

// shorten returns the first names of a list.
func shorten(list []string) string {
	if len(list) > listed {
		return strings.Join(list[:listed], ", ") + ", …"
	}
	return strings.Join(list, ", ")
}
