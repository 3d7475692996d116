// Package steer stops, resumes and holds the mirrors of a MirrorPolicy. It writes annotations of the policy and never a
// route; the leader reads them, and admission follows the policy's status.
package steer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

// The annotations by which people steer a policy.
const (
	resumeAnnotation = "mirrorgate.dev/resume"
	stopAnnotation   = "mirrorgate.dev/stop"
	stepAnnotation   = "mirrorgate.dev/step"
)

// fieldManager is the field manager of these writes.
const fieldManager = "mirrorgate-cli"

// maxReason is the largest length of a reason in bytes, as the status of a policy keeps it.
const maxReason = 1024

// Client writes to the MirrorPolicies of a namespace.
type Client struct {
	Policies  dynamic.ResourceInterface
	Namespace string
	// DryRun lets the API server check a write and store nothing.
	DryRun bool
}

// Resource is the resource of MirrorPolicies.
var Resource = v1alpha1.GroupVersion.WithResource("mirrorpolicies")

// ParseName parses NAME or mirrorpolicy/NAME, as kubectl prints it.
func ParseName(text string) (string, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found {
		kind, name = "mirrorpolicy", text
	}
	if !slices.Contains([]string{"mirrorpolicy", "mirrorpolicies", "mirrorpolicy." + v1alpha1.GroupVersion.Group}, strings.ToLower(kind)) || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("policy: Invalid value: %q: must be NAME or mirrorpolicy/NAME; what is steered is a MirrorPolicy, never a route", text)
	}
	return name, nil
}

// state is the part of a MirrorPolicy that steering reads.
type state struct {
	v1alpha1.MirrorPolicy
	stopped []stopped
}

