package dataplane

// BackendTLSPolicies: which ports of Services get their requests and copies over TLS, and which certificates are accepted.
// A port that a policy means gets nothing in plain text, also while the policy cannot be carried out.

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// The reasons of conditions of policies.
const (
	reasonInvalid   = "Invalid"
	reasonInvalidCA = "InvalidCACertificateRef"
	reasonNoValidCA = "NoValidCACertificate"
	authorityKey    = "ca.crt" // of a ConfigMap, as the API wants it
)

// policy is a BackendTLSPolicy.
type policy struct {
	name       Name
	version    string // of the API
	generation int64
	created    time.Time
	digest     [sha256.Size]byte
	targets    []policyTarget
	refs       []caRef
	validation spec.BackendTLS
	// invalid is why the policy cannot be carried out, whatever other objects there are.
	invalid string
	stored  []ParentStatus
}

// policyTarget is a Service, or one port of it, by name.
type policyTarget struct {
	service Name
	port    string
	written json.RawMessage
}

// caRef refers to the certificates of authorities.
type caRef struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`
}

func parsePolicy(h *header) (*policy, error) {
	var s struct {
		TargetRefs []json.RawMessage `json:"targetRefs"`
		Validation struct {
			CACertificateRefs []caRef `json:"caCertificateRefs"`
			spec.BackendTLS
		} `json:"validation"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(h.Spec, &s); err != nil {
		return nil, err
	}
	_, version, _ := strings.Cut(h.APIVersion, "/")
	p := &policy{
		name: h.name(), version: version, generation: h.Metadata.Generation, created: h.Metadata.CreationTimestamp,
		digest: sha256.Sum256(h.Spec), refs: s.Validation.CACertificateRefs, validation: s.Validation.BackendTLS,
		stored: entriesOf(KindBackendTLSPolicy, h.Status),
	}
	p.validation.CAFile = "" // the API has no such field
	for _, raw := range s.TargetRefs {
		var to struct {
			Group, Kind, Name string
			SectionName       *string
		}
		if err := json.Unmarshal(raw, &to); err != nil {
			return nil, err
		}
		if to.Group != "" || to.Kind != "Service" {
			continue
		}
		written, err := json.Marshal(map[string]any{"group": "", "kind": "Service", "namespace": p.name.Namespace, "name": to.Name})
		if section := ptr.Deref(to.SectionName, ""); section != "" {
			written, err = json.Marshal(map[string]any{"group": "", "kind": "Service", "namespace": p.name.Namespace, "name": to.Name, "sectionName": section})
		}
		if err != nil {
			return nil, err
		}
		p.targets = append(p.targets, policyTarget{Name{Namespace: p.name.Namespace, Name: to.Name}, ptr.Deref(to.SectionName, ""), written})
	}
	p.check()
	return p, nil
}

// check finds the faults of a policy that lie in itself.
func (p *policy) check() {
	try := p.validation
	if len(p.refs) > 0 {
		try.Fault = "its authorities are not known yet"
	}
	_, problems := routing.Compile(&spec.Table{
		Listeners: []spec.Listener{{Address: ":1", Rules: []spec.Rule{{}}}},
		Services:  map[string]spec.Service{"s": {1: {TLS: &try}}},
	})
	for _, problem := range problems {
		if !problem.Warning && p.invalid == "" {
			p.invalid = strings.TrimPrefix(problem.Path, "services[s][1].tls") + ": " + problem.Message
			p.invalid = strings.TrimPrefix(strings.TrimPrefix(p.invalid, "."), ": ")
		}
	}
}

// same reports whether both are the same but for status and metadata that do not matter.
func (p *policy) same(other *policy) bool {
	return p.digest == other.digest && p.generation == other.generation && p.created.Equal(other.created) && p.version == other.version
}

// precedes orders policies for one target: the first one counts.
func (p *policy) precedes(other *policy) int {
	return cmp.Or(p.created.Compare(other.created), compareNames(p.name, other.name))
}

func (p *policy) reported() RouteName { return RouteName{KindBackendTLSPolicy, p.name} }

// authority is the part of a ConfigMap that matters: the certificates of authorities.
type authority struct {
	pem string
	// fault is why there are none.
	fault string
}

func fromConfigMap(o *corev1.ConfigMap) *authority {
	text, ok := o.Data[authorityKey]
	switch {
	case !ok:
		return &authority{fault: "ConfigMap " + o.Name + " has no key " + authorityKey}
	case !x509.NewCertPool().AppendCertsFromPEM([]byte(text)):
		return &authority{fault: authorityKey + " of ConfigMap " + o.Name + " has no certificate in PEM"}
	}
	return &authority{pem: strings.Clone(text)}
}

// policyOf returns the policy for a port of a Service, nil if there is none: one for the port rather than one for all,
// and of several the oldest.
func (x *Index) policyOf(service Name, port string) *policy {
	for _, section := range []string{port, ""} {
		if found := x.winner(policyTarget{service: service, port: section}); found != nil {
			return found
		}
	}
	return nil
}

// winner returns the policy that counts for a target.
func (x *Index) winner(to policyTarget) (found *policy) {
	for p := range x.protecting[to.service] {
		if slices.ContainsFunc(p.targets, func(t policyTarget) bool { return t.port == to.port && t.service == to.service }) &&
			(found == nil || p.precedes(found) < 0) {
			found = p
		}
	}
	return found
}

