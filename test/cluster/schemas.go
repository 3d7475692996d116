// The schemas against which an API server checks objects, for tests that check manifests without one.

package cluster

import (
	"context"
	"fmt"
	"io"
	"os/exec"
)

// schemas is the program that prints the schemas of Kubernetes' own kinds.
var schemas = component{"schemas", "schemas", "k8s.io/kubernetes", ".", nil}

// Schemas returns the schemas of Kubernetes' own kinds in the API server's version, as one JSON document of
// OpenAPI definitions; those with x-kubernetes-group-version-kind are kinds. It needs no cluster, and the
// network only once, to build them (see Build).
func Schemas(ctx context.Context, progress io.Writer) ([]byte, error) {
	source, cache, err := folders()
	if err != nil {
		return nil, err
	}
	program, err := schemas.build(ctx, source, cache, progress)
	if err != nil {
		return nil, fmt.Errorf("build schemas: %w", err)
	}
	return exec.CommandContext(ctx, program).Output()
}

// CRDs returns the documents of a set of CRDs, one of KnownCRDs. It needs no cluster, and the network only
// once (see BuildCRDs).
func CRDs(ctx context.Context, progress io.Writer, name string) ([]byte, error) {
	source, cache, err := folders()
	if err != nil {
		return nil, err
	}
	return crdYAML(ctx, source, cache, progress, name)
}
