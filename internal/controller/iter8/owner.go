package iter8

// Whose a stored route is: of a document that made it, or of somebody else, who may give its fields to a document
// with an annotation. Iter8 forced its fields into any route.

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// givenTo reports whether a route's owner lets a document set its fields.
func (o *watched) givenTo(document string) bool {
	return o != nil && o.Annotations[route.DocumentAnnotation] == document
}

// attachmentFields are the fields of a spec that say which clients see a route. A template that adds to a route of
// somebody else leaves them out.
var attachmentFields = []string{"hosts", "gateways", "exportTo", "parentRefs", "hostnames"}

// rulesField is the field of a spec that holds the rules of a route.
func rulesField(kind route.Kind) string {
	if kind == route.VirtualService {
		return "http"
	}
	return "rules"
}

// whole reports whether the route has clients of its own, so that a document can make it by itself.
func (d *desired) whole() bool {
	spec, _ := d.object["spec"].(map[string]any)
	return spec["hosts"] != nil || spec["parentRefs"] != nil
}

// offer says how the owner of a stored route gives its fields to the document.
func (d *desired) offer() string {
	key := d.key()
	text := fmt.Sprintf("To let this document set its %s, annotate it: kubectl -n %s annotate %s %s %s=%s",
		rulesField(key.Kind), key.Namespace, strings.ToLower(string(key.Kind)), key.Name, route.DocumentAnnotation, d.cm.Name)
	return text
}

// checkOwner fails if a stored route belongs to somebody else; live is nil if there is none.
func (s *namespaceState) checkOwner(d *desired, live *unstructured.Unstructured) *failure {
	if live == nil {
		if d.shared {
			return transient("%s is deleted", d.key())
		}
		return nil
	}
	key := d.key()
	giver := live.GetAnnotations()[route.DocumentAnnotation]
	switch {
	case live.GetDeletionTimestamp() != nil:
		return transient("%s is being deleted", key)
	case d.shared != (giver == d.cm.Name):
		return transient("annotation %s of %s changes", route.DocumentAnnotation, key)
	case d.shared:
		return d.checkRules()
	case giver != "":
		return failed(taken, "RouteTaken", "%s is given to ConfigMap %q by its annotation %s", key, giver, route.DocumentAnnotation)
	}
	for _, owner := range live.GetOwnerReferences() {
		if owner.Kind != "ConfigMap" || owner.APIVersion != "v1" {
			continue
		}
		if owner.UID == d.cm.UID || owner.Name == d.cm.Name && appliedByMirrorgate(live) { // an immutable ConfigMap that was replaced
			return nil
		}
		if s.documents[owner.UID] == nil && appliedByMirrorgate(live) { // the garbage collector has not deleted it yet
			return transient("%s belongs to ConfigMap %q, which is gone", key, owner.Name)
		}
		return failed(taken, "RouteTaken", "%s belongs to ConfigMap %q: two documents cannot have the same route", key, owner.Name)
	}
	remedy := d.offer()
	if d.whole() {
		remedy += ". Or delete it, and this document creates its own"
	}
	return failed(taken, "RouteTaken", "%s exists and belongs to none of Iter8's documents; field managers: %s. %s",
		key, strings.Join(managersOf(live), ", "), remedy)
}

// checkRules fails if the document does not set the rules of somebody else's route: their mirrors would be parked,
// and the document takes such annotations away.
func (d *desired) checkRules() *failure {
	spec, _ := d.object["spec"].(map[string]any)
	if field := rulesField(d.key().Kind); spec[field] == nil {
		return failed(refused, "RouteRefused", "%s belongs to somebody else, so this document must set spec.%s", d.key(), field)
	}
	return nil
}
