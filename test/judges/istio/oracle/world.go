package oracle

// Worlds: Istio's control plane in memory, with the objects of one cluster.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"istio.io/api/networking/v1alpha3"
	"istio.io/istio/pilot/pkg/config/memory"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/serviceregistry"
	"istio.io/istio/pilot/pkg/serviceregistry/aggregate"
	kuberegistry "istio.io/istio/pilot/pkg/serviceregistry/kube"
	memoryregistry "istio.io/istio/pilot/pkg/serviceregistry/memory"
	"istio.io/istio/pilot/pkg/serviceregistry/provider"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/kube/krt"
	corev1 "k8s.io/api/core/v1"
)

// World answers for the proxies of one cluster.
type World struct {
	push  *model.PushContext
	gen   *core.ConfigGeneratorImpl
	index *model.EndpointIndex
	setup func(*model.Proxy) *model.Proxy
	until *failer
}

// Close ends the world.
func (w *World) Close() { w.until.close() }

// failer is Istio's test.Failer without a test: a world that cannot be made panics.
type failer struct{ cleanups []func() }

func (f *failer) Fail()                     { panic("fail") }
func (f *failer) FailNow()                  { panic("fail now") }
func (f *failer) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (f *failer) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }
func (f *failer) Log(...any)                {}
func (f *failer) Logf(string, ...any)       {}
func (f *failer) TempDir() string           { return os.TempDir() }
func (f *failer) Helper()                   {}
func (f *failer) Skip(...any)               {}
func (f *failer) Cleanup(c func())          { f.cleanups = append(f.cleanups, c) }

func (f *failer) close() {
	for _, c := range slices.Backward(f.cleanups) {
		c()
	}
}

// forget drops the collections of earlier worlds, which Istio's debug handler would keep for ever. The handler is
// one for the process, so no two worlds are made at the same time.
func forget() { krt.GlobalDebugHandler = new(krt.DebugHandler) }

// Full returns a world with everything: routes, clusters, endpoints.
func Full(o Objects) *World {
	forget()
	f := &failer{}
	s := xds.NewFakeDiscoveryServer(f, xds.FakeOptions{Configs: o.configs, KubernetesObjects: o.kube, MeshConfig: mesh.DefaultMeshConfig()})
	s.EnsureSynced(f)
	return &World{
		push: s.PushContext(), gen: core.NewConfigGenerator(model.DisabledCache{}), index: s.Discovery.Env.EndpointIndex,
		setup: s.SetupProxy, until: f,
	}
}

// Lean returns a world that knows routes and Services, and neither ServiceEntries nor endpoints. It is made in a
// few milliseconds.
func Lean(o Objects) *World {
	forget()
	f := &failer{}
	env := model.NewEnvironment()
	env.Watcher = meshwatcher.NewTestWatcher(mesh.DefaultMeshConfig())
	store := memory.NewController(memory.MakeSkipValidation(collections.Pilot))
	virtualServices := model.NewVirtualServiceController(store, model.VSControllerOptions{KrtDebugger: krt.GlobalDebugHandler}, env.Watcher)
	// An object that comes before the controller knows the mesh's defaults crashes it.
	await(func() bool {
		collections, err := json.Marshal(krt.GlobalDebugHandler)
		return err == nil && bytes.Contains(collections, []byte(`"default_export_to"`))
	})
	roots := 0
	for _, c := range o.configs {
		if _, err := store.Create(c); err != nil {
			panic(err)
		}
		if c.GroupVersionKind == gvk.VirtualService && len(c.Spec.(*v1alpha3.VirtualService).GetHosts()) > 0 {
			roots++
		}
	}
	services := aggregate.NewController(aggregate.Options{})
	services.AddRegistry(serviceregistry.Simple{
		ClusterID: "Mock", ProviderID: provider.Kubernetes, DiscoveryController: memoryregistry.NewServiceDiscovery(o.services()...),
	})
	env.ServiceDiscovery, env.ConfigStore, env.VirtualServiceController = services, store, virtualServices
	env.NetworksWatcher = meshwatcher.NewFixedNetworksWatcher(nil)
	env.Init()
	stop := make(chan struct{})
	f.Cleanup(func() { close(stop) })
	go store.Run(stop)
	go virtualServices.Run(stop)
	await(func() bool {
		return store.HasSynced() && virtualServices.HasSynced() && len(virtualServices.MergedVirtualServices()) == roots
	})
	if err := env.InitNetworksManager(model.NewEndpointIndexUpdater(env.EndpointIndex)); err != nil {
		panic(err)
	}
	env.PushContext().InitContext(env, nil, nil)
	w := &World{push: env.PushContext(), gen: core.NewConfigGenerator(model.DisabledCache{}), index: env.EndpointIndex, until: f}
	w.setup = func(p *model.Proxy) *model.Proxy {
		p.SetSidecarScope(w.push)
		p.SetServiceTargets(env.ServiceDiscovery)
		p.SetGatewaysForProxy(w.push)
		p.DiscoverIPMode()
		return p
	}
	return w
}

func (o Objects) services() []*model.Service {
	var services []*model.Service
	for _, object := range o.kube {
		if s, ok := object.(*corev1.Service); ok {
			services = append(services, kuberegistry.ConvertService(*s, nil, domain, clusterID, domain))
		}
	}
	return services
}

// await waits for Istio's merge of roots and delegates, which runs on its own. It takes less than a millisecond,
// mostly.
func await(done func() bool) {
	end := time.Now().Add(time.Minute)
	for n := 0; !done(); n++ {
		if time.Now().After(end) {
			panic("the VirtualServices were not merged within a minute")
		}
		if n < 50 {
			runtime.Gosched()
		} else {
			time.Sleep(50 * time.Microsecond)
		}
	}
}
