package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MirrorLimit bounds the mirrors of the routes in the namespaces that it selects. Where several select a namespace, the
// strictest holds.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=mirrorgate
// +kubebuilder:metadata:labels=app.kubernetes.io/name=mirrorgate
// +kubebuilder:printcolumn:name="ACTION",type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name="PERCENT",type=number,JSONPath=`.spec.maxPercent`
// +kubebuilder:printcolumn:name="MIRRORS",type=integer,JSONPath=`.spec.maxMirrors`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type MirrorLimit struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// Spec is the limit.
	// +required
	Spec MirrorLimitSpec `json:"spec,omitzero"`
}

// MirrorLimitSpec is a limit. A bound that is not set does not hold.
type MirrorLimitSpec struct {
	// NamespaceSelector selects the namespaces of the routes by their labels. Default: every namespace. Example:
	// {matchLabels: {env: prod}}.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// MaxPercent is the largest percentage of the requests of one rule that all its mirrors together may copy, from 0 to
	// 100. With action Limit each of several mirrors keeps its proportion. A percentage is stored in steps of 0.0001.
	// Default: no bound. Example: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxPercent *float64 `json:"maxPercent,omitempty"`

	// MaxMirrors is the largest number of mirrors in one rule; 0 forbids mirrors. With action Limit those that stand last
	// in the rule are parked. Default: no bound. Example: 2.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1024
	MaxMirrors *int32 `json:"maxMirrors,omitempty"`

	// Targets bounds the targets of mirrors. With action Limit a mirror to another target is parked. Default: no bound.
	// +optional
	Targets *TargetLimit `json:"targets,omitempty"`

	// Methods are the methods of requests that may be copied. A mirror in a rule that matches other methods, or that
	// matches requests whatever their method is, breaks the limit; with action Limit it is parked. GRPCRoutes, whose
	// requests are all POST, are not judged by it. Default: no bound. Example: [GET, HEAD].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=9
	Methods []Method `json:"methods,omitempty"`

	// MaxLoad is the largest load of a ready pod of a mirror's variant, in percent of that of a ready pod of the primary:
	// the share of the mirror, times the ready pods of the primary, by those of the variant. At 200 a pod of the variant
	// gets twice the requests of one of the primary. With action Limit the percentage is lowered until that holds; pods
	// that come and go count after 30 s. Default: no bound. Example: 200.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxLoad *float64 `json:"maxLoad,omitempty"`

	// RequireExpiry demands that a MirrorPolicy gives each mirror an end, by expires or after. With action Limit a mirror
	// without one is parked. Default: false.
	// +optional
	RequireExpiry bool `json:"requireExpiry,omitempty"`

	// MaxDuration is the longest time for which a mirror may copy, since it first became active under its MirrorPolicy. At
	// least 1s. With action Limit the mirror is parked for good then, and one without a MirrorPolicy, whose time nobody
	// counts, is parked at once. Default: no bound. Example: 168h.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	MaxDuration *metav1.Duration `json:"maxDuration,omitempty"`

	// Action is the effect on a mirror that breaks the limit. Limit stores it with the percentage that is allowed, and
	// parks it where that is none. Deny refuses a write that makes it worse, and leaves alone the mirrors that stand
	// already. Warn does no more than warn. Default: Limit.
	// +optional
	// +kubebuilder:default=Limit
	Action LimitAction `json:"action,omitempty"`
}

// TargetLimit bounds the targets of mirrors.
type TargetLimit struct {
	// Namespaces are the namespaces of the Services that may be targets; "same" stands for the route's own. A target
	// outside of the cluster is in none of them. Example: [same, shadow].
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`
}

// SameNamespace stands in TargetLimit.Namespaces for the namespace of the route.
const SameNamespace = "same"

// Method is a method of HTTP.
//
// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;DELETE;CONNECT;OPTIONS;TRACE;PATCH
type Method string

// LimitAction is the effect of a limit.
//
// +kubebuilder:validation:Enum=Limit;Deny;Warn
type LimitAction string

// The effects of a limit on a mirror that breaks it.
const (
	// ActionLimit stores the mirror with the percentage that is allowed.
	ActionLimit LimitAction = "Limit"
	// ActionDeny refuses a write that makes it worse.
	ActionDeny LimitAction = "Deny"
	// ActionWarn warns.
	ActionWarn LimitAction = "Warn"
)

// MirrorLimitList is a list of MirrorLimits.
//
// +kubebuilder:object:root=true
type MirrorLimitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []MirrorLimit `json:"items"`
}
