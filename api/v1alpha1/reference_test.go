package v1alpha1

// docs/reference/api.md, made from the CustomResourceDefinitions: people who have no cluster at hand read it in place of
// kubectl explain.

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite docs/reference/api.md")

const reference = "../../docs/reference/api.md"

func TestReferenceIsThatOfTheTypes(t *testing.T) {
	var page strings.Builder
	page.WriteString("# API\n\nGenerated from `api/v1alpha1` by `make generate`. `kubectl explain mirrorlimit --recursive` shows the same.\n")
	files, err := filepath.Glob("../../manifests/components/policy/mirrorgate.dev_*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict(text, &crd))
		for _, version := range crd.Spec.Versions {
			root := version.Schema.OpenAPIV3Schema
			fmt.Fprintf(&page, "\n## %s\n\n`%s/%s`, %s. %s\n\n| field | type | meaning |\n|---|---|---|\n",
				crd.Spec.Names.Kind, crd.Spec.Group, version.Name, strings.ToLower(string(crd.Spec.Scope)), oneLine(root.Description))
			for _, name := range []string{"spec", "status"} {
				if part, ok := root.Properties[name]; ok {
					writeFields(&page, name, part)
				}
			}
		}
	}
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(reference), 0o755))
		require.NoError(t, os.WriteFile(reference, []byte(page.String()), 0o644))
	}
	have, err := os.ReadFile(reference)
	require.NoError(t, err)
	require.Equal(t, page.String(), string(have), "docs/reference/api.md is not that of the types: run make generate")
}

// Every field is explained, and one that an author writes says what holds without it or what it may look like.
func TestEveryFieldIsExplained(t *testing.T) {
	text, err := os.ReadFile(reference)
	require.NoError(t, err)
	rows := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || !strings.HasPrefix(line, "| `") {
			continue
		}
		rows++
		require.Greater(t, len(cells[2]), 20, "%s is not explained", cells[0])
	}
	require.Greater(t, rows, 20)
}

func writeFields(page *strings.Builder, path string, schema apiextensionsv1.JSONSchemaProps) {
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		field := schema.Properties[name]
		at, kind := path+"."+name, field.Type
		if slices.Contains(schema.Required, name) {
			kind += ", required"
		}
		items := field.Items
		if items != nil && items.Schema != nil {
			kind = strings.Replace(kind, "array", "list of "+items.Schema.Type+"s", 1)
		}
		fmt.Fprintf(page, "| `%s` | %s | %s |\n", at, kind, strings.ReplaceAll(oneLine(field.Description), "|", `\|`))
		writeFields(page, at, field)
		if items != nil && items.Schema != nil {
			writeFields(page, at+"[]", *items.Schema)
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
