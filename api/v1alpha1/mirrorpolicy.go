package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MirrorPolicy says for how long, and with which growing percentages, the mirrors of routes in its namespace copy
// requests. It never raises a percentage above the one that the route declares.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=mirrorgate
// +kubebuilder:metadata:labels={app.kubernetes.io/name=mirrorgate,gateway.networking.k8s.io/policy=Direct}
// +kubebuilder:printcolumn:name="TARGETS",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="STEP",type=string,JSONPath=`.status.targets[*].step`
// +kubebuilder:printcolumn:name="SHARE",type=string,JSONPath=`.status.targets[*].percent`
// +kubebuilder:printcolumn:name="EXPIRES",type=string,JSONPath=`.status.targets[*].expiresAt`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type MirrorPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// Spec is the owner's word.
	// +required
	Spec MirrorPolicySpec `json:"spec,omitzero"`

	// Status is written by mirrorgate's leader, and is the only memory of steps and expiry.
	// +optional
	Status MirrorPolicyStatus `json:"status,omitzero"`
}

// MirrorPolicySpec says which mirrors copy how much, and until when.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.expires) && has(self.after))",message="expires and after are both set; keep one"
type MirrorPolicySpec struct {
	// TargetRefs are the routes, or rules of them, in the policy's own namespace. Of several policies for one target the
	// oldest holds; one for a rule holds against one for the whole route.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a == b))",message="targetRefs names a target twice"
	TargetRefs []TargetRef `json:"targetRefs,omitempty"`

	// Expires is the time at which the mirrors are parked for good, in RFC 3339. Default: never. Example:
	// "2026-12-24T00:00:00Z".
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`

	// After is the time, since a mirror of the target first became active, after which the mirrors are parked for good. At
	// least 1s. Default: never. Example: 72h.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	After *metav1.Duration `json:"after,omitempty"`

	// Ramp raises the percentage step by step. Default: the declared percentage at once.
	// +optional
	Ramp *Ramp `json:"ramp,omitempty"`
}

// TargetRef names a route, or a rule of it.
//
// +kubebuilder:validation:XValidation:rule="self.kind == 'VirtualService' ? self.group == 'networking.istio.io' : self.group == 'gateway.networking.k8s.io'",message="group must be gateway.networking.k8s.io for an HTTPRoute or a GRPCRoute, and networking.istio.io for a VirtualService"
type TargetRef struct {
	// Group is the API group of the route: gateway.networking.k8s.io or networking.istio.io.
	// +required
	// +kubebuilder:validation:Enum=gateway.networking.k8s.io;networking.istio.io
	Group string `json:"group,omitempty"`

	// Kind is the kind of the route: HTTPRoute, GRPCRoute or VirtualService.
	// +required
	// +kubebuilder:validation:Enum=HTTPRoute;GRPCRoute;VirtualService
	Kind string `json:"kind,omitempty"`

	// Name is the name of the route. Example: web.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// SectionName is the name of one of its rules. Default: all of them. Example: checkout.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SectionName string `json:"sectionName,omitempty"`
}

// Ramp is a list of growing percentages.
type Ramp struct {
	// Steps are taken one after the other, from the moment at which a mirror of the target first becomes active. A
	// percentage is that of one mirror; where the route declares less, or a MirrorLimit allows less, that is what counts.
	// Example: [{percent: 1, for: 10m}, {percent: 10, for: 1h}, {percent: 100}].
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.filter(s, !has(s.__for__)).size() == (has(self[size(self) - 1].__for__) ? 0 : 1)",message="every step but the last needs for"
	// +kubebuilder:validation:XValidation:rule="self.map(s, double(s.percent)).isSorted()",message="percentages must not fall from one step to the next"
	Steps []RampStep `json:"steps,omitempty"`
}

// RampStep is one percentage and its time.
type RampStep struct {
	// Percent is the percentage of the requests that a mirror copies at most in this step, from 0 to 100. Example: 10.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *float64 `json:"percent,omitempty"`

	// For is the duration of the step, at least 1s. The last step needs none: it holds until the policy changes. Example:
	// 10m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	For *metav1.Duration `json:"for,omitempty"`
}

// MirrorPolicyStatus is what became of the policy.
type MirrorPolicyStatus struct {
	// Targets holds one entry for each of spec.targetRefs.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Targets []TargetStatus `json:"targets,omitempty"`
}

// TargetStatus is the state of one target.
type TargetStatus struct {
	// TargetRef is the entry of spec.targetRefs.
	// +required
	TargetRef TargetRef `json:"targetRef,omitzero"`

	// ActiveSince is the time at which a mirror of the target first became active under this policy.
	// +optional
	ActiveSince *metav1.Time `json:"activeSince,omitempty"`

	// Step is the index of the current step of the ramp, from 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Step *int32 `json:"step,omitempty"`

	// Since is the time at which the step began.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Percent is the largest percentage that the policy allows now, for kubectl get.
	// +optional
	Percent string `json:"percent,omitempty"`

	// ExpiresAt is the time at which the mirrors are parked for good, as far as it is known.
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`

	// Expired is the time at which they were.
	// +optional
	Expired *metav1.Time `json:"expired,omitempty"`

	// Conditions are Accepted and Conflicted.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The types of conditions.
const (
	// ConditionAccepted is True for a target to which the policy applies.
	ConditionAccepted = "Accepted"
	// ConditionConflicted is True for a target that belongs to an older policy.
	ConditionConflicted = "Conflicted"
)

// MirrorPolicyList is a list of MirrorPolicies.
//
// +kubebuilder:object:root=true
type MirrorPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []MirrorPolicy `json:"items"`
}
