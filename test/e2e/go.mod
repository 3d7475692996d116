// The end-to-end test: a module of its own, so that nothing of it enters the product's.
module github.com/mirrorgate/mirrorgate/test/e2e

go 1.26

replace github.com/mirrorgate/mirrorgate/test/cluster => ../cluster

require (
	github.com/mirrorgate/mirrorgate/test/cluster v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
	sigs.k8s.io/yaml v1.6.0
)

require (
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
