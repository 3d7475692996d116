package route

// The form of a mirror, as far as the CRDs of the Gateway API and Istio's validator judge it. A mirror that they
// refuse is neither parked nor restored: parking it would hide the error until its variant comes, and then the
// route could neither be changed nor applied.

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/printing"
)

// Limits of names and ports.
const (
	maxPort      = 65535
	maxName      = 253
	maxKind      = 63
	maxLabel     = 63
	maxIstioHost = 255
)

var kindPattern = regexp.MustCompile(`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`)

// Fault returns the reason why the API refuses the mirror whatever the cluster holds, "" when its form is
// valid.
func (m *Mirror) Fault() string { return m.fault }

// problem returns the first problem of the mirror's percentage.
func (p Percentage) problem() string {
	for _, f := range p.Fields {
		if f.Problem != "" {
			return f.Name + " " + f.Problem
		}
	}
	return ""
}

// otherFilters are the members of a filter that belong to other types than RequestMirror. The CRD refuses a
// filter that has a member of another type.
type otherFilters struct {
	RequestHeaderModifier  json.RawMessage `json:"requestHeaderModifier"`
	ResponseHeaderModifier json.RawMessage `json:"responseHeaderModifier"`
	RequestRedirect        json.RawMessage `json:"requestRedirect"`
	URLRewrite             json.RawMessage `json:"urlRewrite"`
	CORS                   json.RawMessage `json:"cors"`
	ExternalAuth           json.RawMessage `json:"externalAuth"`
	ExtensionRef           json.RawMessage `json:"extensionRef"`
}

func (f *otherFilters) set() bool {
	for _, raw := range []json.RawMessage{f.RequestHeaderModifier, f.ResponseHeaderModifier, f.RequestRedirect,
		f.URLRewrite, f.CORS, f.ExternalAuth, f.ExtensionRef} {
		if !isNull(raw) {
			return true
		}
	}
	return false
}

// gatewayFault returns the reason why the CRDs of the Gateway API refuse a mirror.
func gatewayFault(ref backendRef, p Percentage, raw json.RawMessage) string {
	var others otherFilters
	switch {
	case reread(raw, &others) != nil || others.set():
		return "the filter has a member of another type"
	case len(p.Fields) > 1:
		return "percent and fraction are both set"
	case p.problem() != "":
		return p.problem()
	default:
		return ref.fault()
	}
}

// fault returns the reason why the CRD refuses a reference to a backend.
func (r backendRef) fault() string {
	group, kind := ptr.Deref(r.Group, ""), ptr.Deref(r.Kind, TargetService)
	switch {
	case r.Name == "":
		return "backendRef has no name"
	case utf8.RuneCountInString(r.Name) > maxName:
		return fmt.Sprintf("the name is longer than %d characters", maxName)
	case r.Namespace != nil && len(validation.IsDNS1123Label(*r.Namespace)) > 0:
		return fmt.Sprintf("%q is no name of a namespace", cut(*r.Namespace))
	case group != "" && len(validation.IsDNS1123Subdomain(group)) > 0:
		return fmt.Sprintf("%q is no API group", cut(group))
	case len(kind) > maxKind || !kindPattern.MatchString(kind):
		return fmt.Sprintf("%q is no kind", cut(kind))
	case r.Port != nil && (*r.Port < 1 || *r.Port > maxPort):
		return fmt.Sprintf("port %d is not from 1 to %d", *r.Port, maxPort)
	case r.Port == nil && group == "" && kind == TargetService:
		return "a Service needs a port"
	default:
		return ""
	}
}

// istioFault returns the reason why Istio's validator refuses a mirror; nil is a destination that is missing
// or cannot be read.
func istioFault(dst *istioDestination, p Percentage) string {
	switch {
	case dst == nil:
		return "its destination cannot be read"
	case istioHostFault(dst.Host) != "":
		return istioHostFault(dst.Host)
	case dst.Subset != "" && !isIstioLabel(dst.Subset):
		return fmt.Sprintf("%q is no name of a subset", cut(dst.Subset))
	case dst.Port != nil && (dst.Port.Number < 1 || dst.Port.Number > maxPort):
		return fmt.Sprintf("port %d is not from 1 to %d", dst.Port.Number, maxPort)
	default:
		return p.problem()
	}
}

// istioHostFault returns the reason why Istio's validator refuses a destination's host.
func istioHostFault(host string) string {
	first, rest, dotted := strings.Cut(host, ".")
	switch {
	case host == "":
		return "the host is missing"
	case len(host) > maxIstioHost:
		return fmt.Sprintf("the host is longer than %d bytes", maxIstioHost)
	case host == "*", len(first) > maxLabel, !isIstioFirst(first), dotted && !isIstioDomain(rest):
		return fmt.Sprintf("%q is no host", cut(host))
	default:
		return ""
	}
}

// isIstioDomain reports whether Istio's validator accepts the labels behind the first one of a host. The last
// one may be empty, and may not be a number.
func isIstioDomain(domain string) bool {
	last := domain[strings.LastIndexByte(domain, '.')+1:]
	if _, err := strconv.Atoi(last); err == nil || last != "" && !isIstioLabel(last) {
		return false
	}
	for rest := strings.TrimSuffix(domain, last); rest != ""; {
		var label string
		if label, rest, _ = strings.Cut(rest, "."); !isIstioLabel(label) {
			return false
		}
	}
	return true
}

// isIstioFirst reports whether Istio's validator accepts the first label of a host, which may begin with a wildcard.
func isIstioFirst(label string) bool {
	rest, wild := strings.CutPrefix(label, "*")
	return wild && rest == "" || isIstioLabel(rest) || wild && isIstioLabel(strings.TrimPrefix(rest, "-"))
}

// isIstioLabel reports whether Istio's validator accepts a label of a host. It allows upper case. A host may have a
// hundred labels, for each of which a regular expression takes several times as long.
func isIstioLabel(label string) bool {
	last := len(label) - 1
	for i := range len(label) {
		c := label[i]
		inside := c == '-' && i > 0 && i < last
		if !inside && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return label != "" && len(label) <= maxLabel
}

// cut shortens a value for a message.
func cut(value string) string { return printing.Shorten(value, 40) }
