package intercept

// Services that no proxy can stand in front of.

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// podTemplateHash is the label by which a Deployment tells the pods of its ReplicaSets apart.
const podTemplateHash = "pod-template-hash"

// Refused returns why no proxy can stand in front of a Service, in words for its author; it is empty if one
// can.
func Refused(s *Service) string {
	const local = "Local"
	selector := Stored(s)
	switch {
	case s.Type == "ExternalName":
		return "it is an ExternalName"
	case s.ClusterIP == "None":
		return "it is headless: its clients connect to pods, not to the Service"
	case len(selector) == 0:
		return "it has no selector that could lead to proxies"
	case s.Labels[wellknown.ParentLabel] != "":
		return "it is one of mirrorgate's own"
	case s.PublishNotReadyAddresses:
		return "it publishes addresses that are not ready"
	case s.InternalTrafficPolicy == local, s.ExternalTrafficPolicy == local:
		return "its traffic policy is Local, and a proxy may be on another node"
	}
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if strings.HasPrefix(key, wellknown.Prefix) || key == podTemplateHash {
			return fmt.Sprintf("its selector has the key %s, which proxies cannot carry", key)
		}
	}
	for _, p := range s.Ports {
		if !IsTCP(p.Protocol) {
			return fmt.Sprintf("its port %d is %s; a proxy carries TCP alone", p.Port, p.Protocol)
		}
	}
	if tool := s.managedBy(selector); tool != "" {
		return "its selector belongs to " + tool
	}
	return ""
}

// managedBy returns the name of the tool that changes the selector itself, "" for none.
func (s *Service) managedBy(selector map[string]string) string {
	_, hashed := selector["rollouts-pod-template-hash"]
	_, annotated := s.Annotations["argo-rollouts.argoproj.io/managed-by-rollouts"]
	if hashed || annotated {
		return wellknown.ArgoRollouts
	}
	for _, o := range s.Owners {
		if tool := wellknown.OwnerTool(o.Group, o.Kind); tool != "" {
			return tool
		}
	}
	return ""
}

// IsTCP reports whether a port with this protocol carries TCP.
func IsTCP(protocol string) bool { return protocol == "" || protocol == "TCP" }
