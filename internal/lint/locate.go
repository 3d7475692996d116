package lint

// The position of a field path in its file.

import (
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// parkedField is the field that keeps parked mirrors.
const parkedField = "metadata.annotations[" + route.ParkedAnnotation + "]"

// noteParked notes the field paths of the mirrors that the annotation keeps. Findings about them must not
// point at the fields which have these paths in the file.
func (o *object) noteParked(rt *route.Route) {
	for _, mirror := range rt.Every {
		if mirror.Parked {
			o.parked = append(o.parked, mirror.Path)
		}
	}
}

// position returns the line and the column of a field, or of the deepest part of its path that the file has.
func (o *object) position(field string) (line, column int) {
	for _, path := range o.parked {
		if within(field, path) {
			field = parkedField
		}
	}
	if field == "" {
		return o.line, o.column
	}
	key, _ := deepest(o.tree(), field)
	return key.Line, key.Column
}

// deepest returns the deepest part of a field path that a tree has: its key and its value.
func deepest(node *yamlv3.Node, field string) (key, value *yamlv3.Node) {
	key, value = node, node
	for _, step := range steps(field) {
		k, v := manifest.Field(value, step)
		if v == nil {
			break
		}
		key, value = k, v
	}
	return key, value
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
