// The flags and files of the control plane, which make the components one cluster.

package cluster

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	loopback     = "127.0.0.1"
	serviceCIDR  = "10.96.0.0/16"
	apiServiceIP = "10.96.0.1" // the first address of serviceCIDR is the "kubernetes" Service's
	// nodeIP is the address that nodes claim to have: a documentation address (RFC 5737) that nothing
	// answers.
	nodeIP = "192.0.2.1"
	admin  = "admin"

	// startBound bounds one step of a start; it is generous because the machine may be busy.
	startBound = 2 * time.Minute
)

//go:embed stages.yaml
var stages []byte

// ports are the TCP ports of one cluster, all on loopback.
type ports struct{ etcd, etcdPeer, api int }

// freePorts finds ports below those that the kernel gives to outgoing connections (from 32768 on): while an
// API server restarts, no client's own connection may take its port.
func freePorts() (ports, error) {
	var found []int
	for tries := 0; len(found) < 3; tries++ {
		port := 20000 + mathrand.IntN(12000)
		listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, port))
		if err == nil {
			defer listener.Close() // kept open until all are found, so that the ports differ
			found = append(found, port)
		} else if tries == 100 {
			return ports{}, fmt.Errorf("no free port: %w", err)
		}
	}
	return ports{found[0], found[1], found[2]}, nil
}

// writeFiles writes the keys, tokens, kubeconfig and stages, and a bin folder for users' PATH.
func (c *Cluster) writeFiles() error {
	var err error
	for _, dir := range []string{"logs", "bin"} {
		if err := os.Mkdir(c.path(dir), 0o700); err != nil {
			return err
		}
	}
	if c.pki, err = newPKI(c.Dir); err != nil {
		return err
	}
	if err := c.writeTokens(); err != nil {
		return err
	}
	c.api = newClient(c.URL, c.tokens[admin], c.pki.caPEM)
	if c.Kubeconfig, err = c.writeKubeconfig(admin, c.tokens[admin]); err != nil {
		return err
	}
	c.KubectlPath = c.path("bin", "kubectl")
	return errors.Join(
		c.describe(),
		os.Symlink(c.binaries["kubectl"], c.KubectlPath),
		os.WriteFile(c.path("stages.yaml"), stages, 0o600))
}

// path is a path inside the cluster's folder.
func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

