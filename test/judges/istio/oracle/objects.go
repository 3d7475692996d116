// Package oracle asks Istio's own control plane, as a library, what it accepts and what Envoy would be told.
package oracle

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/log"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
)

const (
	domain = "cluster.local"
	// clusterID is the name under which Istio knows the Kubernetes cluster that it runs in.
	clusterID = "Kubernetes"
)

// Objects are those of one cluster, as Istio's clients hand them on.
type Objects struct {
	configs []config.Config
	kube    []runtime.Object
}

// Quiet turns Istio's log off.
func Quiet() {
	for _, s := range log.Scopes() {
		s.SetOutputLevel(log.NoneLevel)
	}
}

// Read reads lists of objects. Of two VirtualServices, the one that comes first is the older one.
func Read(lists ...[]clusters.Object) (Objects, error) {
	var o Objects
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, list := range lists {
		for _, object := range list {
			if err := o.read(object, &at); err != nil {
				return Objects{}, fmt.Errorf("%v %s: %w", object["kind"], clusters.Name(object), err)
			}
		}
	}
	return o, nil
}

func (o *Objects) read(object clusters.Object, at *time.Time) error {
	raw := clusters.JSON(object)
	version, _ := object["apiVersion"].(string)
	switch {
	case strings.HasPrefix(version, "networking.istio.io/"):
		_, c, err := convert(raw)
		if err != nil {
			return err
		}
		*at = at.Add(time.Second)
		c.CreationTimestamp = *at
		o.configs = append(o.configs, *c)
	case version == "v1" || strings.HasPrefix(version, "discovery.k8s.io/"):
		object, _, err := kube.IstioCodec.UniversalDeserializer().Decode(raw, nil, nil)
		if err != nil {
			return err
		}
		o.kube = append(o.kube, object)
	}
	return nil // Istio reads no workloads but pods
}

// convert makes a config of an object in JSON. It sets the domain, without which short hosts are not expanded.
func convert(raw []byte) (resource.Schema, *config.Config, error) {
	var kind crd.IstioKind
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, nil, err
	}
	gvk := kind.GroupVersionKind()
	schema, ok := collections.PilotGatewayAPI().FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&gvk))
	if !ok {
		return nil, nil, fmt.Errorf("no kind of Istio: %v", gvk)
	}
	c, err := crd.ConvertObject(schema, &kind, domain)
	return schema, c, err
}

// Check returns the reason why Istio's own admission refuses an object in JSON, nil when it accepts it.
func Check(raw []byte) error {
	schema, c, err := convert(raw)
	if err != nil {
		return err
	}
	_, err = schema.ValidateConfig(*c)
	return err
}
