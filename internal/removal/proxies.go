package removal

// Services with proxies in front of them: they get their own selector back, and when no client is led to the
// proxies any more, these are deleted.

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mirrorgate/mirrorgate/internal/controller/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	// releaseDelay is how long kube-proxy may take on every node until no client is led to proxies any more.
	releaseDelay = 10 * time.Second
	// maxDrain is how long proxies may take to end.
	maxDrain = 2 * time.Minute
)

// ofProxies selects the objects that belong to one Service, ofGrants the RoleBindings that let proxies of
// another namespace read.
const (
	ofProxies = wellknown.ManagedByLabel + "=" + wellknown.ManagedBy + "," + wellknown.ParentLabel
	ofGrants  = wellknown.ManagedByLabel + "=" + wellknown.ManagedBy + "," + wellknown.SourceLabel
)

// Services gives every Service that leads to proxies, or past them, its own selector back, and returns their
// names. A failure with one does not stop the others.
func (r Removal) Services(ctx context.Context) ([]string, error) {
	list, err := r.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	var found []string
	var errs []error
	for i := range list.Items {
		o := &list.Items[i]
		if !intercept.Held(o) {
			continue
		}
		name := intercept.Name{Namespace: o.Namespace, Name: o.Name}
		if !r.DryRun {
			if err := intercept.Restore(ctx, intercept.NewServices(r.Client.CoreV1()), name); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		found = append(found, name.String())
	}
	return found, errors.Join(errs...)
}

// Proxies deletes all proxies with the objects that belong to them, and returns the Services that they were
// for. It must not be called while a Service still leads to its proxies.
func (r Removal) Proxies(ctx context.Context) ([]string, error) {
	api := r.Client.AppsV1()
	list, err := api.Deployments("").List(ctx, metav1.ListOptions{LabelSelector: ofProxies})
	if err != nil {
		return nil, fmt.Errorf("list Deployments: %w", err)
	}
	var found []string
	for i := range list.Items {
		found = append(found, list.Items[i].Namespace+"/"+list.Items[i].Labels[wellknown.ParentLabel])
	}
	if r.DryRun {
		return found, nil
	}
	if len(found) > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(releaseDelay):
		}
	}
	for i := range list.Items {
		d := &list.Items[i]
		if err := gone(api.Deployments(d.Namespace).Delete(ctx, d.Name, only(d))); err != nil {
			return found, fmt.Errorf("delete Deployment %s/%s: %w", d.Namespace, d.Name, err)
		}
	}
	// Until they have ended they need the endpoints of the origins.
	err = wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, maxDrain, true, func(ctx context.Context) (bool, error) {
		pods, err := r.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: wellknown.ParentLabel, Limit: 1})
		return err == nil && len(pods.Items) == 0, err
	})
	if err != nil && !wait.Interrupted(err) {
		return found, fmt.Errorf("list pods of proxies: %w", err)
	}
	return found, r.deleteOrigins(ctx)
}

// deleteOrigins deletes the origins, which own the other objects in their namespace, and the RoleBindings in
// other namespaces.
func (r Removal) deleteOrigins(ctx context.Context) error {
	origins, err := r.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: ofProxies})
	if err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	var errs []error
	for i := range origins.Items {
		var o metav1.Object = &origins.Items[i]
		errs = append(errs, gone(r.Client.CoreV1().Services(o.GetNamespace()).Delete(ctx, o.GetName(), only(o))))
	}
	grants, err := r.Client.RbacV1().RoleBindings("").List(ctx, metav1.ListOptions{LabelSelector: ofGrants})
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list RoleBindings: %w", err))...)
	}
	for i := range grants.Items {
		var o metav1.Object = &grants.Items[i]
		errs = append(errs, gone(r.Client.RbacV1().RoleBindings(o.GetNamespace()).Delete(ctx, o.GetName(), only(o))))
	}
	return errors.Join(errs...)
}

// only returns options that delete this very object, not a later one of the same name.
func only(o metav1.Object) metav1.DeleteOptions {
	return *metav1.NewPreconditionDeleteOptions(string(o.GetUID()))
}

// gone drops the errors which mean that the object does not exist any more.
func gone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
