// Package cluster runs a real Kubernetes control plane for tests: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubectl, built from their Go modules, and KWOK in place of a
// kubelet. It needs no root, no container engine and no network besides the Go module proxy, and listens on
// loopback only. Objects, admission, controllers and scheduling are real; pods only claim to run: they have
// addresses, but nothing answers there. A webhook configuration therefore names its server by URL
// (https://127.0.0.1:port), not by Service.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// startAttempts bounds how often Start tries again when another process has taken a port that it had found
// free.
const startAttempts = 3

// Options defines the cluster to start; its zero value is a whole cluster with one node.
type Options struct {
	// CRDs names the sets of CustomResourceDefinitions to install, of those KnownCRDs returns. Nil means
	// DefaultCRDs; an empty slice means none.
	CRDs []string
	// Nodes is the number of nodes, called node0, node1 and so on; 0 means 1. Without KWOK there are none.
	Nodes int
	// WithoutControllers omits kube-controller-manager: no Deployments, EndpointSlices, ServiceAccounts or
	// deletion of namespaces. It is for tests of the API alone.
	WithoutControllers bool
	// WithoutScheduler omits kube-scheduler: pods stay pending unless they name a node.
	WithoutScheduler bool
	// WithoutKWOK omits KWOK: there are no nodes, and pods stay pending.
	WithoutKWOK bool
	// RealNode starts a node whose pods run, in place of KWOK's. It needs root and a sandbox (see Sandbox);
	// Nodes is then ignored.
	RealNode bool
	// Users are the users who may log in besides the administrator; see KubeconfigFor. They have no rights
	// until a test grants them some.
	Users []User
	// APIServerFlags are added to kube-apiserver's flags, and override those of the same name.
	APIServerFlags []string
	// Progress receives lines about the progress; nil means none.
	Progress io.Writer
}

// APIOnly returns Options for tests of the API alone: etcd and kube-apiserver with the default CRDs, ready in
// half the time.
func APIOnly() Options {
	return Options{WithoutControllers: true, WithoutScheduler: true, WithoutKWOK: true}
}

// User is a user who may log in.
type User struct {
	Name   string
	Groups []string
}

// Cluster is a running cluster. Its methods may be called from several goroutines.
type Cluster struct {
	// Dir is the cluster's own folder, with a log per component in Dir/logs. Stop removes it.
	Dir string
	// Kubeconfig is the path of the administrator's kubeconfig (group system:masters).
	Kubeconfig string
	// KubectlPath is the path of a kubectl of the cluster's version.
	KubectlPath string
	// URL is the address of the API server, https://127.0.0.1:port. It survives restarts.
	URL string

	options  Options
	source   string // folder of this package
	cache    string // folder of the built components
	binaries map[string]string
	pki      *pki
	api      *client
	tokens   map[string]string // by user name
	ports    ports
	podCIDRs atomic.Uint32 // the number of ranges used so far

	mu       sync.Mutex
	running  map[string]*process
	stopping bool

	stopOnce sync.Once
	stopErr  error
	detach   func() bool // stops watching the context
}

// Start builds the components that are not yet built (see Build; it takes minutes, once) and starts a
// cluster, which takes a few seconds. It returns when the API server is ready, the CRDs are served, the
// default ServiceAccount exists and the nodes are ready. The cluster stops when ctx ends, so ctx must live as
// long as the cluster. The error of a failed start ends with the failing component's last lines.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if options.CRDs == nil {
		options.CRDs = DefaultCRDs()
	}
	if options.Nodes == 0 {
		options.Nodes = 1
	}
	if options.RealNode {
		options.WithoutKWOK = true
	}
	for attempt := 1; ; attempt++ {
		c, err := prepare(ctx, options)
		if err == nil {
			err = c.start(ctx)
		}
		if err == nil {
			c.detach = context.AfterFunc(ctx, func() { _ = c.Stop() })
			return c, nil
		}
		if c != nil {
			err = errors.Join(err, c.abandon())
		}
		if attempt == startAttempts || ctx.Err() != nil || !strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("start cluster: %w", err)
		}
		say(options.Progress, "a port was taken in the meantime; trying others")
	}
}

