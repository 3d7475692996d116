package iter8

// From a document to the routes that it wants, by the state of its variants.

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// plan is a routing policy or a routemap with the resources that decide about its routes.
type plan struct {
	*document
	// subject is that of a routing policy, nil when there is none.
	subject *documents.Subject
	// resources are those of each variant or version, and kinds are their kinds.
	resources [][]documents.Resource
	kinds     [][]schema.GroupVersionResource
	// problem keeps the document from being served, nil for none.
	problem *problem
}

// plan finds the resources of a document, and needs them to be watched.
func (s *namespaceState) plan(d *document, subjects map[string]*document) *plan {
	p := &plan{document: d}
	var source *document // that of the subject
	if d.Routemap != nil {
		for _, v := range d.Routemap.Versions {
			p.resources = append(p.resources, v.Resources)
		}
	} else {
		source = subjects[d.Policy.Owner]
		p.problem = p.findVariant(source)
	}
	for _, resources := range p.resources {
		kinds, problem := s.resolve(resources)
		if problem != nil && p.problem == nil {
			if source != nil {
				problem.note = fmt.Sprintf("subject in ConfigMap %q: %s", source.cm.Name, problem.note)
			}
			p.problem = problem
		}
		p.kinds = append(p.kinds, kinds)
	}
	for _, kind := range p.routeKinds() {
		if gvr, err := s.run.routes.resource(s.run.kinds, kind); err == nil {
			s.needed[gvr] = true
		}
	}
	return p
}

// findVariant takes the resources of a routing policy's variant from its subject, which may be nil.
func (p *plan) findVariant(source *document) *problem {
	if source == nil {
		return problemf("SubjectNotFound", "spec.trigger.owner: there is no subject %q in this namespace: "+
			"the route has no mirror, and is not made, until there is one", p.Policy.Owner)
	}
	p.subject = source.Subject
	variants := source.Subject.Variants
	if p.Policy.Variant > len(variants) {
		return problemf("VariantNotFound", "spec.trigger.update: the subject in ConfigMap %q has %d variants, and no variant/%d",
			source.cm.Name, len(variants), p.Policy.Variant)
	}
	p.resources = [][]documents.Resource{variants[p.Policy.Variant-1]}
	return nil
}

func (p *plan) routeKinds() []route.Kind {
	if p.Routemap == nil {
		return []route.Kind{route.HTTPRoute}
	}
	var kinds []route.Kind
	for i := range p.Routemap.Templates {
		kinds = append(kinds, p.Routemap.Templates[i].Kind)
	}
	return kinds
}

// serve brings the stored routes of a document to the ones that it wants.
func (s *namespaceState) serve(ctx context.Context, p *plan) {
	for _, kinds := range p.kinds {
		if p.problem == nil {
			p.problem = s.checkListed(kinds)
		}
	}
	switch {
	case p.problem != nil && p.problem.reason == "": // it passes by itself
		s.run.opts.Log.V(1).Info("A document waits", "namespace", s.namespace, "name", p.cm.Name, "why", p.problem.note)
		s.keepRoutes(p)
		return
	case p.problem != nil:
		s.warn(p.document, p.problem)
		s.recheckIn(slowRetry)
	default:
		p.reported.Forget("SubjectNotFound", "VariantNotFound", "UnknownResource", "CannotWatch")
	}
	if p.Routemap != nil {
		s.serveRoutemap(ctx, p)
	} else {
		s.servePolicy(ctx, p)
	}
}

func (s *namespaceState) servePolicy(ctx context.Context, p *plan) {
	d := &desired{document: p.document, object: p.Policy.Route(s.namespace), updateOnly: p.subject == nil}
	if p.problem != nil {
		d.noMirrors = p.problem.note
	} else if ready, why := s.ready(p.resources[0], p.kinds[0], time.Now()); !ready {
		d.noMirrors = fmt.Sprintf("variant %d is not there: %s", p.Policy.Variant, why)
	}
	s.bring(ctx, d)
}

func (s *namespaceState) serveRoutemap(ctx context.Context, p *plan) {
	if p.problem != nil {
		s.abandonRoutes(p) // the weights that were known last are better than a guess
		return
	}
	now := time.Now()
	ready, annotated := make([]bool, len(p.resources)), make([]*uint32, len(p.resources))
	var invalid, away []string
	for i, resources := range p.resources {
		var why string
		if ready[i], why = s.ready(resources, p.kinds[i], now); !ready[i] {
			away = append(away, fmt.Sprintf("version %d is not there: %s", i+1, why))
		}
		var err error
		if annotated[i], err = s.annotatedWeight(resources, p.kinds[i]); err != nil {
			invalid = append(invalid, err.Error())
		}
	}
	s.warnAll(p.document, "WeightInvalid", invalid)
	result := p.render(p.Routemap.Weights(ready, annotated), now)
	for _, r := range result.routes {
		s.bring(ctx, &desired{document: p.document, object: runtime.DeepCopyJSON(r.object), rendered: r, away: strings.Join(away, "; ")})
	}
	s.warnAll(p.document, "TemplateFailed", result.errors)
	if len(result.errors) > 0 {
		s.abandonRoutes(p)
		s.recheckIn(slowRetry)
	}
}

// warnAll reports errors of one reason, or forgets that reason when there are none.
func (s *namespaceState) warnAll(d *document, reason string, errs []string) {
	if len(errs) == 0 {
		d.reported.Forget(reason)
		return
	}
	s.warn(d, problemf(reason, "%s", strings.Join(errs, "; ")))
}

// keepRoutes leaves the routes of a document as they are for now, and returns those that were not claimed
// yet.
func (s *namespaceState) keepRoutes(p *plan) (kept []route.Key) {
	for c := range s.routes {
		if c.document == p.cm.UID && !s.claimed[c] {
			s.claimed[c] = true
			kept = append(kept, c.key)
		}
	}
	return kept
}

// abandonRoutes leaves those routes as they are that the document does not describe at present. They are
// touched and parked like any other route.
func (s *namespaceState) abandonRoutes(p *plan) {
	for _, key := range s.keepRoutes(p) {
		s.unmanage(key)
	}
}