type stopped struct {
	Time    metav1.Time `json:"time"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	target  string
}

// byHand is the reason of a stop that lasts as long as its annotation.
const byHand = "ByHand"

// Stop parks the mirrors of a policy while its annotation stands, with a reason for its readers.
func (c Client) Stop(ctx context.Context, name, reason string) (says string, err error) {
	if reason = strings.TrimSpace(reason); reason == "" {
		return "", errors.New(`reason: Required value: say why, for the person who finds the mirrors stopped: --reason "incident 42"`)
	}
	if len(reason) > maxReason {
		return "", fmt.Errorf("reason: Too long: may not be more than %d bytes", maxReason)
	}
	return c.annotate(ctx, name, func(p *state) (map[string]any, string, error) {
		before, is := p.Annotations[stopAnnotation]
		switch {
		case is && before == reason:
			return nil, "is stopped already", nil
		case is:
			return map[string]any{stopAnnotation: reason}, fmt.Sprintf("stays stopped; the reason was %q", before), nil
		}
		return map[string]any{stopAnnotation: reason}, "stopped", nil
	})
}

// Resume ends every stop of a policy, by hand and by failures.
func (c Client) Resume(ctx context.Context, name string) (says string, err error) {
	return c.annotate(ctx, name, func(p *state) (map[string]any, string, error) {
		set, ended := map[string]any{}, []string{}
		if reason, is := p.Annotations[stopAnnotation]; is {
			set[stopAnnotation] = nil
			ended = append(ended, fmt.Sprintf("stopped by hand: %q", reason))
		}
		var last time.Time
		for _, s := range p.stopped {
			if s.Reason == byHand {
				continue
			}
			if s.Time.After(last) {
				last = s.Time.Time
			}
			ended = append(ended, fmt.Sprintf("%s, %s at %s: %s", s.target, s.Reason, s.Time.UTC().Format(time.RFC3339), s.Message))
		}
		if !last.IsZero() {
			at := last.UTC().Format(time.RFC3339)
			if p.Annotations[resumeAnnotation] == at {
				return nil, "is resumed already; mirrorgate's leader has yet to say so in its status", nil
			}
			set[resumeAnnotation] = at
		}
		if len(set) == 0 {
			return nil, "", fmt.Errorf("nothing of MirrorPolicy %q in namespace %q is stopped%s", p.Name, p.Namespace, held(p))
		}
		return set, "resumed (" + strings.Join(ended, "; ") + ")", nil
	})
}

// held tells of a step that somebody holds, which a user may take for a stop.
func held(p *state) string {
	if step, is := p.Annotations[stepAnnotation]; is {
		return fmt.Sprintf("; its ramp is held at step %s, which `mirrorgate step %s auto` ends", printing.Shorten(step, 20), p.Name)
	}
	return ""
}

// Auto stands for a step that nobody holds.
const Auto = "auto"

// Step holds the ramp of a policy at a step, by its number from 1, or lets it go on with Auto.
func (c Client) Step(ctx context.Context, name, step string) (says string, err error) {
	n, err := strconv.Atoi(step)
	if step != Auto && err != nil {
		return "", fmt.Errorf("step: Invalid value: %q: must be the number of a step, from 1, or auto", step)
	}
	return c.annotate(ctx, name, func(p *state) (map[string]any, string, error) {
		before, is := p.Annotations[stepAnnotation]
		switch {
		case step == Auto && !is:
			return nil, "", fmt.Errorf("nobody holds the ramp of MirrorPolicy %q in namespace %q", p.Name, p.Namespace)
		case step == Auto:
			return map[string]any{stepAnnotation: nil}, "goes on from step " + before, nil
		case p.Spec.Ramp == nil || len(p.Spec.Ramp.Steps) == 0:
			return nil, "", fmt.Errorf("MirrorPolicy %q in namespace %q has no ramp", p.Name, p.Namespace)
		case n < 1 || n > len(p.Spec.Ramp.Steps):
			return nil, "", fmt.Errorf("step: Invalid value: %d: MirrorPolicy %q has %s", n, p.Name, stepsOf(p))
		case before == strconv.Itoa(n):
			return nil, "is held at step " + before + " already", nil
		}
		return map[string]any{stepAnnotation: strconv.Itoa(n)}, fmt.Sprintf("is held at step %d of %d, %s", n, len(p.Spec.Ramp.Steps), percentOf(&p.Spec.Ramp.Steps[n-1])), nil
	})
}

// stepsOf lists the steps of a policy: "3 steps: 1 %, 10 %, 100 %".
func stepsOf(p *state) string {
	var percents []string
	for i := range p.Spec.Ramp.Steps {
		percents = append(percents, percentOf(&p.Spec.Ramp.Steps[i]))
	}
	return fmt.Sprintf("%d steps: %s", len(percents), strings.Join(percents, ", "))
}

func percentOf(s *v1alpha1.RampStep) string {
	if s.Percent == nil {
		return "? %"
	}
	return strconv.FormatFloat(*s.Percent, 'f', -1, 64) + " %"
}

// annotate changes the annotations of a policy as decided by its state; a value of nil removes one. The write fails if
// somebody wrote the policy since it was read, and then it is decided again.
func (c Client) annotate(ctx context.Context, name string, decide func(*state) (map[string]any, string, error)) (says string, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		p, err := c.read(ctx, name)
		if err != nil {
			return err
		}
		var set map[string]any
		if set, says, err = decide(p); err != nil || len(set) == 0 {
			return err
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion, "annotations": set}})
		if err != nil {
			return err
		}
		opts := metav1.PatchOptions{FieldManager: fieldManager}
		if c.DryRun {
			opts.DryRun = []string{metav1.DryRunAll}
		}
		_, err = c.Policies.Patch(ctx, name, types.MergePatchType, body, opts)
		return err
	})
	return says, err
}

// read reads a policy. Where there is none of that name the error has those that there are.
func (c Client) read(ctx context.Context, name string) (*state, error) {
	u, err := c.Policies.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, c.missing(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	return parse(u)
}

// missing explains that there is no policy of a name.
func (c Client) missing(ctx context.Context, name string) error {
	list, err := c.Policies.List(ctx, metav1.ListOptions{Limit: 100})
	switch {
	case apierrors.IsNotFound(err):
		return errors.New("the cluster has no MirrorPolicies: its CustomResourceDefinitions come with the component policy, or crds.enabled of the chart")
	case err != nil:
		return fmt.Errorf("no MirrorPolicy is called %q in namespace %q", name, c.Namespace)
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.GetName())
	}
	hint := "it has none"
	if near := printing.Nearest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	} else if len(names) > 0 {
		hint = "it has " + strings.Join(names[:min(len(names), 10)], ", ")
	}
	return fmt.Errorf("no MirrorPolicy is called %q in namespace %q; %s", name, c.Namespace, hint)
}

func parse(u *unstructured.Unstructured) (*state, error) {
	raw, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var p state
	var status struct {
		Status struct {
			Targets []struct {
				TargetRef v1alpha1.TargetRef `json:"targetRef"`
				Stopped   *stopped           `json:"stopped"`
			} `json:"targets"`
		} `json:"status"`
	}
	if err := errors.Join(json.Unmarshal(raw, &p.MirrorPolicy), json.Unmarshal(raw, &status)); err != nil {
		return nil, fmt.Errorf("read MirrorPolicy %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	for _, t := range status.Status.Targets {
		if t.Stopped != nil {
			t.Stopped.target = t.TargetRef.Kind + " " + t.TargetRef.Name
			p.stopped = append(p.stopped, *t.Stopped)
		}
	}
	return &p, nil
}