// prepare makes everything that a cluster needs before its first process starts.
func prepare(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{options: options, running: map[string]*process{}, tokens: map[string]string{}}
	var err error
	if c.source, err = sourceDir(); err != nil {
		return nil, err
	}
	if c.cache, err = cacheDir(c.source); err != nil {
		return nil, err
	}
	if c.binaries, err = Build(ctx, options.Progress, c.wanted()...); err != nil {
		return nil, err
	}
	if c.ports, err = freePorts(); err != nil {
		return nil, err
	}
	if c.Dir, err = os.MkdirTemp("", "mirrorgate-cluster-"); err != nil {
		return nil, err
	}
	c.URL = fmt.Sprintf("https://%s:%d", c.address(), c.ports.api)
	if err := c.writeFiles(); err != nil || !options.RealNode {
		return c, err
	}
	return c, c.prepareNode(ctx)
}

// wanted returns the names of the components that the options require.
func (c *Cluster) wanted() []string {
	names := []string{"etcd", "kube-apiserver", "kubectl"}
	if !c.options.WithoutControllers {
		names = append(names, "kube-controller-manager")
	}
	if !c.options.WithoutScheduler {
		names = append(names, "kube-scheduler")
	}
	if !c.options.WithoutKWOK {
		names = append(names, "kwok")
	}
	if c.options.RealNode {
		names = append(names, "pause", "coredns", "kubelet", "kube-proxy")
	}
	return names
}

// start starts the components in their order and waits until the cluster is usable.
func (c *Cluster) start(ctx context.Context) error {
	begin := time.Now()
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := c.createNodes(ctx); err != nil {
		return err
	}
	if err := c.InstallCRDs(ctx, c.options.CRDs...); err != nil {
		return err
	}
	if err := c.waitUsable(ctx); err != nil {
		return err
	}
	if c.options.RealNode {
		if err := c.startNode(ctx); err != nil {
			return err
		}
	}
	say(c.options.Progress, "ready in %s", time.Since(begin).Round(time.Second/10))
	return nil
}

// run starts one component, unless the cluster is already being stopped.
func (c *Cluster) run(name string, args []string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return nil, errors.New("the cluster is stopped")
	}
	if p := c.running[name]; p != nil && !p.ended() {
		return nil, fmt.Errorf("%s already runs", name)
	}
	log := filepath.Join(c.Dir, "logs", name+".log")
	binary := c.binaries[name]
	if binary == "" {
		binary = name // a program of the machine
	}
	p, err := startProcess(name, binary, c.Dir, log, args)
	if err == nil {
		c.running[name] = p
	}
	return p, err
}

// process returns the running process of a component, or nil.
func (c *Cluster) process(name string) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name]
}

// Stop ends every process of the cluster, with SIGKILL if SIGTERM does not end it in five seconds, and
// removes its folder. When it returns both are gone; the containers and the folder of a real node are removed
// with its sandbox. The error names components that ended before Stop. Calling it again returns the same
// error.
func (c *Cluster) Stop() error {
	if c.detach != nil {
		c.detach()
	}
	c.stopOnce.Do(func() {
		c.stopErr = errors.Join(c.earlyEnds(), c.shutDown())
	})
	return c.stopErr
}

// abandon cleans up after a failed start, whose error already gives the cause.
func (c *Cluster) abandon() error {
	if c.Dir == "" {
		return nil
	}
	return c.shutDown()
}

// earlyEnds reports the components that no longer run although nothing stopped them.
func (c *Cluster) earlyEnds() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.running {
		if p.ended() {
			errs = append(errs, p.failure())
		}
	}
	return errors.Join(errs...)
}

// shutDown ends all processes, etcd last: an API server panics when its store disappears.
func (c *Cluster) shutDown() error {
	c.mu.Lock()
	c.stopping = true
	etcd := c.running["etcd"]
	delete(c.running, "etcd")
	var clients sync.WaitGroup
	for _, p := range c.running {
		clients.Go(func() { p.stop(stopBound) })
	}
	c.mu.Unlock()
	if etcd != nil {
		etcd.continueNow() // a paused etcd must not delay components that write before they exit
	}
	clients.Wait()
	if etcd != nil {
		etcd.stop(stopBound)
	}
	if c.options.RealNode {
		return nil // it is full of mounts, and is removed with the sandbox
	}
	return os.RemoveAll(c.Dir)
}
