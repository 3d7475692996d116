package schema

// JSON Schemas made from the API server's own: OpenAPI definitions and CRDs, made strict.

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/yannh/kubeconform/pkg/validator"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/test/cluster"
)

const (
	// definitionsFile contains the definitions to which the schemas of kinds refer.
	definitionsFile = "definitions.json"
	objectMeta      = definitionsFile + "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	kindExtension   = "x-kubernetes-group-version-kind"
)

// newValidator knows Kubernetes' own kinds and those of all sets of CRDs, and no others.
func newValidator(t *testing.T) validator.Validator {
	t.Helper()
	folder := t.TempDir()
	writeOwn(t, folder)
	for _, set := range cluster.KnownCRDs() {
		writeCRDs(t, folder, set)
	}
	v, err := validator.New([]string{filepath.Join(folder, "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json")}, validator.Opts{Strict: true})
	require.NoError(t, err)
	return v
}

// writeOwn writes the schemas of Kubernetes' own kinds.
func writeOwn(t *testing.T, folder string) {
	t.Helper()
	raw, err := cluster.Schemas(t.Context(), os.Stderr)
	require.NoError(t, err)
	var document struct {
		Definitions map[string]*spec.Schema `json:"definitions"`
	}
	require.NoError(t, json.Unmarshal(raw, &document))
	for name, definition := range document.Definitions {
		var kinds []schema.GroupVersionKind
		require.NoError(t, definition.Extensions.GetObject(kindExtension, &kinds))
		for _, kind := range kinds {
			write(t, folder, kindFile(kind), spec.RefSchema(definitionsFile+"#/definitions/"+name))
		}
		closeObjects(definition)
	}
	write(t, folder, definitionsFile, document)
}

// writeCRDs writes the schemas of a set of CRDs, which omit the fields that all objects have.
func writeCRDs(t *testing.T, folder, set string) {
	t.Helper()
	text, err := cluster.CRDs(t.Context(), os.Stderr, set)
	require.NoError(t, err)
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.Unmarshal([]byte(part), &crd))
		if crd.Kind != "CustomResourceDefinition" {
			continue
		}
		for _, version := range crd.Spec.Versions {
			raw, err := json.Marshal(version.Schema.OpenAPIV3Schema)
			require.NoError(t, err)
			var root spec.Schema
			require.NoError(t, json.Unmarshal(raw, &root))
			closeObjects(&root)
			root.SetProperty("metadata", *spec.RefSchema(objectMeta))
			write(t, folder, kindFile(schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}), &root)
		}
	}
}

// closeObjects rejects fields that a schema does not name, unless it preserves unknown fields. Schemas in
// allOf, anyOf, oneOf and not stay open, since they do not list all fields.
func closeObjects(s *spec.Schema) {
	open, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields")
	if len(s.Properties) > 0 && s.AdditionalProperties == nil && !open {
		s.AdditionalProperties = &spec.SchemaOrBool{}
	}
	for _, name := range slices.Collect(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		closeObjects(&property)
		s.Properties[name] = property
	}
	if s.Items != nil && s.Items.Schema != nil {
		closeObjects(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		closeObjects(s.AdditionalProperties.Schema)
	}
}

// kindFile returns the name of a kind's schema file, in newValidator's pattern: for a kind without a group,
// the version stands in for the group.
func kindFile(kind schema.GroupVersionKind) string {
	group := kind.Group
	if group == "" {
		group = kind.Version
	}
	return group + "_" + kind.Version + "_" + strings.ToLower(kind.Kind) + ".json"
}

func write(t *testing.T, folder, name string, content any) {
	t.Helper()
	raw, err := json.Marshal(content)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, name), raw, 0o600))
}
