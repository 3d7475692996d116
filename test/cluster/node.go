// A real node in place of KWOK's: containerd, kubelet, kube-proxy and CoreDNS, in the sandbox that Sandbox
// makes. Pods run, reach each other and Services by name and address, and log.

package cluster

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// nodeAddress is the address of the one node, on which the API server listens too. Nothing outside of the
	// sandbox can reach it, so it can always be the same.
	nodeAddress = "10.250.0.1"
	realNode    = "node1"
	dnsAddress  = "10.96.0.10" // in serviceCIDR
	cniPlugins  = "/usr/lib/cni"
)

// SandboxEnv names the environment variable that is set for a program in a sandbox. Its value is the name of
// the sandbox and of its control groups.
const SandboxEnv = "MIRRORGATE_SANDBOX"

// InSandbox reports whether this program runs in a sandbox.
func InSandbox() bool { return os.Getenv(SandboxEnv) != "" }

//go:embed node
var nodeFiles embed.FS

// nodeCommands are the programs that Debian provides, with the package of each.
var nodeCommands = map[string]string{"containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2", "nft": "nftables"}

// NodePackages names the Debian packages that a real node needs and this machine lacks.
func NodePackages() []string {
	missing := map[string]bool{}
	for command, pkg := range nodeCommands {
		if _, err := exec.LookPath(command); err != nil {
			missing[pkg] = true
		}
	}
	if _, err := os.Stat(filepath.Join(cniPlugins, "ptp")); err != nil {
		missing["containernetworking-plugins"] = true
	}
	return slices.Sorted(maps.Keys(missing))
}

// BuildNode builds everything that a cluster with a real node needs. It runs outside of the sandbox, which
// cannot reach the Go module proxy.
func BuildNode(ctx context.Context, options Options) error {
	options.RealNode = true
	c := &Cluster{options: options}
	if _, err := Build(ctx, options.Progress, c.wanted()...); err != nil {
		return err
	}
	if options.CRDs == nil {
		options.CRDs = DefaultCRDs()
	}
	if len(options.CRDs) == 0 {
		return nil // for BuildCRDs an empty list would mean all sets
	}
	return BuildCRDs(ctx, options.Progress, options.CRDs...)
}

// prepareNode makes the network of the sandbox and the files of the node's components.
func (c *Cluster) prepareNode(ctx context.Context) error {
	if missing := NodePackages(); len(missing) > 0 {
		return fmt.Errorf("a real node needs the Debian packages %s", strings.Join(missing, " "))
	}
	if err := enterSandbox(); err != nil {
		return err
	}
	if err := makeNetwork(ctx); err != nil {
		return err
	}
	if err := probeKernel(ctx, c.Dir); err != nil {
		return err
	}
	if err := os.Mkdir(c.path("cni"), 0o700); err != nil {
		return err
	}
	for from, to := range map[string]string{
		"containerd.toml": "containerd.toml", "cni.json": "cni/pods.conflist",
		"kubelet.yaml": "kubelet.yaml", "kube-proxy.yaml": "kube-proxy.yaml",
	} {
		if err := os.WriteFile(c.path(to), []byte(c.nodeFile(from)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// nodeFile returns an embedded file with this cluster's values filled in.
func (c *Cluster) nodeFile(name string) string {
	text, err := nodeFiles.ReadFile("node/" + name)
	if err != nil {
		panic(err) // the file is compiled in
	}
	return os.Expand(string(text), func(variable string) string {
		return map[string]string{
			"dir": c.Dir, "kubeconfig": c.Kubeconfig, "sandbox": os.Getenv(SandboxEnv),
			"address": nodeAddress, "dns": dnsAddress, "name": realNode,
		}[variable]
	})
}

// startNode starts the node's components in order and waits until names resolve.
func (c *Cluster) startNode(ctx context.Context) error {
	say(c.options.Progress, "starting the node")
	containerd, err := c.run("containerd", []string{"--config=" + c.path("containerd.toml")})
	if err != nil {
		return err
	}
	if err := c.waitFor(ctx, containerd, "an answer", func(ctx context.Context) error { return command(ctx, "ctr", "version") }); err != nil {
		return err
	}
	for _, name := range []string{"pause", "coredns"} {
		archive := c.path(name + ".tar")
		image := Image{Name: "mirrorgate.test/" + name + ":node", Entrypoint: []string{"/" + name}, Fill: Program(name, c.binaries[name])}
		if err := errors.Join(image.Write(archive), c.LoadImage(ctx, archive)); err != nil {
			return err
		}
	}
	kubelet, err := c.run("kubelet", []string{"--config=" + c.path("kubelet.yaml"), "--kubeconfig=" + c.Kubeconfig,
		"--node-ip=" + nodeAddress, "--hostname-override=" + realNode})
	if err != nil {
		return err
	}
	err = c.waitFor(ctx, kubelet, realNode+" ready", func(ctx context.Context) error { return c.nodeReady(ctx, realNode) })
	if err != nil {
		return err
	}
	// It is started last: without a Node object it would wait for half a minute and then use loopback.
	if _, err := c.run("kube-proxy", []string{"--config=" + c.path("kube-proxy.yaml")}); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, c.nodeFile("coredns.yaml"), "apply", "-f=-"); err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "", "-n=kube-system", "rollout", "status", "deployment/coredns", "--timeout=2m")
	return err
}

// LoadImage gives the node an image from an archive that Image.Write or `docker save` wrote. Pods that use it
// must have a pull policy that does not pull it.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	return command(ctx, "ctr", "--namespace=k8s.io", "images", "import", archive)
}

// command runs a program of the machine; its error contains the program's output.
func command(ctx context.Context, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := spawn(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(lastBytes(out.String(), 2<<10)))
	}
	return nil
}
