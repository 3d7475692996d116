package fields

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

func check(t *testing.T, text string) error {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	var kind struct{ APIVersion, Kind string }
	require.NoError(t, yaml.Unmarshal(raw, &kind))
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	require.NoError(t, err)
	return Check(gv.WithKind(kind.Kind).GroupKind(), raw)
}

func TestMisspeltFieldsAreNamedWithTheirPath(t *testing.T) {
	for text, want := range map[string]string{
		"{apiVersion: v1, kind: Service, metadata: {name: a, nmespace: b}, spec: {}}":                                                               `unknown field "metadata.nmespace"`,
		"{apiVersion: v1, kind: Service, spec: {ports: [{port: 80}, {prt: 80}]}}":                                                                   `unknown field "spec.ports[1].prt"`,
		"{apiVersion: v1, kind: Service, spec: {ports: [{port: many}]}}":                                                                            "spec.ports.port must not be of type string",
		"{apiVersion: v1, kind: Namespace, metadata: {label: {}}}":                                                                                  `unknown field "metadata.label"`,
		"{apiVersion: v1, kind: Pod, spec: {container: []}}":                                                                                        `unknown field "spec.container"`,
		"{apiVersion: apps/v1, kind: Deployment, spec: {replica: 2}}":                                                                               `unknown field "spec.replica"`,
		"{apiVersion: apps/v1, kind: StatefulSet, spec: {replica: 2}}":                                                                              `unknown field "spec.replica"`,
		"{apiVersion: apps/v1, kind: DaemonSet, spec: {replicas: 2}}":                                                                               `unknown field "spec.replicas"`,
		"{apiVersion: apps/v1, kind: ReplicaSet, spec: {replica: 2}}":                                                                               `unknown field "spec.replica"`,
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, endpoint: []}":                                                                      `unknown field "endpoint"`,
		"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, spec: {rules: [{filters: [{requestMirror: {percentage: 5}}]}]}}":               `unknown field "spec.rules[0].filters[0].requestMirror.percentage"`,
		"{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, spec: {rules: [{filter: []}]}}":                                                `unknown field "spec.rules[0].filter"`,
		"{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, spec: {form: []}}":                                                        `unknown field "spec.form"`,
		"{apiVersion: networking.istio.io/v1, kind: VirtualService, spec: {http: [{route: []}, {mirrorPercentages: {value: 5}}]}}":                  `unknown field "spec.http[1].mirrorPercentages"`,
		"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {annotation: {}}}":                                                    `unknown field "metadata.annotation"`,
		"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {annotations: 7}}":                                                    "metadata.annotations must not be of type number",
		"{apiVersion: networking.istio.io/v1, kind: VirtualService, spec: {http: [{match: [{headers: {x-user: {exct: a}}}]}]}}":                     `unknown field "spec.http[0].match[0].headers[x-user].exct"`,
		"{apiVersion: networking.istio.io/v1beta1, kind: DestinationRule, spec: {subset: []}}":                                                      `unknown field "spec.subset"`,
		"{apiVersion: networking.istio.io/v1, kind: ServiceEntry, spec: {host: [a]}}":                                                               `unknown field "spec.host"`,
		"{apiVersion: argoproj.io/v1alpha1, kind: Rollout, spec: {strategy: {canary: {trafficRoutings: {}}}}}":                                      `unknown field "spec.strategy.canary.trafficRoutings"`,
		"{apiVersion: argoproj.io/v1alpha1, kind: Rollout, spec: {template: {metadata: {lables: {}}}}}":                                             `unknown field "spec.template.metadata.lables"`,
		"{apiVersion: argoproj.io/v1alpha1, kind: Rollout, spec: {replica: 1, strategy: {canary: {trafficRouting: {istio: {virtualServic: {}}}}}}}": `unknown field "spec.replica"` + "\n" + `unknown field "spec.strategy.canary.trafficRouting.istio.virtualServic"`,
	} {
		assert.EqualError(t, check(t, text), want, text)
	}
}

func TestFieldsOfKnownKindsAndAllOfOthersAreFine(t *testing.T) {
	for _, text := range []string{
		"{apiVersion: serving.knative.dev/v1, kind: Service, spec: {anything: 1}}",
		"{apiVersion: v1, kind: ConfigMap, dta: {}}",
		"{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 2, template: {spec: {containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]}}}}",
		"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a, labels: {any: label}}, spec: {rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 1}}}]}]}, status: {parents: []}}",
		"{apiVersion: networking.istio.io/v1, kind: VirtualService, spec: {http: [{match: [{headers: {x-user: {exact: a}}}], mirror_percent: 5, headers: {request: {set: {any: header}}}}]}}",
		"{apiVersion: argoproj.io/v1alpha1, kind: Rollout, spec: {template: {spec: {containers: []}}, strategy: {canary: {trafficRouting: {plugins: {argoproj-labs/gatewayAPI: {httpRoute: a}}}}}}}",
	} {
		assert.NoError(t, check(t, text), text)
	}
}
