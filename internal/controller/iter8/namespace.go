package iter8

// A space is a namespace with documents in it. They are looked at one after the other, the
// oldest first, so that of two which want the same route the older makes it. Who has made it
// keeps it: it says so itself.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// space is used by one worker at a time.
type namespaceState struct {
	run       *run
	namespace string
	watches   *watches
	readiness map[types.UID]*readiness
	read      map[types.UID]*document
	routes    map[claim]*applied

	// Of the look that is under way: its number, what is to be watched, which claims there are, which
	// routes have their document, and when to look again (0 for never).
	look   int
	needed map[schema.GroupVersionResource]bool
	wanted map[claim]bool
	held   map[route.Key]bool
	next   time.Duration
}

// document is a ConfigMap as it was read.
type document struct {
	cm *corev1.ConfigMap
	documents.Document
	wrong *problem
	// reported are the problems that Events were written about, by reason.
	reported *events.News[string]
	// made is what templates made last.
	made *rendering
}

// rendering is what the templates of a routemap make of weights.
type rendering struct {
	weights []uint32
	objects []map[string]any
	wrong   []string
	at      time.Time
}

// render fills in the templates, again only for other weights: templates of strangers may take
// their time. A failure is tried again at leisure.
func (d *document) render(weights []uint32, now time.Time) *rendering {
	last := d.made
	if last != nil && slices.Equal(last.weights, weights) && (len(last.wrong) == 0 || now.Sub(last.at) < slowRetry) {
		return last
	}
	d.made = &rendering{weights: weights, at: now}
	for i := range d.Routemap.Templates {
		object, err := d.Routemap.Render(&d.Routemap.Templates[i], weights)
		switch {
		case err != nil:
			d.made.wrong = append(d.made.wrong, err.Error())
		case object != nil:
			d.made.objects = append(d.made.objects, object)
		}
	}
	return d.made
}

func newNamespaceState(r *run, namespace string) *namespaceState {
	return &namespaceState{
		run: r, namespace: namespace,
		watches: &watches{
			client: r.objects, namespace: namespace, changed: func() { r.loop.Add(namespace) },
			running: map[schema.GroupVersionResource]*watch{},
		},
		readiness: map[types.UID]*readiness{}, read: map[types.UID]*document{}, routes: map[claim]*applied{},
	}
}

// again looks again after d at the latest.
func (s *namespaceState) again(d time.Duration) {
	if s.next == 0 || d < s.next {
		s.next = max(d, time.Millisecond)
	}
}

// reconcile looks at all documents, and returns when to look again.
func (s *namespaceState) reconcile(ctx context.Context, configmaps []*corev1.ConfigMap) time.Duration {
	s.look++
	s.needed, s.wanted, s.held, s.next = map[schema.GroupVersionResource]bool{}, map[claim]bool{}, map[route.Key]bool{}, 0
	docs := s.readAll(configmaps)
	subjects := s.subjects(docs)
	var plans []*plan
	for _, d := range docs {
		if d.wrong == nil && d.cm.DeletionTimestamp == nil && d.Subject == nil {
			plans = append(plans, s.plan(d, subjects))
		}
	}
	s.watches.keep(s.run.ctx, s.needed)
	for _, p := range plans {
		s.serve(ctx, p)
	}
	for _, d := range docs {
		if d.wrong != nil {
			s.tell(d, d.wrong)
		}
	}
	s.tidy()
	s.run.opts.Metrics.count(s.namespace, docs)
	return s.next
}

// readAll reads the ConfigMaps that are new.
func (s *namespaceState) readAll(configmaps []*corev1.ConfigMap) []*document {
	before := s.read
	s.read = map[types.UID]*document{}
	docs := make([]*document, len(configmaps))
	for i, cm := range configmaps {
		d := before[cm.UID]
		if d == nil || d.cm.ResourceVersion != cm.ResourceVersion {
			next := &document{cm: cm, reported: &events.News[string]{}}
			if d != nil {
				next.reported = d.reported
			}
			d = next
			var errs error
			found, list := documents.Read(documents.Source{Namespace: cm.Namespace, Name: cm.Name, Labels: cm.Labels, Data: cm.Data})
			if errs = list.ToAggregate(); errs != nil {
				d.wrong = problemf("DocumentInvalid", "%v", errs)
			} else {
				d.Document = found
			}
		}
		s.read[cm.UID], docs[i] = d, d
	}
	return docs
}

// subjects are the apps by their names; of two with the same name the older counts.
func (s *namespaceState) subjects(docs []*document) map[string]*document {
	found := map[string]*document{}
	for _, d := range docs {
		if d.Subject == nil || d.cm.DeletionTimestamp != nil {
			continue
		}
		if other := found[d.Subject.Owner]; other != nil {
			s.tell(d, problemf("SubjectTaken", "ConfigMap %q is the subject %q already: this one is not used", other.cm.Name, d.Subject.Owner))
			continue
		}
		d.reported.Forget("SubjectTaken")
		found[d.Subject.Owner] = d
	}
	return found
}

// plan is what one document needs before it can be served.
type plan struct {
	*document
	subject *documents.Subject
	// resources are those of each variant, kinds what they are.
	resources [][]documents.Resource
	kinds     [][]schema.GroupVersionResource
	problem   *problem
}

