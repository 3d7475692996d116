package lint

// The line of a field path in its file.

import (
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// parkedField is the field that keeps parked mirrors.
const parkedField = "metadata.annotations[" + route.ParkedAnnotation + "]"

// noteParked notes the field paths of the mirrors that the annotation keeps. Findings about them must not
// point at the fields which have these paths in the file.
func (m *manifest) noteParked(rt *route.Route) {
	for _, mirror := range rt.Every {
		if mirror.Parked {
			m.parked = append(m.parked, mirror.Path)
		}
	}
}

// line returns the line of a field, or of the deepest part of its path that the file has.
func (m *manifest) line(field string) int {
	for _, path := range m.parked {
		if within(field, path) {
			field = parkedField
		}
	}
	if m.node == nil {
		return m.above + 1
	}
	node, line := m.node, m.node.Line
	for _, step := range steps(field) {
		key, value := child(node, step)
		if value == nil {
			break
		}
		node, line = value, key.Line
	}
	return m.above + line
}

// steps splits a field path into names and numbers. A key that contains dots is in brackets.
func steps(field string) []string {
	var out []string
	for field != "" {
		if field[0] == '[' {
			key, rest, _ := strings.Cut(field[1:], "]")
			out, field = append(out, key), strings.TrimPrefix(rest, ".")
			continue
		}
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			return append(out, field)
		}
		out = append(out, field[:end])
		field = strings.TrimPrefix(field[end:], ".")
	}
	return out
}

// child returns a member of a mapping with its key, or an element of a sequence as both; nil when there is
// none.
func child(node *yamlv3.Node, step string) (key, value *yamlv3.Node) {
	switch node.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], resolve(node.Content[i+1])
			}
		}
	case yamlv3.SequenceNode:
		if n, err := strconv.Atoi(step); err == nil && n >= 0 && n < len(node.Content) {
			element := resolve(node.Content[n])
			return element, element
		}
	}
	return nil, nil
}

// resolve returns the node that an alias stands for, another node as it is.
func resolve(node *yamlv3.Node) *yamlv3.Node {
	for node != nil && node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	return node
}