// backendTLS returns the settings of a policy, with a fault if it cannot be carried out.
func (x *Index) backendTLS(p *policy) *spec.BackendTLS {
	out := p.validation
	ca, faults := x.authorities(p)
	switch out.CA = ca; {
	case p.invalid != "":
		out = spec.BackendTLS{Hostname: "invalid", Fault: fmt.Sprintf("BackendTLSPolicy %s: %s", p.name, p.invalid)}
	case len(faults) > 0:
		// The API lets a connection fail that uses an invalid reference, and several are one set of authorities.
		out.CA, out.Fault = "", fmt.Sprintf("BackendTLSPolicy %s: %s", p.name, faults[0].message)
	}
	return &out
}

// authorities returns the certificates that a policy trusts, and the faults of its references.
func (x *Index) authorities(p *policy) (pem string, faults []fault) {
	for _, ref := range p.refs {
		if ref.Group != "" || ref.Kind != "ConfigMap" {
			faults = append(faults, faultf(reasonInvalidKind, "%s %s holds no certificates; only ConfigMaps can", ref.Kind, ref.Name))
			continue
		}
		switch a := x.trusted[Name{Namespace: p.name.Namespace, Name: ref.Name}]; {
		case a == nil:
			faults = append(faults, faultf(reasonInvalidCA, "there is no ConfigMap %s", ref.Name))
		case a.fault != "":
			faults = append(faults, fault{reasonInvalidCA, a.fault})
		default:
			pem += a.pem + "\n"
		}
	}
	return pem, faults
}

// used reports whether requests or copies of proxies go to a Service.
func (x *Index) used(service Name) bool {
	for r := range x.naming[service] {
		if len(r.ports) > 0 {
			return true
		}
	}
	return service == x.opts.Parent
}

// policyStatus returns the entries that a policy's status should have: one for each Service that proxies send to.
func (x *Index) policyStatus(p *policy) (out []ParentStatus) {
	_, faults := x.authorities(p)
	for _, to := range p.targets {
		if !x.used(to.service) {
			continue
		}
		accepted := metav1.Condition{
			Type: conditionAccepted, Status: metav1.ConditionTrue, Reason: reasonAccepted, Message: "proxies secure their connections to Service " + to.service.Name,
		}
		refuse := func(reason, message string) {
			accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, reason, message
		}
		switch winner := x.winner(to); {
		case winner != p:
			refuse(reasonConflicted, "the older BackendTLSPolicy "+winner.name.Name+" has the same target")
		case p.invalid != "":
			refuse(reasonInvalid, p.invalid)
		case len(faults) > 0 && len(faults) == len(p.refs):
			refuse(reasonNoValidCA, faults[0].message)
		}
		resolved := metav1.Condition{Type: conditionResolved, Status: metav1.ConditionTrue, Reason: reasonResolved, Message: "every reference leads to certificates"}
		if len(faults) > 0 {
			resolved.Status, resolved.Reason, resolved.Message = metav1.ConditionFalse, faults[0].reason, faults[0].message
		}
		accepted.ObservedGeneration, resolved.ObservedGeneration = p.generation, p.generation
		out = append(out, ParentStatus{ParentRef: to.written, ControllerName: wellknown.ControllerName, Conditions: []metav1.Condition{accepted, resolved}})
	}
	return out
}

func (x *Index) putTLSPolicy(name Name, p *policy, c *changes) {
	old := x.tlsPolicies[name]
	if p == nil && old == nil {
		return
	}
	if p != nil && old != nil && p.same(old) {
		old.stored = p.stored
		x.notePolicy(old, c) // somebody else may have written it
		return
	}
	for _, one := range []*policy{old, p} {
		if one == nil {
			continue
		}
		for _, to := range one.targets {
			if drop(x.protecting, to.service, one); one == p {
				in(x.protecting, to.service)[p] = struct{}{}
			}
		}
		for _, ref := range one.refs {
			at := Name{Namespace: name.Namespace, Name: ref.Name}
			if drop(x.trusting, at, one); one == p {
				in(x.trusting, at)[p] = struct{}{}
			}
		}
	}
	if delete(x.tlsPolicies, name); p != nil {
		x.tlsPolicies[name] = p
	}
	for _, one := range []*policy{old, p} {
		if one != nil {
			x.noteTargets(one, c)
		}
	}
}

func (x *Index) putConfigMap(name Name, a *authority, c *changes) {
	old := x.trusted[name]
	if a == nil && old == nil || a != nil && old != nil && *a == *old {
		return
	}
	if delete(x.trusted, name); a != nil {
		x.trusted[name] = a
	}
	for p := range x.trusting[name] {
		x.noteTargets(p, c)
	}
}

// noteTargets notes the tables, routes and policies that depend on a policy.
func (x *Index) noteTargets(p *policy, c *changes) {
	for _, to := range p.targets {
		for r := range x.naming[to.service] {
			c.tablesOf(r)
			x.reresolve(r, c)
		}
		if to.service == x.opts.Parent {
			c.tables[to.service] = true
		}
		x.notePolicies(to.service, c)
	}
}

// notePolicies notes the policies of a Service whose status may be another now.
func (x *Index) notePolicies(service Name, c *changes) {
	for p := range x.protecting[service] {
		x.notePolicy(p, c)
	}
}

func (x *Index) notePolicy(p *policy, c *changes) {
	if stale(p.stored, x.policyStatus(p)) {
		c.routes[p.reported()] = true
	}
}

// trustedNamespaces returns the namespaces whose ConfigMaps policies refer to that are carried out, sorted.
func (x *Index) trustedNamespaces() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found := map[string]bool{}
	for _, p := range x.tlsPolicies {
		if !found[p.name.Namespace] && len(p.refs) > 0 && slices.ContainsFunc(p.targets, func(to policyTarget) bool { return x.used(to.service) }) {
			found[p.name.Namespace] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
