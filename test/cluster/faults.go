// Faults for tests: an API server that stops and starts again, and a store that hangs.

package cluster

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// apiServerBound is how long kube-apiserver may take to end after SIGTERM. It would wait a minute for watches
// to end, and the longer they fail, the longer clients wait before they retry.
const apiServerBound = time.Second

// StopAPIServer ends kube-apiserver and returns when it is gone. URL does not answer until StartAPIServer;
// etcd and the controllers keep running.
func (c *Cluster) StopAPIServer() error {
	c.mu.Lock()
	p := c.running["kube-apiserver"]
	delete(c.running, "kube-apiserver")
	c.mu.Unlock()
	if p == nil {
		return errors.New("kube-apiserver is not running")
	}
	p.stop(apiServerBound)
	return nil
}

// StartAPIServer starts kube-apiserver at the same URL with the same data, waits until it is ready, at most
// two minutes, and restarts the controllers, the scheduler and KWOK. They would recover without a restart,
// but after an outage client-go waits up to a minute before it retries.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	p, err := c.run("kube-apiserver", c.apiServerArgs())
	if err != nil {
		return err
	}
	err = c.waitFor(ctx, p, "/readyz", func(ctx context.Context) error {
		return c.api.get(ctx, "/readyz", nil)
	})
	if err != nil {
		return err
	}
	return c.startControllers()
}

// startControllers starts the components that follow the API server, and restarts running ones.
func (c *Cluster) startControllers() error {
	for _, name := range c.wanted() {
		args := c.controllerArgs(name)
		if args == nil {
			continue
		}
		if old := c.process(name); old != nil {
			old.stop(stopBound)
		}
		if _, err := c.run(name, args); err != nil {
			return err
		}
	}
	return nil
}

// RestartAPIServer is StopAPIServer and StartAPIServer: an outage of a few seconds.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if err := c.StopAPIServer(); err != nil {
		return err
	}
	return c.StartAPIServer(ctx)
}

// PauseEtcd stops etcd with SIGSTOP and returns at once: from then on requests to the API server hang, and
// finally time out. etcd continues, with all its data, after d or when resume is called, whichever comes
// first.
func (c *Cluster) PauseEtcd(d time.Duration) (resume func()) {
	etcd := c.process("etcd")
	if etcd == nil {
		return func() {}
	}
	etcd.signal(syscall.SIGSTOP)
	resume = sync.OnceFunc(etcd.continueNow)
	time.AfterFunc(d, resume)
	return resume
}

// continueNow undoes a SIGSTOP.
func (p *process) continueNow() { p.signal(syscall.SIGCONT) }
