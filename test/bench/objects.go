package main

import "encoding/json"

// The objects for which the figures are promised.

const serviceJSON = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web-%d-v2","namespace":"shop"},"spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080}],"selector":{"app":"web-%d","version":"v2"}}}`

const sliceJSON = `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"name":"web-%d-v2","namespace":"shop","labels":{"kubernetes.io/service-name":"web-%d-v2"}},"endpoints":[{"addresses":["10.244.0.%[3]d"],"conditions":{"ready":%[4]t}}],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}`

const deploymentJSON = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web-%d-v2","namespace":"shop"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"web-%d","version":"v2"}},"template":{"metadata":{"labels":{"app":"web-%d","version":"v2"}},"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`

const routeJSON = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"web-%[1]d","namespace":"shop","labels":{"app":"web-%[1]d"}},"spec":{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public"}],"hostnames":["web-%[1]d.example.com"],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}],"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"group":"","kind":"Service","name":"web-%[2]d-v2","port":80},"percent":25}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]},{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]}]}}`

// plainJSON is a route of the same size without a mirror.
const plainJSON = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"plain-%[1]d","namespace":"shop","labels":{"app":"web-%[1]d"}},"spec":{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public"}],"hostnames":["web-%[1]d.example.com"],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}],"filters":[{"type":"RequestHeaderModifier","requestHeaderModifier":{"set":[{"name":"x-variant","value":"web-%[2]d-v2"},{"name":"x-share","value":"25"}]}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]},{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]}]}}`

// storedMetadata and storedStatus are the fields that the API server and controllers add to a route that Flux
// applied and a gateway serves: every review contains them.
const (
	storedMetadata = `{"uid":"1b4df48b-7a32-44f4-9ef2-5d3db5b3a1a2","resourceVersion":"184467","generation":3,"creationTimestamp":"2026-11-20T08:15:30Z",
		"annotations":{"mirrorgate.dev/variants":"web-v2=Ready"},
		"labels":{"app":"web","kustomize.toolkit.fluxcd.io/name":"apps","kustomize.toolkit.fluxcd.io/namespace":"flux-system"},
		"managedFields":[
		{"apiVersion":"gateway.networking.k8s.io/v1","fieldsType":"FieldsV1","manager":"kustomize-controller","operation":"Apply","time":"2026-11-20T08:15:30Z","fieldsV1":{"f:metadata":{"f:labels":{"f:app":{},"f:kustomize.toolkit.fluxcd.io/name":{},"f:kustomize.toolkit.fluxcd.io/namespace":{}}},"f:spec":{"f:hostnames":{},"f:parentRefs":{},"f:rules":{}}}},
		{"apiVersion":"gateway.networking.k8s.io/v1","fieldsType":"FieldsV1","manager":"mirrorgate","operation":"Update","time":"2026-11-20T08:15:31Z","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:mirrorgate.dev/variants":{}}}}},
		{"apiVersion":"gateway.networking.k8s.io/v1","fieldsType":"FieldsV1","manager":"envoy-gateway","operation":"Update","subresource":"status","time":"2026-11-20T08:15:31Z","fieldsV1":{"f:status":{".":{},"f:parents":{}}}}]}`
	storedStatus = `{"parents":[{"controllerName":"gateway.envoyproxy.io/gatewayclass-controller","parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public"},"conditions":[
		{"lastTransitionTime":"2026-11-20T08:15:31Z","message":"Route is accepted","observedGeneration":3,"reason":"Accepted","status":"True","type":"Accepted"},
		{"lastTransitionTime":"2026-11-20T08:15:31Z","message":"Resolved all the Object references for the Route","observedGeneration":3,"reason":"ResolvedRefs","status":"True","type":"ResolvedRefs"}]}]}`
)

// stored returns a manifest as the API server stores it.
func stored(manifest []byte) ([]byte, error) {
	var object map[string]any
	if err := json.Unmarshal(manifest, &object); err != nil {
		return nil, err
	}
	metadata, _ := object["metadata"].(map[string]any)
	if err := json.Unmarshal([]byte(storedMetadata), &metadata); err != nil {
		return nil, err
	}
	var status any
	if err := json.Unmarshal([]byte(storedStatus), &status); err != nil {
		return nil, err
	}
	object["status"] = status
	return json.Marshal(object)
}
