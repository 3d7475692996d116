package lint

// From the text of a file to objects with their positions.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// manifest is one object of a file.
type manifest struct {
	file     string
	document int
	raw      json.RawMessage
	head     head
	// node is the object in the file, nil for a document without one. above is the number of lines above the
	// text that it was parsed from.
	node  *yamlv3.Node
	above int
	// parked are the field paths of the mirrors that the annotation keeps.
	parked []string
}

// head is the part that objects of all kinds, and lists, have in common.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// group returns the API group, "" for the core group.
func (h *head) group() string {
	if group, _, found := strings.Cut(h.APIVersion, "/"); found {
		return group
	}
	return ""
}

func (m *manifest) isRoute() bool {
	kind := route.Kind(m.head.Kind)
	return slices.Contains([]route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService}, kind) && m.head.group() == kind.Group()
}

// object returns the kind, namespace and name of the object. namespace is for an object that names none.
func (m *manifest) object(namespace string) string {
	meta := m.head.Metadata
	return strings.TrimSpace(m.head.Kind + " " + cmp.Or(meta.Namespace, namespace) + "/" + cmp.Or(meta.Name, meta.GenerateName))
}

func (m *manifest) place() string { return m.file + ":" + strconv.Itoa(m.line("")) }

// split returns the objects of a source, and findings about the documents that could not be read.
func split(source Source) (manifests []*manifest, failures []Finding) {
	for n, c := range documents(bytes.TrimPrefix(source.Text, []byte("\ufeff"))) {
		m := &manifest{file: source.Name, document: n + 1, above: c.above}
		if err := m.parse(c.text); err != nil {
			failures = append(failures, m.unreadable(c, err))
			continue
		}
		items, err := m.flatten()
		switch {
		case err == nil:
			manifests = append(manifests, items...)
		case !source.Found:
			failures = append(failures, m.unreadable(c, err))
		}
	}
	return manifests, failures
}

var errNoObject = errors.New("is no Kubernetes object: apiVersion and kind must be set")

// flatten returns the object, or the items of a list.
func (m *manifest) flatten() ([]*manifest, error) {
	if m.node == nil { // only comments
		return nil, nil
	}
	if m.head.Kind == "" || m.head.APIVersion == "" {
		return nil, errNoObject
	}
	if !strings.HasSuffix(m.head.Kind, "List") || m.head.Items == nil {
		return []*manifest{m}, nil
	}
	_, nodes := child(m.node, "items")
	var all []*manifest
	for n, raw := range m.head.Items {
		item := &manifest{file: m.file, document: m.document, above: m.above, raw: raw, node: m.node}
		if nodes != nil && n < len(nodes.Content) {
			item.node = resolve(nodes.Content[n])
		}
		if err := item.readHead(); err != nil {
			return nil, fmt.Errorf("items[%d]: %w", n, err)
		}
		found, err := item.flatten()
		if err != nil {
			return nil, fmt.Errorf("items[%d]: %w", n, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// parse reads the text of a document.
func (m *manifest) parse(text []byte) error {
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(text, &root); err != nil {
		return err
	}
	if len(root.Content) == 0 || resolve(root.Content[0]).Tag == "!!null" {
		return nil
	}
	var err error
	if m.raw, err = yaml.YAMLToJSONStrict(text); err != nil {
		return err
	}
	m.node = resolve(root.Content[0])
	return m.readHead()
}

func (m *manifest) readHead() error {
	err := kjson.UnmarshalCaseSensitivePreserveInts(m.raw, &m.head)
	if field, message := misread(err); field != "" {
		return fmt.Errorf("%s: %s", field, message)
	}
	if err != nil {
		return errNoObject
	}
	return nil
}

// misread returns which field has a value of the wrong type, "" when this is not known, and a message without
// the names of Go types.
func misread(err error) (field, message string) {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		return mismatch.Field, "must not be of type " + mismatch.Value
	}
	if err != nil {
		message = err.Error()
	}
	return "", message
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// unreadable returns the finding about a document that could not be read. The parser counts lines from the
// start of the document.
func (m *manifest) unreadable(c chunk, err error) Finding {
	f := Finding{Level: Unreadable, File: m.file, Line: m.line(""), Document: m.document, Reason: policy.Unreadable}
	f.Message = strings.ReplaceAll(err.Error(), "yaml: ", "")
	f.Message = strings.TrimSpace(strings.TrimPrefix(f.Message, "unmarshal errors:"))
	if at := yamlLine.FindStringSubmatch(f.Message); at != nil {
		n, _ := strconv.Atoi(at[1]) // digits
		f.Line = c.above + n
		f.Message = strings.Replace(f.Message, at[0], "", 1)
	}
	if before, _, template := bytes.Cut(c.text, []byte("{{")); template {
		f.Line = c.above + bytes.Count(before, []byte("\n")) + 1
		f.Remedy = "this looks like a template: render it first, as in `helm template . | mirrorgate lint -`"
	}
	return f
}
