package iter8

// The documents of a namespace as they were read, with the result of their templates.

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
)

// document is a ConfigMap as it was read.
type document struct {
	cm *corev1.ConfigMap
	documents.Document
	// invalid is the reason why it cannot be served, nil for none.
	invalid *problem
	// reported are the problems that Events were written about, by reason.
	reported *events.News[string]
	// rendered is the latest result of its templates.
	rendered *rendering
}

// kind names the kind of a document in metrics.
func (d *document) kind() string {
	switch {
	case d.Subject != nil:
		return "subject"
	case d.Policy != nil:
		return "policy"
	case d.Routemap != nil:
		return "routemap"
	}
	return "invalid"
}

// readAll reads the ConfigMaps that are new or changed.
func (s *namespaceState) readAll(configmaps []*corev1.ConfigMap) []*document {
	before := s.documents
	s.documents = map[types.UID]*document{}
	docs := make([]*document, len(configmaps))
	for i, cm := range configmaps {
		d := before[cm.UID]
		if d == nil || d.cm.ResourceVersion != cm.ResourceVersion {
			d = read(cm, d)
		}
		s.documents[cm.UID], docs[i] = d, d
	}
	return docs
}

// read reads a ConfigMap; before is its earlier version, or nil.
func read(cm *corev1.ConfigMap, before *document) *document {
	d := &document{cm: cm, reported: &events.News[string]{}}
	if before != nil {
		d.reported = before.reported
	}
	doc, errs := documents.Read(documents.Source{Namespace: cm.Namespace, Name: cm.Name, Labels: cm.Labels, Data: cm.Data})
	if err := errs.ToAggregate(); err != nil {
		d.invalid = problemf("DocumentInvalid", "%v", err)
		return d
	}
	d.Document = doc
	return d
}

// subjects returns the subjects by their names; of two with the same name the older counts.
func (s *namespaceState) subjects(docs []*document) map[string]*document {
	found := map[string]*document{}
	for _, d := range docs {
		if d.Subject == nil || d.cm.DeletionTimestamp != nil {
			continue
		}
		if other := found[d.Subject.Owner]; other != nil {
			s.warn(d, problemf("SubjectTaken", "ConfigMap %q is the subject %q already: this one is not used", other.cm.Name, d.Subject.Owner))
			continue
		}
		d.reported.Forget("SubjectTaken")
		found[d.Subject.Owner] = d
	}
	return found
}

// rendering is the result of a routemap's templates for some weights.
type rendering struct {
	weights []uint32
	routes  []*rendered
	errors  []string
	at      time.Time
}

// rendered is the result of one template.
type rendered struct {
	template *documents.Template
	weights  []uint32
	object   map[string]any
	// reduced is the latest result without some of its mirrors.
	reduced *reduced
}

// render executes the templates if the weights have changed, since the templates of strangers may take a long
// time. A failure is retried after slowRetry.
func (d *document) render(weights []uint32, now time.Time) *rendering {
	last := d.rendered
	if last != nil && slices.Equal(last.weights, weights) && (len(last.errors) == 0 || now.Sub(last.at) < slowRetry) {
		return last
	}
	d.rendered = &rendering{weights: weights, at: now}
	for i := range d.Routemap.Templates {
		template := &d.Routemap.Templates[i]
		object, err := d.Routemap.Render(template, weights)
		switch {
		case err != nil:
			d.rendered.errors = append(d.rendered.errors, err.Error())
		case object != nil:
			d.rendered.routes = append(d.rendered.routes, &rendered{template: template, weights: weights, object: object})
		}
	}
	return d.rendered
}
