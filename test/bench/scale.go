package main

// Flips compared with plain metadata applies, and resident memory, with thousands of objects in a real API
// server.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/test/cluster"
)

const (
	namespace   = "shop"
	concurrency = 8 // as many as the controller's workers
	singles     = 40
	burst       = 1000
	bursts      = 3
)

var (
	serviceGVR    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	namespaceGVR  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	sliceGVR      = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	deploymentGVR = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	routeGVR      = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
)

// scale is a cluster full of objects in which mirrorgate runs.
type scale struct {
	api   dynamic.Interface
	serve *exec.Cmd
	flips *flips
}

func benchScale(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// No controllers: the benchmark makes the objects that they would make for 10,000 Deployments, and leaves
	// two processors to the programs that it measures.
	c, err := cluster.Start(ctx, cluster.Options{CRDs: []string{"gateway-api"}, WithoutControllers: true, WithoutScheduler: true, WithoutKWOK: true, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { _ = c.Stop() }()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	s := &scale{}
	if s.api, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	if s.flips, err = watchFlips(ctx, s.api); err != nil {
		return err
	}
	if err := s.start(ctx, c); err != nil {
		return err
	}
	defer s.stop()
	if err := s.flips.wait(ctx, func(active int) bool { return active == 0 }); err != nil {
		return fmt.Errorf("all mirrors should be parked at first: %w", err)
	}
	for _, step := range []func(context.Context) error{s.single, s.many, s.memory} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// each runs fn for 0 … n-1, a few at a time.
func each(n int, fn func(int) error) error {
	var next atomic.Int64
	errs := make([]error, concurrency)
	var wg sync.WaitGroup
	for w := range concurrency {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = fn(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fill writes the objects, with every variant unready.
func (s *scale) fill(ctx context.Context) error {
	start := time.Now()
	if err := s.create(ctx, namespaceGVR, "", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`); err != nil {
		return err
	}
	for _, kind := range []struct {
		gvr  schema.GroupVersionResource
		n    int
		text func(i int) string
	}{
		{serviceGVR, services, func(i int) string { return fmt.Sprintf(serviceJSON, i, i) }},
		{sliceGVR, services, func(i int) string { return fmt.Sprintf(sliceJSON, i, i, i%250, false) }},
		{deploymentGVR, workloads, func(i int) string { return fmt.Sprintf(deploymentJSON, i, i, i) }},
		{routeGVR, routes, func(i int) string { return fmt.Sprintf(routeJSON, i, i, i) }},
	} {
		if err := each(kind.n, func(i int) error { return s.create(ctx, kind.gvr, namespace, kind.text(i)) }); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "bench: %d %s after %s\n", kind.n, kind.gvr.Resource, time.Since(start).Round(time.Second))
	}
	// Routes of the plain client: of the same size, but without a mirror.
	return each(burst, func(i int) error {
		return s.create(ctx, routeGVR, namespace, fmt.Sprintf(plainJSON, i, i, i))
	})
}

func (s *scale) create(ctx context.Context, gvr schema.GroupVersionResource, ns, text string) error {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(text)); err != nil {
		return err
	}
	var api dynamic.ResourceInterface = s.api.Resource(gvr)
	if ns != "" {
		api = s.api.Resource(gvr).Namespace(ns)
	}
	_, err := api.Create(ctx, u, metav1.CreateOptions{FieldManager: "bench"})
	return err
}

// start runs mirrorgate serve and waits until it is registered.
func (s *scale) start(ctx context.Context, c *cluster.Cluster) error {
	binary := filepath.Join(c.Dir, "mirrorgate")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/mirrorgate")
	build.Dir = "../.." // go -C test/bench run
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build mirrorgate: %w\n%s", err, out)
	}
	free, err := freeport.Address()
	if err != nil {
		return err
	}
	address := free.String()
	s.serve = exec.CommandContext(ctx, binary, "serve", "--kubeconfig", c.Kubeconfig, "--webhook-url", "https://"+address,
		"--webhook-bind", address, "--metrics-bind", "0", "--health-bind", "0", "--log-level", "error")
	s.serve.Stderr = os.Stderr
	s.serve.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return s.serve.Start()
}

func (s *scale) stop() {
	_ = s.serve.Process.Signal(syscall.SIGTERM)
	_ = s.serve.Wait()
}

// ready sets whether variant i is ready.
func (s *scale) ready(ctx context.Context, i int, ready bool) error {
	body := fmt.Sprintf(`{"endpoints":[{"addresses":["10.244.0.%d"],"conditions":{"ready":%t}}]}`, i%250, ready)
	_, err := s.api.Resource(sliceGVR).Namespace(namespace).Patch(ctx, fmt.Sprintf("web-%d-v2", i), types.MergePatchType, []byte(body), metav1.PatchOptions{})
	return err
}

// apply is the plain client: a server-side apply of one annotation.
func (s *scale) apply(ctx context.Context, i, value int) error {
	body := fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"plain-%d","namespace":"shop","annotations":{"example.com/note":"%d"}}}`, i, value)
	_, err := s.api.Resource(routeGVR).Namespace(namespace).Patch(ctx, fmt.Sprintf("plain-%d", i), types.ApplyPatchType, []byte(body),
		metav1.PatchOptions{FieldManager: "bench-note", Force: new(true)})
	return err
}

// single times one flip, from the write that makes the variant ready, against one plain apply, in turn.
func (s *scale) single(ctx context.Context) error {
	var ours, plain []float64
	for i := range singles {
		start := time.Now()
		if err := s.apply(ctx, i, i); err != nil {
			return err
		}
		plain = append(plain, float64(time.Since(start).Microseconds())/1000)

		if err := s.ready(ctx, i, true); err != nil {
			return err
		}
		start = time.Now() // the variant is ready when the API server has stored it
		if err := s.flips.wait(ctx, func(active int) bool { return active == i+1 }); err != nil {
			return err
		}
		ours = append(ours, float64(time.Since(start).Microseconds())/1000)
	}
	report("one variant ready until its route is stored", "ms", ours, plain, 5)
	return nil
}

// many makes many variants ready at once: mirrorgate is stopped while they are written, so that it receives
// them all when it continues.
func (s *scale) many(ctx context.Context) error {
	var ours, plain []float64
	for round := range bursts {
		from := singles + round*burst
		start := time.Now()
		if err := each(burst, func(i int) error { return s.apply(ctx, i, 1000+round) }); err != nil {
			return err
		}
		plain = append(plain, time.Since(start).Seconds())

		if err := s.serve.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		err := each(burst, func(i int) error { return s.ready(ctx, from+i, true) })
		start = time.Now()
		if err := errors.Join(err, s.serve.Process.Signal(syscall.SIGCONT)); err != nil {
			return err
		}
		if err := s.flips.wait(ctx, func(active int) bool { return active == from+burst }); err != nil {
			return err
		}
		ours = append(ours, time.Since(start).Seconds())
		fmt.Printf("  round %d: %d flips in %.2f s, %d plain applies in %.2f s\n", round+1, burst, ours[round], burst, plain[round])
	}
	report(fmt.Sprintf("%d variants ready at once until the last route", burst), "s", ours, plain, 1.5)
	return nil
}

func (s *scale) memory(context.Context) error {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.serve.Process.Pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name == "VmRSS" || name == "VmHWM" {
			var kib float64
			if _, err := fmt.Sscanf(strings.TrimSpace(value), "%f", &kib); err != nil {
				return err
			}
			fmt.Printf("%-46s %9.1f MB  (bound 150)\n", map[string]string{"VmRSS": "resident memory", "VmHWM": "resident memory, peak"}[name], kib/1024)
		}
	}
	return nil
}

// flips counts the routes whose mirror is active, as the API server stores them.
type flips struct {
	mu      sync.Mutex
	active  map[string]bool
	changed chan struct{}
}

func watchFlips(ctx context.Context, api dynamic.Interface) (*flips, error) {
	f := &flips{active: map[string]bool{}, changed: make(chan struct{}, 1)}
	list, err := api.Resource(routeGVR).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		f.see(&list.Items[i])
	}
	watch, err := api.Resource(routeGVR).Namespace(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return nil, err
	}
	go func() {
		for event := range watch.ResultChan() {
			if u, ok := event.Object.(*unstructured.Unstructured); ok {
				f.see(u)
			}
		}
	}()
	return f, nil
}

func (f *flips) see(u *unstructured.Unstructured) {
	if strings.HasPrefix(u.GetName(), "plain-") {
		return
	}
	_, parked := u.GetAnnotations()[route.ParkedAnnotation]
	rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
	active := !parked && slices.ContainsFunc(rules, func(r any) bool {
		filters, _, _ := unstructured.NestedSlice(r.(map[string]any), "filters")
		return slices.ContainsFunc(filters, func(x any) bool { return x.(map[string]any)["type"] == "RequestMirror" })
	})
	f.mu.Lock()
	if active {
		f.active[u.GetName()] = true
	} else {
		delete(f.active, u.GetName())
	}
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// wait waits until the number of active mirrors is as wanted, two minutes at most.
func (f *flips) wait(ctx context.Context, is func(active int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		f.mu.Lock()
		n := len(f.active)
		f.mu.Unlock()
		if is(n) {
			return nil
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
			return fmt.Errorf("%d mirrors are active: %w", n, ctx.Err())
		}
	}
}
