package main

// The objects that the figures are promised for, as the API server stores them.

const serviceJSON = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web-%d-v2","namespace":"shop"},"spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080}],"selector":{"app":"web-%d","version":"v2"}}}`

const sliceJSON = `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","metadata":{"name":"web-%d-v2","namespace":"shop","labels":{"kubernetes.io/service-name":"web-%d-v2"}},"endpoints":[{"addresses":["10.244.0.%[3]d"],"conditions":{"ready":%[4]t}}],"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}`

const deploymentJSON = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web-%d-v2","namespace":"shop"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"web-%d","version":"v2"}},"template":{"metadata":{"labels":{"app":"web-%d","version":"v2"}},"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`

const routeJSON = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"web-%[1]d","namespace":"shop","labels":{"app":"web-%[1]d"}},"spec":{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public"}],"hostnames":["web-%[1]d.example.com"],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}],"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"group":"","kind":"Service","name":"web-%[2]d-v2","port":80},"percent":25}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]},{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]}]}}`

// plainJSON is a route of the same size without a mirror.
const plainJSON = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"plain-%[1]d","namespace":"shop","labels":{"app":"web-%[1]d"}},"spec":{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"public"}],"hostnames":["web-%[1]d.example.com"],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}],"filters":[{"type":"RequestHeaderModifier","requestHeaderModifier":{"set":[{"name":"x-variant","value":"web-%[2]d-v2"},{"name":"x-share","value":"25"}]}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]},{"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"backendRefs":[{"group":"","kind":"Service","name":"web-%[3]d-v1","port":80,"weight":1}]}]}}`