func (s *namespaceState) plan(d *document, subjects map[string]*document) *plan {
	p := &plan{document: d}
	var about *document
	switch {
	case d.Routemap != nil:
		for _, v := range d.Routemap.Versions {
			p.resources = append(p.resources, v.Resources)
		}
	default:
		if about = subjects[d.Policy.Owner]; about == nil {
			p.problem = problemf("SubjectNotFound", "spec.trigger.owner: there is no subject %q in this namespace: "+
				"the route has no mirror, and is not made, until there is one", d.Policy.Owner)
			break
		}
		p.subject = about.Subject
		if n := len(about.Subject.Variants); d.Policy.Variant > n {
			p.problem = problemf("VariantNotFound", "spec.trigger.update: the subject in ConfigMap %q has %d variants, and no variant/%d",
				about.cm.Name, n, d.Policy.Variant)
			break
		}
		p.resources = [][]documents.Resource{about.Subject.Variants[d.Policy.Variant-1]}
	}
	for _, resources := range p.resources {
		kinds, wrong := s.resolve(resources)
		if wrong != nil && p.problem == nil {
			if about != nil {
				wrong.note = fmt.Sprintf("subject in ConfigMap %q: %s", about.cm.Name, wrong.note)
			}
			p.problem = wrong
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

func (p *plan) routeKinds() []route.Kind {
	if p.Routemap == nil {
		return []route.Kind{route.HTTPRoute}
	}
	var kinds []route.Kind
	for i := range p.Routemap.Templates {
		kinds = append(kinds, p.Routemap.Templates[i].Kind())
	}
	return kinds
}

// serve brings the routes of a document to what it says.
func (s *namespaceState) serve(ctx context.Context, p *plan) {
	if p.problem == nil {
		for _, kinds := range p.kinds {
			if p.problem = s.known(kinds); p.problem != nil {
				break
			}
		}
	}
	switch {
	case p.problem != nil && p.problem.reason == "": // a moment's
		s.run.opts.Log.V(1).Info("a document waits", "namespace", s.namespace, "name", p.cm.Name, "why", p.problem.note)
		s.keepRoutes(p)
		return
	case p.problem != nil:
		s.tell(p.document, p.problem)
		s.again(slowRetry)
	default:
		p.reported.Forget("SubjectNotFound", "VariantNotFound", "UnknownResource", "CannotWatch")
	}
	if p.Routemap != nil {
		s.serveRoutemap(ctx, p)
		return
	}
	w := &wish{document: p.document, object: p.Policy.Route(s.namespace), existing: p.subject == nil}
	if p.problem != nil {
		w.away = p.problem.note
	} else if is, why := s.there(p.resources[0], p.kinds[0], time.Now()); !is {
		w.away = fmt.Sprintf("variant %d is not there: %s", p.Policy.Variant, why)
	}
	s.want(ctx, w)
}

func (s *namespaceState) serveRoutemap(ctx context.Context, p *plan) {
	if p.problem != nil {
		s.letRoutes(p) // a weight that is a guess is worse than the last one that was known
		return
	}
	now := time.Now()
	there, annotated := make([]bool, len(p.resources)), make([]*uint32, len(p.resources))
	var invalid []string
	for i, resources := range p.resources {
		there[i], _ = s.there(resources, p.kinds[i], now)
		var err error
		if annotated[i], err = s.weight(resources, p.kinds[i]); err != nil {
			invalid = append(invalid, err.Error())
		}
	}
	if len(invalid) > 0 {
		s.tell(p.document, problemf("WeightInvalid", "%s", strings.Join(invalid, "; ")))
	} else {
		p.reported.Forget("WeightInvalid")
	}
	weights := p.Routemap.Weights(there, annotated)
	made := p.render(weights, now)
	for _, object := range made.objects {
		s.want(ctx, &wish{document: p.document, object: runtime.DeepCopyJSON(object)})
	}
	if len(made.wrong) > 0 {
		s.tell(p.document, problemf("TemplateFailed", "%s", strings.Join(made.wrong, "; ")))
		s.letRoutes(p)
		s.again(slowRetry)
		return
	}
	p.reported.Forget("TemplateFailed")
}

// keepRoutes leaves the routes of a document as they are, for now.
func (s *namespaceState) keepRoutes(p *plan) {
	for c := range s.routes {
		if c.by == p.cm.UID {
			s.wanted[c] = true
		}
	}
}

// letRoutes leaves the routes of a document that they cannot follow as they are, to be gated
// like anybody's.
func (s *namespaceState) letRoutes(p *plan) {
	for c := range s.routes {
		if c.by == p.cm.UID && !s.wanted[c] {
			s.wanted[c] = true
			s.unmanage(c.key)
		}
	}
}

// unmanage gives a route up, unless another document has it.
func (s *namespaceState) unmanage(key route.Key) {
	if !s.held[key] {
		s.run.unmanage(key)
	}
}

// tidy forgets what no document speaks of any more.
func (s *namespaceState) tidy() {
	for c := range s.routes {
		if !s.wanted[c] {
			delete(s.routes, c)
			s.unmanage(c.key)
		}
	}
	for uid, r := range s.readiness {
		if r.look != s.look {
			delete(s.readiness, uid)
		}
	}
}

// forget is for a namespace without documents.
func (s *namespaceState) forget() {
	s.wanted, s.held = nil, nil
	s.tidy()
	s.run.opts.Metrics.count(s.namespace, nil)
}
