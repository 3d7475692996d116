package webhooktest

// Objects as a Cluster keeps them, and how they are read.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/patch"
	"github.com/mirrorgate/mirrorgate/webhook/webhooktest/internal/fields"
)

const (
	kindNamespace     = "Namespace"
	kindService       = "Service"
	kindPod           = "Pod"
	kindEndpointSlice = "EndpointSlice"
)

// indexed are the kinds on which decisions depend, by name.
var indexed = func() map[string]variant.Kind {
	kinds := map[string]variant.Kind{}
	for kind := variant.KindService; kind <= variant.KindVirtualService; kind++ {
		kinds[kind.Unique()] = kind
	}
	return kinds
}()

// kindName returns the name of a kind, with its group where another kind has the same: Istio's Gateway is
// "Gateway.networking.istio.io".
func kindName(group, kind string) string {
	if k := variant.KindIstioGateway; group == k.Group() && kind == k.String() {
		return k.Unique()
	}
	return kind
}

// key names an object of a known kind; no two of these have the same name.
type key struct{ kind, namespace, name string }

func (k key) String() string { return fmt.Sprintf("%s %s/%s", k.kind, k.namespace, k.name) }

func (k key) compare(other key) int {
	return cmp.Or(strings.Compare(k.kind, other.kind), strings.Compare(k.namespace, other.namespace), strings.Compare(k.name, other.name))
}

func (k key) isRoute() bool {
	return slices.Contains([]route.Kind{route.HTTPRoute, route.GRPCRoute, route.VirtualService}, route.Kind(k.kind))
}

// object is one object of a known kind. The zero value stands for none.
type object struct {
	key
	raw         []byte
	labels      labels.Set
	annotations map[string]string
}

// annotate sets an annotation. It leaves the rest of the JSON as it is.
func (o *object) annotate(name, value string) error {
	at := patch.Pointer("").Key("metadata").Key("annotations")
	edit := patch.Add(at.Key(name), value)
	if len(o.annotations) == 0 {
		edit = patch.Add(at, map[string]string{name: value})
	}
	raw, err := patch.Apply(o.raw, []patch.Operation{edit})
	if err != nil {
		return fmt.Errorf("%s: %w", o.key, err)
	}
	*o, err = decode(raw)
	return err
}

// decode reads the metadata of an object.
func decode(raw []byte) (object, error) {
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		return object{}, err
	}
	return object{key{kindName(meta.GroupVersionKind().Group, meta.Kind), meta.Namespace, meta.Name}, raw, meta.Labels, meta.Annotations}, nil
}

// keyOf returns the key of an object of a known kind.
func (c *Cluster) keyOf(meta *metav1.PartialObjectMetadata) key {
	name := kindName(meta.GroupVersionKind().Group, meta.Kind)
	if indexed[name].ClusterScoped() {
		return key{name, "", meta.Name}
	}
	return key{name, cmp.Or(meta.Namespace, c.opts.Namespace), meta.Name}
}

// read returns the objects of known kinds in a manifest, checked.
func (c *Cluster) read(text []byte) ([]object, error) {
	found, err := manifest.Objects(text)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var objects []object
	check := variant.NewIndex(c.indexOptions())
	for _, raw := range found {
		var meta metav1.PartialObjectMetadata
		if err := json.Unmarshal(raw, &meta); err != nil || meta.Kind == "" || meta.APIVersion == "" {
			return nil, fmt.Errorf("read manifest: %s: is no object with apiVersion and kind", short(raw))
		}
		kind := meta.GroupVersionKind().GroupKind()
		if known, isIndexed := indexed[kindName(kind.Group, kind.Kind)]; isIndexed && known.Group() != kind.Group || !isIndexed && kind.String() != kindNamespace {
			continue
		}
		named := c.keyOf(&meta)
		if !c.opts.AllowUnknownFields {
			if err := fields.Check(kind, raw); err != nil {
				return nil, fmt.Errorf("%s: %w", named, err)
			}
		}
		if meta.Name == "" {
			return nil, fmt.Errorf("%s: metadata.name must be set", named)
		}
		if err := check.Load(raw); err != nil {
			return nil, err
		}
		if meta.Namespace == "" && named.namespace != "" {
			if raw, err = patch.Apply(raw, []patch.Operation{patch.Add("/metadata/namespace", c.opts.Namespace)}); err != nil {
				return nil, fmt.Errorf("%s: %w", named, err)
			}
		}
		o, err := decode(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", named, err)
		}
		if o.isRoute() {
			if _, err := route.Decode(raw, route.Options{ClusterDomain: c.opts.ClusterDomain}); err != nil {
				return nil, fmt.Errorf("%s: %w", named, err)
			}
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// short cuts text for a message.
func short(raw []byte) string {
	const most = 60
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "..."
	}
	return string(raw)
}
