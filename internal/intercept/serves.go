package intercept

// What a proxy pod says of itself: the value of wellknown.ServesAnnotation.

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Proxy is a pod that serves in front of a Service.
type Proxy struct {
	Labels map[string]string
	Serves Serves
}

// Serves is what a proxy pod serves.
type Serves struct {
	// Keys are those of the Service's selector, sorted.
	Keys []string `json:"keys"`
	// Ports are those it listens on, sorted by number and name.
	Ports []Port `json:"ports"`
}

// Port is a port that a proxy listens on.
type Port struct {
	// Name is that of the target port, "" if it has a number.
	Name   string `json:"name,omitempty"`
	Number int    `json:"number"`
}

// ServesOf is what the proxies of a Service have to serve.
func ServesOf(original map[string]string, ports []corev1.ServicePort) Serves {
	s := Serves{Keys: slices.Sorted(maps.Keys(original)), Ports: []Port{}}
	for i := range ports {
		if p := portOf(&ports[i]); !slices.Contains(s.Ports, p) {
			s.Ports = append(s.Ports, p)
		}
	}
	slices.SortFunc(s.Ports, func(a, b Port) int {
		return cmp.Or(a.Number-b.Number, strings.Compare(a.Name, b.Name))
	})
	return s
}

func portOf(p *corev1.ServicePort) Port {
	port := Port{Number: wellknown.TargetPort(p)}
	if p.TargetPort.Type == intstr.String {
		port.Name = p.TargetPort.StrVal
	}
	return port
}

// String is the value of wellknown.ServesAnnotation.
func (s Serves) String() string {
	raw, _ := json.Marshal(s) // it cannot fail
	return string(raw)
}

// ParseServes reads the annotation. What cannot be read serves nothing.
func ParseServes(text string) (s Serves) {
	if json.Unmarshal([]byte(text), &s) != nil {
		return Serves{}
	}
	return s
}

func (s Serves) port(p *corev1.ServicePort) bool { return slices.Contains(s.Ports, portOf(p)) }
