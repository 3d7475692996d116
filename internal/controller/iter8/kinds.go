package iter8

// Discovery: from the names that people give resources to the kinds of this cluster.

import (
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
)

var errScope = errors.New("it is cluster-scoped")

// kinds finds resources by the names that people give them.
type kinds struct {
	mapper meta.RESTMapper
	reset  func()

	mu sync.Mutex
	// discovered is the time of the latest discovery that an unknown name caused.
	discovered time.Time
	// found are the names that were found since; a lookup searches all resources of the cluster.
	found map[string]schema.GroupVersionResource
}

func newKinds(client discovery.CachedDiscoveryInterface) *kinds {
	deferred := restmapper.NewDeferredDiscoveryRESTMapper(client)
	return &kinds{mapper: restmapper.NewShortcutExpander(deferred, client, nil), reset: deferred.Reset, found: map[string]schema.GroupVersionResource{}}
}

// find returns the resource of a name like svc, deployments or inferenceservices.serving.kserve.io. A name
// that is not found causes a new discovery, but not more often than every 15 seconds.
func (k *kinds) find(name string) (schema.GroupVersionResource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, ok := k.found[name]; ok {
		return found, nil
	}
	found, err := k.lookup(name)
	if meta.IsNoMatchError(err) && time.Since(k.discovered) > slowRetry/2 {
		k.discovered = time.Now()
		k.reset()
		clear(k.found)
		found, err = k.lookup(name)
	}
	if err == nil {
		k.found[name] = found
	}
	return found, err
}

func (k *kinds) lookup(name string) (schema.GroupVersionResource, error) {
	versioned, grouped := schema.ParseResourceArg(name)
	if versioned != nil {
		if found, err := k.namespaced(*versioned); err == nil {
			return found, nil
		}
	}
	return k.namespaced(grouped.WithVersion(""))
}

func (k *kinds) namespaced(resource schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	kind, err := k.mapper.KindFor(resource)
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	mapping, err := k.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return schema.GroupVersionResource{}, errScope
	}
	return mapping.Resource, nil
}
