// Package manifests holds the objects that install mirrorgate in a cluster, and provides the program with the
// webhook configurations among them, which it registers itself.
package manifests

import (
	"embed"
	"errors"
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

// The components for kinds of routes, which are also the values of --routes.
const (
	GatewayAPI = "gateway-api" // HTTPRoutes and GRPCRoutes
	Istio      = "istio"       // VirtualServices
)

// NoMesh is the component for proxies in front of Services.
const NoMesh = "no-mesh"

// Routes returns the components for all kinds of routes.
func Routes() []string { return []string{GatewayAPI, Istio} }

//go:embed components/gateway-api/webhooks.yaml components/istio/webhooks.yaml components/no-mesh/webhooks.yaml
var webhooks embed.FS

// Webhooks returns the webhook configurations of components. They call the Service of an installation in the
// cluster. An unknown component is an error.
func Webhooks(components ...string) (mutating *admissionregistrationv1.MutatingWebhookConfiguration,
	validating *admissionregistrationv1.ValidatingWebhookConfiguration, err error,
) {
	mutating, validating = &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
	for _, component := range components {
		file := "components/" + component + "/webhooks.yaml"
		text, err := webhooks.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		var m admissionregistrationv1.MutatingWebhookConfiguration
		var v admissionregistrationv1.ValidatingWebhookConfiguration
		first, second, _ := strings.Cut(string(text), "\n---\n")
		err = errors.Join(yaml.UnmarshalStrict([]byte(first), &m), yaml.UnmarshalStrict([]byte(second), &v))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		m.Webhooks, v.Webhooks = append(mutating.Webhooks, m.Webhooks...), append(validating.Webhooks, v.Webhooks...)
		if v.Name == "" { // the component has no validating webhook
			v.TypeMeta, v.ObjectMeta = validating.TypeMeta, validating.ObjectMeta
		}
		mutating, validating = &m, &v
	}
	return mutating, validating, nil
}
