package intercept

// The restoration of Services by `mirrorgate uninstall`, which has no controller and no index.

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Held reports whether a Service has a selector that mirrorgate gave it.
func Held(o *corev1.Service) bool {
	d := restored(o, nil)
	return d.Lost || !agrees(o, &d)
}

// restored returns the decision that a Service gets its own selector back.
func restored(o *corev1.Service, origin map[string]string) interception.Decision {
	s := objects.Read(o)
	return interception.Decide(s, s, &interception.View{Origin: origin})
}

// Restore gives a Service its own selector back, within 30 seconds. An API server that does not know yet that
// the webhook is removed may still call it, and the webhook would replace the selector again: so the answer
// is checked, and the write repeated.
func Restore(ctx context.Context, services Services, name Name) error {
	var lastErr error
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		err := restore(ctx, services, name)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || errors.Is(err, errNotCarried) {
			lastErr = err
			return false, nil
		}
		return err == nil, err
	})
	if wait.Interrupted(err) && lastErr != nil {
		err = lastErr
	}
	if err != nil {
		return fmt.Errorf("give Service %s its selector back: %w", name, err)
	}
	return nil
}

// restore tries it once. A Service that does not exist is no error.
func restore(ctx context.Context, services Services, name Name) error {
	o, err := services.Get(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	d := restored(o, nil)
	if d.Lost { // the Service that serves the origin has the selector as well
		origin, err := services.Get(ctx, Name{Namespace: name.Namespace, Name: wellknown.OriginName(name.Name)})
		if err == nil && origin.Labels[wellknown.ParentLabel] == wellknown.ParentValue(name.Name) {
			d = restored(o, origin.Spec.Selector)
		}
	}
	if d.Lost {
		return fmt.Errorf("%s; apply its manifest again", d.Why)
	}
	stored := o
	if !agrees(o, &d) {
		if stored, err = services.Patch(ctx, name, selectorPatch(o, &d)); err != nil {
			return err
		}
	}
	if err := disown(ctx, services, stored, o.ManagedFields); err != nil {
		return err
	}
	if !agrees(stored, &d) {
		return errNotCarried
	}
	return nil
}
