package intercept

// The announcement of a proxy pod: the value of wellknown.ServesAnnotation.

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Proxy is a pod that serves in front of a Service.
type Proxy struct {
	Labels map[string]string
	Serves Serves
}

// Serves lists the selector keys and the ports that a proxy pod serves.
type Serves struct {
	// Keys are those of the Service's selector, sorted.
	Keys []string `json:"keys"`
	// Ports are those that it listens on, sorted by number and name.
	Ports []Port `json:"ports"`
}

// Port is a port that a proxy listens on.
type Port struct {
	// Name is that of the target port, "" if it has a number.
	Name   string `json:"name,omitempty"`
	Number int    `json:"number"`
}

// ServesOf returns the keys and ports that the proxies of a Service with this selector and these ports have
// to serve.
func ServesOf(original map[string]string, ports []ServicePort) Serves {
	s := Serves{Keys: slices.Sorted(maps.Keys(original)), Ports: []Port{}}
	for i := range ports {
		if p := portOf(ports[i]); !slices.Contains(s.Ports, p) {
			s.Ports = append(s.Ports, p)
		}
	}
	slices.SortFunc(s.Ports, func(a, b Port) int {
		return cmp.Or(a.Number-b.Number, strings.Compare(a.Name, b.Name))
	})
	return s
}

func portOf(p ServicePort) Port {
	port := Port{Number: wellknown.TargetPort(p.Port, p.TargetPort)}
	if p.TargetPort.Type == intstr.String {
		port.Name = p.TargetPort.StrVal
	}
	return port
}

// String returns the value of wellknown.ServesAnnotation.
func (s Serves) String() string {
	raw, _ := json.Marshal(s) // it cannot fail
	return string(raw)
}

// ParseServes reads the annotation. A proxy whose annotation cannot be read serves nothing.
func ParseServes(text string) (s Serves) {
	if json.Unmarshal([]byte(text), &s) != nil {
		return Serves{}
	}
	return s
}

func (s Serves) port(p ServicePort) bool { return slices.Contains(s.Ports, portOf(p)) }
