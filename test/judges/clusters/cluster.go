// Package clusters makes clusters for the judges: random ones from a seed, with the routes that are written
// into them, and smaller ones from a cluster that a judge failed on.
package clusters

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
)

// Object is one Kubernetes object, as decoded from JSON.
type Object = map[string]any

// Cluster is one case of a judge.
type Cluster struct {
	// Objects are what the cluster holds before the routes are written.
	Objects []Object
	// Routes are written one after the other.
	Routes []Object
}

// clone returns a copy as decoded from JSON.
func (c Cluster) clone() Cluster {
	var out Cluster
	for _, o := range c.Objects {
		out.Objects = append(out.Objects, Clone(o))
	}
	for _, o := range c.Routes {
		out.Routes = append(out.Routes, Clone(o))
	}
	return out
}

// Text returns objects as one manifest.
func Text(lists ...[]Object) []byte {
	var text bytes.Buffer
	for _, list := range lists {
		for _, o := range list {
			text.WriteString("---\n")
			text.Write(JSON(o))
			text.WriteByte('\n')
		}
	}
	return text.Bytes()
}

// JSON returns a value in JSON.
func JSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // values are made here, of maps, lists and scalars
	}
	return raw
}

// Clone returns a copy of an object that shares nothing with it.
func Clone(o Object) Object { return Parse(JSON(o)) }

// At returns the value at a path of keys, nil when there is none.
func At(v any, path ...string) any {
	for _, key := range path {
		object, _ := v.(Object)
		v = object[key]
	}
	return v
}

// List returns the list at a path of keys, nil when there is none.
func List(v any, path ...string) []any {
	list, _ := At(v, path...).([]any)
	return list
}

// Name returns the namespace and name of an object, as namespace/name.
func Name(o Object) string {
	namespace, _ := At(o, "metadata", "namespace").(string)
	name, _ := At(o, "metadata", "name").(string)
	return namespace + "/" + name
}

// Maker makes random objects.
type Maker struct{ *rand.Rand }

// Seeded returns a Maker whose objects depend on the seed alone.
func Seeded(seed uint64) Maker { return Maker{rand.New(rand.NewPCG(seed, 42))} }

// OneIn reports true once in n times.
func (m Maker) OneIn(n int) bool { return m.IntN(n) == 0 }

// Pick returns one of several values.
func Pick[T any](m Maker, from ...T) T { return from[m.IntN(len(from))] }

// object returns an object of a kind.
func object(apiVersion, kind, namespace, name string, spec Object) Object {
	return Object{"apiVersion": apiVersion, "kind": kind, "metadata": Object{"name": name, "namespace": namespace}, "spec": spec}
}

// Parse returns the object in a JSON text that this program made.
func Parse(raw []byte) Object {
	var o Object
	if err := json.Unmarshal(raw, &o); err != nil {
		panic(err)
	}
	return o
}
