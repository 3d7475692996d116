package lint

// From the text of a file to objects with their positions.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	yamlv3 "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// object is one object of a file.
type object struct {
	file     string
	document int
	raw      json.RawMessage
	head     head
	// node is the object in the file. It is nil between the reading of the file and the findings about the object,
	// because trees take many times the memory of their text.
	node *yamlv3.Node
	// source is the document, and path the place in it, of an object without a node.
	source *source
	path   string
	// line and column are where the object begins, foreign is set if it mentions mirrors and is not judged.
	line, column int
	foreign      bool
	// parked are the field paths of the mirrors that the annotation keeps.
	parked []string
}

// source is a document whose tree was dropped. It is made again for the objects of a list together.
type source struct {
	manifest.Document
	tree func() *yamlv3.Node
}

// tree returns the object in the file.
func (o *object) tree() *yamlv3.Node {
	if o.node != nil {
		return o.node
	}
	node := o.source.tree()
	for _, step := range steps(o.path) {
		if _, node = manifest.Field(node, step); node == nil {
			return &yamlv3.Node{Line: o.line, Column: o.column}
		}
	}
	return node
}

// dropTree drops the tree, and notes the parts of it that are needed without a finding.
func (o *object) dropTree() {
	o.line, o.column = o.node.Line, o.node.Column
	o.foreign = o.unjudged()
	o.node = nil
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

func (o *object) isRoute() bool {
	kind := route.Kind(o.head.Kind)
	return slices.Contains([]route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService}, kind) && o.head.group() == kind.Group()
}

// name returns the kind, namespace and name of the object. namespace is for an object that names none.
func (o *object) name(namespace string) string {
	meta := o.head.Metadata
	return strings.TrimSpace(o.head.Kind + " " + cmp.Or(meta.Namespace, namespace) + "/" + cmp.Or(meta.Name, meta.GenerateName))
}

// unjudged reports whether an object mentions mirrors and is of a kind that mirrorgate does not judge: a route
// of another API group, or one that only its own controller knows.
func (o *object) unjudged() bool {
	group := o.head.group()
	if variant.Models(group, o.head.Kind) || slices.Contains(foreignGroups, group) || !route.MayMirror(o.raw) {
		return false
	}
	return mentionsMirror(o.node)
}

// foreignGroups are API groups whose objects steer no traffic, though they may mention mirrors: definitions
// have the fields of routes, and ConfigMaps hold anything.
var foreignGroups = []string{"", "apiextensions.k8s.io", "admissionregistration.k8s.io", "rbac.authorization.k8s.io", "monitoring.coreos.com", "mirrorgate.dev"}

// mentionsMirror reports whether a key, or the type of a filter, is about mirrors.
func mentionsMirror(node *yamlv3.Node) bool {
	for i, child := range node.Content {
		isKey := node.Kind == yamlv3.MappingNode && i%2 == 0
		key := strings.ToLower(child.Value)
		if isKey && strings.Contains(key, "mirror") && !strings.HasPrefix(key, "mirrorgate") || child.Value == "RequestMirror" || mentionsMirror(child) {
			return true
		}
	}
	return false
}

func (o *object) place() string { return fmt.Sprintf("%s:%d", o.file, o.line) }

// split returns the objects of a source, and findings about the documents that could not be read. It calls seen
// with the tree of each document, which is dropped afterwards.
func split(from Source, seen func(*yamlv3.Node)) (objects []*object, failures []Finding) {
	for d := range manifest.Parse(from.Text) {
		if d.Err != nil {
			failures = append(failures, unreadable(from, d, d.Err))
			continue
		}
		if d.Raw == nil { // only comments
			continue
		}
		seen(d.Node)
		of := &source{Document: d}
		of.Node, of.tree = nil, of.Tree
		found, errs := flatten(&object{file: from.Name, document: d.Number, raw: d.Raw, node: d.Node, source: of}, "")
		if len(found) > 1 {
			of.tree = sync.OnceValue(of.Tree)
		}
		for _, o := range found {
			o.dropTree()
		}
		objects = append(objects, found...)
		for _, err := range errs {
			// A folder may hold other documents, such as Helm's values; an item of a list is meant as an object.
			if !from.Found || err.field != "" || !errors.Is(err, errNoObject) {
				failures = append(failures, unreadable(from, d, err))
			}
		}
	}
	return objects, failures
}

var errNoObject = errors.New("is no Kubernetes object: apiVersion and kind must be set")

// itemError is an error about a part of a document.
type itemError struct {
	node  *yamlv3.Node
	field string
	err   error
}

func (e *itemError) Error() string { return strings.TrimPrefix(e.field+": "+e.err.Error(), ": ") }
func (e *itemError) Unwrap() error { return e.err }

// flatten reads the head of an object and returns the object, or the items of a list, with an error for each part
// that is no object.
func flatten(o *object, path string) ([]*object, []*itemError) {
	if err := o.readHead(); err != nil {
		field, message := misread(err)
		if field == "" {
			return nil, []*itemError{{o.node, path, errNoObject}}
		}
		_, at := deepest(o.node, field)
		return nil, []*itemError{{at, strings.TrimPrefix(path+"."+field, "."), errors.New(message)}}
	}
	if o.head.Kind == "" || o.head.APIVersion == "" {
		return nil, []*itemError{{o.node, path, errNoObject}}
	}
	if !strings.HasSuffix(o.head.Kind, "List") || o.head.Items == nil {
		return []*object{o}, nil
	}
	_, nodes := manifest.Field(o.node, "items")
	var all []*object
	var failures []*itemError
	for n, raw := range o.head.Items {
		at := strings.TrimPrefix(fmt.Sprintf("%s.items[%d]", path, n), ".")
		item := &object{file: o.file, document: o.document, raw: raw, node: o.node, source: o.source, path: at}
		if nodes != nil && n < len(nodes.Content) {
			item.node = manifest.Resolve(nodes.Content[n])
		}
		found, errs := flatten(item, at)
		all, failures = append(all, found...), append(failures, errs...)
	}
	return all, failures
}

func (o *object) readHead() error {
	return kjson.UnmarshalCaseSensitivePreserveInts(o.raw, &o.head)
}

// misread returns which field has a value of the wrong type, "" when this is not known, and a message without
// the names of Go types.
func misread(err error) (field, message string) {
	var mismatch *json.UnmarshalTypeError
	var form *route.FormError
	switch {
	case errors.As(err, &form):
		return form.Field, form.Message
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return mismatch.Field, "must not be of type " + mismatch.Value
	case err != nil:
		message = err.Error()
	}
	return "", message
}

// unreadable returns the finding about a document, or a part of it, that could not be read.
func unreadable(source Source, d manifest.Document, err error) Finding {
	f := Finding{Level: Unreadable, File: source.Name, Line: d.Above + 1, Column: 1, Document: d.Number, Reason: policy.Unreadable}
	f.Message = err.Error()
	var syntax *manifest.Error
	var item *itemError
	switch {
	case errors.As(err, &syntax):
		f.Line, f.Column, f.Message = syntax.Line, syntax.Column, syntax.Message
	case errors.As(err, &item) && item.node != nil:
		f.Line, f.Column = item.node.Line, item.node.Column
	}
	if before, _, template := bytes.Cut(d.Text, []byte("{{")); template && syntax != nil {
		f.Line = d.Above + bytes.Count(before, []byte("\n")) + 1
		f.Column = len(before) - bytes.LastIndexByte(before, '\n')
		f.Message = "this is a template, not a manifest"
		f.Remedy = "render it first, as in `helm template . | mirrorgate lint -`"
	}
	return f
}
