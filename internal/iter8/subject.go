package iter8

// A subject lists the objects that the variants of an app consist of:
//
//	gvrs: [svc, deploy]
//	variants:
//	- [httpbin-v1, httpbin-v1]
//	- [httpbin-v2, httpbin-v2]

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Subject is an app with its variants.
type Subject struct {
	// Owner is its name in routing policies: the value of the component label, by default the name of the
	// ConfigMap.
	Owner string
	// Variants are the resources of each variant; the primary comes first.
	Variants [][]Resource
}

func readSubject(spec node, from Source) *Subject {
	s := &Subject{Owner: cmp.Or(from.Labels[ComponentLabel], from.Name)}
	if msgs := validation.IsDNS1123Subdomain(s.Owner); len(msgs) > 0 {
		spec.add(field.Invalid(field.NewPath("metadata", "labels").Key(ComponentLabel), s.Owner, "names the subject, and the route: "+msgs[0]))
	}
	fields := spec.object("gvrs", "variants")
	types := spec.need(fields, "gvrs", "the resources that a variant consists of: [svc, deploy]").list()
	variants := spec.need(fields, "variants", "the names of each variant's resources: [[httpbin-v1, httpbin-v1]]").list()
	kinds := make([]string, len(types))
	for i, n := range types {
		kinds[i] = n.resourceType()
	}
	for _, variant := range variants {
		names := variant.list()
		if len(names) > 0 && len(types) > 0 && len(names) != len(types) {
			variant.invalid(fmt.Sprintf("must have %d names, one for each of spec.gvrs", len(types)))
			continue
		}
		var resources []Resource
		for i, n := range names {
			if name := n.name(); name != "" && i < len(kinds) {
				resources = append(resources, Resource{Type: kinds[i], Name: name, Path: n.path.String()})
			}
		}
		s.Variants = append(s.Variants, resources)
	}
	return s
}