// writeTokens writes the file by which the API server knows users: token, name, uid, groups.
func (c *Cluster) writeTokens() error {
	file, err := os.OpenFile(c.path("tokens.csv"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	out := csv.NewWriter(file)
	users := append([]User{{Name: admin, Groups: []string{"system:masters"}}}, c.options.Users...)
	for _, user := range users {
		if _, twice := c.tokens[user.Name]; twice || user.Name == "" {
			return fmt.Errorf("user name %q is empty or taken", user.Name)
		}
		c.tokens[user.Name] = rand.Text()
		// An error of Write is also in out.Error.
		_ = out.Write([]string{c.tokens[user.Name], user.Name, user.Name, strings.Join(user.Groups, ",")})
	}
	out.Flush()
	return out.Error()
}

// startEtcd starts etcd and waits until it is healthy.
func (c *Cluster) startEtcd(ctx context.Context) error {
	clients := fmt.Sprintf("http://%s:%d", loopback, c.ports.etcd)
	peers := fmt.Sprintf("http://%s:%d", loopback, c.ports.etcdPeer)
	p, err := c.run("etcd", []string{
		"--name=etcd", "--data-dir=" + c.path("etcd"), "--log-level=warn",
		"--listen-client-urls=" + clients, "--advertise-client-urls=" + clients,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=etcd=" + peers,
		// The data must survive only the process and not the machine; writes are several times faster this
		// way.
		"--unsafe-no-fsync",
	})
	if err != nil {
		return err
	}
	return c.waitFor(ctx, p, "healthy", func(ctx context.Context) error {
		return plainGet(ctx, clients+"/health")
	})
}

// plainGet succeeds when url returns status 200.
func plainGet(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// address is where the API server listens: on loopback, unless pods must reach it.
func (c *Cluster) address() string {
	if c.options.RealNode {
		return nodeAddress
	}
	return loopback
}

// apiServerArgs returns kube-apiserver's flags.
func (c *Cluster) apiServerArgs() []string {
	args := []string{
		fmt.Sprintf("--etcd-servers=http://%s:%d", loopback, c.ports.etcd),
		"--bind-address=" + c.address(), fmt.Sprintf("--secure-port=%d", c.ports.api),
		"--tls-cert-file=" + c.pki.certFile, "--tls-private-key-file=" + c.pki.keyFile,
		"--authorization-mode=RBAC", "--token-auth-file=" + c.path("tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki.serviceAccountKey,
		"--service-account-signing-key-file=" + c.pki.serviceAccountKey,
		"--service-cluster-ip-range=" + serviceCIDR, "--allow-privileged=true",
		"--advertise-address=" + c.address(),
	}
	if c.options.RealNode {
		// Otherwise logs and exec would first resolve the node's name in DNS.
		args = append(args, "--kubelet-preferred-address-types=InternalIP")
	} else {
		// EndpointSlices refuse loopback addresses, so the API server must not publish its own in one.
		args = append(args, "--endpoint-reconciler-type=none")
	}
	return append(args, c.options.APIServerFlags...)
}

// controllerArgs returns the flags of the components that follow the API server, or nil for the others. Port
// 0 keeps them from listening: no client connects to them, and tests run side by side.
func (c *Cluster) controllerArgs(name string) []string {
	kubeconfig := "--kubeconfig=" + c.Kubeconfig
	switch name {
	case "kube-controller-manager":
		return []string{kubeconfig, "--secure-port=0", "--leader-elect=false",
			"--use-service-account-credentials=false", "--root-ca-file=" + c.pki.caFile,
			"--service-account-private-key-file=" + c.pki.serviceAccountKey,
			// After an outage of the API server nodes would seem dead, and every pod would be set unready,
			// which KWOK does not revert.
			"--node-monitor-grace-period=1h",
			"--kube-api-qps=200", "--kube-api-burst=400"}
	case "kube-scheduler":
		return []string{kubeconfig, "--secure-port=0", "--leader-elect=false"}
	case "kwok":
		return []string{kubeconfig, "--config=" + c.path("stages.yaml"), "--manage-all-nodes=true",
			"--cidr=" + c.nextPodCIDR(), "--node-ip=" + nodeIP,
			// With a lease, a restarted KWOK would wait until its predecessor's lease has expired.
			"--node-lease-duration-seconds=0"}
	}
	return nil
}

// nextPodCIDR returns a range of pod addresses that no KWOK of this cluster has used: a restarted KWOK does
// not look at running pods and would assign their addresses again.
func (c *Cluster) nextPodCIDR() string {
	return fmt.Sprintf("10.%d.0.0/16", 128+(c.podCIDRs.Add(1)-1)%128)
}

// createNodes creates the nodes; KWOK makes them ready.
func (c *Cluster) createNodes(ctx context.Context) error {
	if c.options.WithoutKWOK {
		return nil
	}
	for i := range c.options.Nodes {
		name := nodeName(i)
		node := object{"apiVersion": "v1", "kind": "Node", "metadata": object{
			"name":        name,
			"annotations": object{"kwok.x-k8s.io/node": "fake"},
			"labels":      object{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
		}}
		if err := c.api.do(ctx, http.MethodPost, "/api/v1/nodes", "application/json", node, nil); err != nil {
			return err
		}
	}
	return nil
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

// waitUsable waits for the objects that controllers make: the default ServiceAccount, without which no pod
// can be created, and nodes that the scheduler may use.
func (c *Cluster) waitUsable(ctx context.Context) error {
	err := c.waitFor(ctx, c.process("kube-apiserver"), "namespace default", func(ctx context.Context) error {
		return c.api.get(ctx, "/api/v1/namespaces/default", nil)
	})
	if manager := c.process("kube-controller-manager"); err == nil && manager != nil {
		err = c.waitFor(ctx, manager, "ServiceAccount default", func(ctx context.Context) error {
			return c.api.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
		})
	}
	if kwok := c.process("kwok"); err == nil && kwok != nil {
		for i := range c.options.Nodes {
			err = errors.Join(err, c.waitFor(ctx, kwok, nodeName(i)+" ready", func(ctx context.Context) error {
				return c.nodeReady(ctx, nodeName(i))
			}))
		}
	}
	return err
}

// nodeReady succeeds when the node is ready and, if there is a controller that removes its first taint, free
// of taints.
func (c *Cluster) nodeReady(ctx context.Context, name string) error {
	var node struct {
		Spec   struct{ Taints []struct{ Key string } }
		Status struct{ Conditions []condition }
	}
	if err := c.api.get(ctx, "/api/v1/nodes/"+name, &node); err != nil {
		return err
	}
	if !isTrue(node.Status.Conditions, "Ready") {
		return fmt.Errorf("%s is not ready", name)
	}
	if len(node.Spec.Taints) > 0 && !c.options.WithoutControllers {
		return fmt.Errorf("%s is tainted: %v", name, node.Spec.Taints)
	}
	return nil
}

// waitFor polls check until it succeeds. It fails when p ends, when ctx ends, or after startBound, with the
// end of p's log.
func (c *Cluster) waitFor(ctx context.Context, p *process, what string, check func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	err := poll(bounded, func() error {
		if p.ended() {
			cancel() // an ended process does not come back
			return nil
		}
		return check(bounded)
	})
	switch {
	case p.ended():
		return p.failure()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%s: waiting for %s: %w; its log ends:\n%s", p.name, what, err, p.tail())
	}
	return nil
}
