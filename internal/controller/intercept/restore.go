package intercept

// What `mirrorgate uninstall` does to Services, without a controller or an Index.

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	interception "github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Held says whether the selector of a Service is one that we gave it.
func Held(o *corev1.Service) bool {
	d := restored(o, nil)
	return d.Lost || !agrees(o, &d)
}

// restored is the decision that a Service gets its own selector back.
func restored(o *corev1.Service, origin map[string]string) interception.Decision {
	s := objects.Read(o)
	return interception.Decide(s, s, &interception.View{Origin: origin})
}

// Restore gives a Service its own selector back. A webhook that an API server has not yet heard the end
// of may take it away again, so the answer is checked, and the write repeated.
func Restore(ctx context.Context, services Services, name Name) error {
	var why error
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		o, err := services.Get(ctx, name)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		d := restored(o, nil)
		if d.Lost {
			origin, err := services.Get(ctx, Name{Namespace: name.Namespace, Name: wellknown.OriginName(name.Name)})
			if err == nil && origin.Labels[wellknown.ParentLabel] == wellknown.ParentValue(name.Name) {
				d = restored(o, origin.Spec.Selector)
			}
		}
		switch {
		case d.Lost:
			return false, fmt.Errorf("%s; apply its manifest again", d.Why)
		case agrees(o, &d) && !claims(o):
			return true, nil
		}
		if !agrees(o, &d) {
			after, err := services.Patch(ctx, name, Write(o, &d))
			if err != nil {
				why = err
				return false, unlessConflict(err)
			}
			if claims(after) {
				if _, err := services.Patch(ctx, name, GiveBack(after, o.ManagedFields)); err != nil {
					why = err
					return false, unlessConflict(err)
				}
			}
			why = errNotCarried
			return agrees(after, &d), nil
		}
		_, err = services.Patch(ctx, name, GiveBack(o, nil))
		return err == nil, unlessConflict(err)
	})
	if wait.Interrupted(err) && why != nil {
		err = why
	}
	if err != nil {
		return fmt.Errorf("give Service %s its selector back: %w", name, err)
	}
	return nil
}

func unlessConflict(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
