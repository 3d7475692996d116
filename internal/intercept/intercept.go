// Package intercept decides the selector of a Service while proxies stand in front of it, and recovers the
// selector that its author wrote. The webhook calls it inside every write of such a Service, the controller
// and the uninstaller before they write one. It takes and returns plain values, and is pure; package objects
// converts from and to objects of the API.
//
// Mirrorgate changes only the values of the selector, never its keys and never a port. A client that does not
// know of mirrorgate, or a write that the webhook does not see, therefore restores the author's selector.
package intercept

import "k8s.io/apimachinery/pkg/util/intstr"

// Service is the part of a Service that decisions depend on. Its strings are spelled as in the API.
type Service struct {
	Name                string
	Labels, Annotations map[string]string
	Owners              []Owner
	Selector            map[string]string
	Ports               []ServicePort

	Type, ClusterIP                              string
	InternalTrafficPolicy, ExternalTrafficPolicy string
	PublishNotReadyAddresses                     bool
}

// Owner is an owner reference.
type Owner struct{ Group, Kind string }

// ServicePort is a port of a Service.
type ServicePort struct {
	Port       int32
	TargetPort intstr.IntOrString
	// Protocol is TCP when empty.
	Protocol string
}

// View is the state of the cluster that concerns a Service.
type View struct {
	// Wanted is the result of Wants, or false while mirrorgate is being removed.
	Wanted bool
	// Proxies are the pods that may serve: Ready, and not terminating.
	Proxies []Proxy
	// Primary is the selector of the route's primary, nil if there is none.
	Primary map[string]string
	// Origin is the selector of the origin, nil if there is none. It counts where the Service itself does not
	// record the values that the sentinel replaced.
	Origin map[string]string
}

// ErrNotSynced is why there is no View while the caches are not full. Its method Cause returns the label of
// the webhook's error counter.
var ErrNotSynced error = notSynced{}

type notSynced struct{}

func (notSynced) Error() string { return "the caches are not full" }
func (notSynced) Cause() string { return "caches" }
