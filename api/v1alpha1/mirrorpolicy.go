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

	// Copy says what copies are like. Only proxies of mirrorgate hold to it; where a route is served by something else, the
	// condition Programmed is False. Default: copies are like their requests, with -shadow behind the host.
	// +optional
	Copy *Copy `json:"copy,omitempty"`

	// Stop parks the mirrors when their copies fail, until somebody resumes them. Default: nothing stops them.
	// +optional
	Stop *Stop `json:"stop,omitempty"`
}

// The annotations of a MirrorPolicy by which people steer it. The leader reads them, and status says what became of them.
const (
	// AnnotationResume ends every stop up to its value, the time in status.targets[].stopped.time. Example:
	// "2026-12-24T00:00:00Z".
	AnnotationResume = "mirrorgate.dev/resume"
	// AnnotationStop parks the mirrors while it stands; its value is the reason. Example: "incident 42".
	AnnotationStop = "mirrorgate.dev/stop"
	// AnnotationStep holds the ramp at a step, by its number from 1, while it stands. Example: "2".
	AnnotationStep = "mirrorgate.dev/step"
)

// Copy is the settings of the copies of a mirror.
type Copy struct {
	// Methods are the methods of the requests that are copied. Default: all. Example: [GET, HEAD].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Methods []Method `json:"methods,omitempty"`

	// Headers are edits of the copies alone, after those of the rule. Default: none. Example: {remove: [authorization]}.
	// +optional
	Headers *CopyHeaders `json:"headers,omitempty"`

	// Keyed copies all requests of a session or none. Default: requests are counted. Example: {header: x-user}.
	// +optional
	Keyed *CopyKey `json:"keyed,omitempty"`

	// MaxPerSecond is the most copies of one mirror in a second by one proxy, in bursts of as many. Default: no bound.
	// Example: 200.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxPerSecond *int32 `json:"maxPerSecond,omitempty"`

	// MaxBody is the size of the largest body that is copied, in bytes or with Ki or Mi, at most 64Mi. Default: 1Mi. Example:
	// 64Ki.
	// +optional
	// +kubebuilder:validation:Pattern=`^([0-9]{1,7}|[0-9]{1,5}Ki|([0-9]|[1-5][0-9]|6[0-4])Mi)$`
	MaxBody string `json:"maxBody,omitempty"`

	// Timeout bounds a copy from its sending to the end of its answer, from 1ms to 5m. Default: 10s. Example: 2s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('5m')",message="must be from 1ms to 5m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// HostSuffix appends -shadow to the host of copies. Default: true. Example: false.
	// +optional
	HostSuffix *bool `json:"hostSuffix,omitempty"`
}

// CopyHeaders are edits of header fields.
type CopyHeaders struct {
	// Set replaces fields. Example: [{name: x-copy, value: "1"}].
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Set []CopyHeader `json:"set,omitempty"`

	// Add adds fields, beside those of the same name. Example: [{name: x-copy, value: "1"}].
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Add []CopyHeader `json:"add,omitempty"`

	// Remove removes fields. Example: [authorization, cookie].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Remove []HeaderName `json:"remove,omitempty"`
}

// HeaderName is the name of a header field.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`
type HeaderName string

// CopyHeader is a header field.
type CopyHeader struct {
	// Name is the name of the field. Example: x-copy.
	// +required
	Name HeaderName `json:"name,omitempty"`

	// Value is its value, without control characters. Example: "1".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:Pattern=`^[^\x00-\x08\x0a-\x1f\x7f]*$`
	Value string `json:"value,omitempty"`
}

// CopyKey identifies a session, by a header or a cookie.
//
// +kubebuilder:validation:XValidation:rule="has(self.header) != has(self.cookie)",message="needs header or cookie, and not both"
type CopyKey struct {
	// Header is the name of a header field. Example: x-user.
	// +optional
	Header HeaderName `json:"header,omitempty"`

	// Cookie is the name of a cookie. Example: session.
	// +optional
	Cookie HeaderName `json:"cookie,omitempty"`
}

// Stop says when the mirrors are parked, by the copies that proxies of mirrorgate report, by a query, or by either.
//
// +kubebuilder:validation:XValidation:rule="has(self.errorPercent) || has(self.query)",message="needs errorPercent or query"
type Stop struct {
	// ErrorPercent is the percentage of the copies of which the mirrors stop when more fail, from 0 to 100. A copy fails if
	// its answer has a status from 500 or blames the server by gRPC's, if its connection fails, or if it takes too long.
	// Copies of our own proxies alone are counted; for other data planes use query. Default: none. Example: 5.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ErrorPercent *float64 `json:"errorPercent,omitempty"`

	// Over is the time in which copies are counted, from 5s to 1h. Default: 1m. Example: 5m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('1h')",message="must be from 5s to 1h"
	Over *metav1.Duration `json:"over,omitempty"`

	// MinRequests is the number of copies in that time below which nothing stops. Default: 50. Example: 200.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MinRequests *int32 `json:"minRequests,omitempty"`

	// Query asks the Prometheus that the cluster's operator has set, if any, for one number. Default: none.
	// +optional
	Query *StopQuery `json:"query,omitempty"`
}

// StopQuery is an instant query of Prometheus.
type StopQuery struct {
	// Expr is a query in PromQL that yields exactly one number, asked every 15s. None, several or NaN stop nothing. Example:
	// sum(rate(istio_requests_total{destination_workload="web-v2",response_code=~"5.."}[1m])).
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Expr string `json:"expr,omitempty"`

	// Above is the number above which the mirrors stop. Example: 0.05.
	// +required
	Above *float64 `json:"above,omitempty"`
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

	// Stopped says why the mirrors are parked, until somebody resumes them; see AnnotationResume.
	// +optional
	Stopped *Stopped `json:"stopped,omitempty"`

	// Conditions are Accepted, Conflicted and Programmed.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Stopped is one stop.
type Stopped struct {
	// Time is when the mirrors were stopped; it names the stop.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// Reason is ErrorPercent, Query or ByHand.
	// +required
	// +kubebuilder:validation:Enum=ErrorPercent;Query;ByHand
	Reason StopReason `json:"reason,omitempty"`

	// Message has the figures, or the words of who stopped them.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// StopReason is the part of a policy that stopped a mirror.
type StopReason string

// The reasons.
const (
	StopErrorPercent StopReason = "ErrorPercent"
	StopQueried      StopReason = "Query"
	StopByHand       StopReason = "ByHand"
)

// The types of conditions.
const (
	// ConditionAccepted is True for a target to which the policy applies.
	ConditionAccepted = "Accepted"
	// ConditionConflicted is True for a target that belongs to an older policy.
	ConditionConflicted = "Conflicted"
	// ConditionProgrammed is False for a target where a part of the policy has no effect; the message says which, and why.
	ConditionProgrammed = "Programmed"
)

// MirrorPolicyList is a list of MirrorPolicies.
//
// +kubebuilder:object:root=true
type MirrorPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []MirrorPolicy `json:"items"`
}
