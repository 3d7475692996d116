package lint

// From a text to objects that know where they stand. Documents are told apart
// before they are parsed, so that a broken one does not hide the others.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	// above is how many lines stand above the text that node was parsed from.
	node  *yamlv3.Node
	above int
	// parked are the field paths that mirrors in our annotation would have.
	parked []string
}

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

// group is the API group, "" for the core group.
func (h *head) group() string {
	group, _, found := strings.Cut(h.APIVersion, "/")
	if !found {
		return ""
	}
	return group
}

func (m *manifest) isRoute() bool {
	kind := route.Kind(m.head.Kind)
	return slices.Contains([]route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService}, kind) && m.head.group() == kind.Group()
}

// object names the object; namespace is for those that name none.
func (m *manifest) object(namespace string) string {
	meta := m.head.Metadata
	if meta.Namespace != "" {
		namespace = meta.Namespace
	}
	name := meta.Name
	if name == "" {
		name = meta.GenerateName
	}
	return strings.TrimSpace(m.head.Kind + " " + namespace + "/" + name)
}

func (m *manifest) place() string { return m.file + ":" + strconv.Itoa(m.line("")) }

// chunk is the text of one document.
type chunk struct {
	text  []byte
	above int
}

// split returns the objects of a source, and what could not be read.
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
	if m.node == nil { // nothing but comments
		return nil, nil
	}
	if m.head.Kind == "" || m.head.APIVersion == "" {
		return nil, errNoObject
	}
	if !strings.HasSuffix(m.head.Kind, "List") || m.head.Items == nil {
		return []*manifest{m}, nil
	}
	nodes := resolve(child(m.node, "items"))
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

// misread says which field has a value of the wrong type, "" where it cannot be
// told. The names of Go's types concern nobody.
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

// documents splits a text at the marks that YAML has for it: --- and ... at the
// start of a line. Several JSON values in a row are documents too.
func documents(text []byte) []chunk {
	var chunks []chunk
	start, line, first := 0, 0, 0
	flush := func(end int) {
		if c := (chunk{text[start:end], first}); len(bytes.TrimSpace(c.text)) > 0 {
			chunks = append(chunks, values(c)...)
		}
		start, first = end, line
	}
	at := 0
	for l := range bytes.Lines(text) {
		switch {
		case marks(l, "---"):
			flush(at)
		case marks(l, "..."):
			flush(at)
			start, first = at+len(l), line+1
		}
		at += len(l)
		line++
	}
	flush(len(text))
	return chunks
}

func marks(line []byte, mark string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	return ok && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// values splits a stream of JSON objects; any other text is one document. Tabs
// are legal between the values of JSON but not of YAML, as which it is read.
func values(c chunk) []chunk {
	if bytes.TrimSpace(c.text)[0] != '{' {
		return []chunk{c}
	}
	var out []chunk
	for dec := json.NewDecoder(bytes.NewReader(c.text)); ; {
		var value json.RawMessage
		err := dec.Decode(&value)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			return []chunk{c}
		}
		above := bytes.Count(c.text[:int(dec.InputOffset())-len(value)], []byte("\n"))
		out = append(out, chunk{bytes.ReplaceAll(value, []byte("\t"), []byte(" ")), c.above + above})
	}
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// unreadable says where a document is broken. The parser counts lines from the
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
