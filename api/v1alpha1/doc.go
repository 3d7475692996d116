// Package v1alpha1 has the two kinds by which people say how much mirrors may copy: a MirrorLimit is the cluster's
// operator's word, a MirrorPolicy that of an application's owner.
//
// CustomResourceDefinitions, deep copies and docs/reference/api.md are generated from these types by make generate.
//
// +kubebuilder:object:generate=true
// +groupName=mirrorgate.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API version of the kinds.
var GroupVersion = schema.GroupVersion{Group: "mirrorgate.dev", Version: "v1alpha1"}

// AddToScheme adds the kinds to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &MirrorLimit{}, &MirrorLimitList{}, &MirrorPolicy{}, &MirrorPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
