package demo

// The manifests that are played, word for word as they stand in two documents that people mirror traffic by:
// Istio's task "Mirroring" (istio.io, both its forms) and Iter8's tutorial "Traffic mirroring". Nothing in
// them is mirrorgate's, so it treats them like its users' own files.
//
// The documents' clients (curl, sleep) are left out, because the demo sends its own requests or none, and so
// are two lines of Iter8's routing policy that no API server accepts. inspect.yaml and route.yaml are the
// routes that the tutorial prints.

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed documents/*/*.yaml
var files embed.FS

// manifests are the objects of each file, by its path below documents.
type manifests map[string][]*unstructured.Unstructured

func readDocuments() (manifests, error) {
	all := manifests{}
	documents, err := fs.Sub(files, "documents")
	if err != nil {
		return nil, err
	}
	return all, fs.WalkDir(documents, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(documents, path)
		if err != nil {
			return err
		}
		all[path], err = parse(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}

func parse(raw []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for part := range bytes.SplitSeq(raw, []byte("\n---\n")) {
		raw, err := yaml.YAMLToJSONStrict(part)
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{} // it keeps integers apart from fractions
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		stringLabels(object.Object)
		objects = append(objects, object)
	}
	return objects, nil
}

// stringLabels reads a label's value as text. Iter8's `iter8.tools/detect: true` is a boolean in YAML, which
// the API server refuses; the tutorial gets away with it where it sends the manifest through istioctl, which
// reads it like this.
func stringLabels(object map[string]any) {
	metadata, _ := object["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	for name, value := range labels {
		labels[name] = fmt.Sprint(value)
	}
}

// named is "deployment/httpbin-v2", as kubectl takes it.
func named(object *unstructured.Unstructured) string {
	return strings.ToLower(object.GetKind()) + "/" + object.GetName()
}
