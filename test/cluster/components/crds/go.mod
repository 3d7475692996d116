// The modules whose CustomResourceDefinitions the test cluster installs; see crds.go.
module github.com/mirrorgate/mirrorgate/test/cluster/components/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.6.3
)
