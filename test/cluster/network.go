// The network of a sandbox, and the kernel features that a node in it needs.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// makeNetwork gives the sandbox an interface with the node's address.
func makeNetwork(ctx context.Context) error {
	for _, args := range []string{
		"link set lo up",
		// Both ends are inside; the dummy device would be the usual choice, but not every kernel has it.
		"link add node0 type veth peer name node0peer",
		"addr add " + nodeAddress + "/24 dev node0",
		"link set node0 up",
		"link set node0peer up",
		// Without a route the node's own processes could not connect to a Service's address, because
		// kube-proxy rewrites it only afterwards.
		"route add " + serviceCIDR + " dev node0 src " + nodeAddress,
	} {
		if err := command(ctx, "ip", strings.Fields(args)...); err != nil {
			return fmt.Errorf("network of the node (the kernel needs CONFIG_VETH): %w", err)
		}
	}
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
		os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0))
}

// probeKernel names the kernel features that are missing, before a component fails with an error that is
// harder to read.
func probeKernel(ctx context.Context, dir string) error {
	return errors.Join(
		probeOverlay(ctx, filepath.Join(dir, "probe")),
		probe("packet filters (CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NF_CONNTRACK)",
			command(ctx, "nft", "add table ip probe; add chain ip probe nat { type nat hook prerouting priority 0; }; delete table ip probe")),
		probeControllers())
}

func probe(what string, err error) error {
	if err != nil {
		return fmt.Errorf("this machine lacks %s, which a real node needs: %w", what, err)
	}
	return nil
}

// probeOverlay mounts a tree over another, as each container's files are.
func probeOverlay(ctx context.Context, dir string) error {
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.MkdirAll(path(name), 0o700); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", path("lower"), path("upper"), path("work"))
	err := command(ctx, "mount", "-t", "overlay", "-o", options, "overlay", path("merged"))
	if err != nil {
		return probe("overlay file systems below "+dir+" (CONFIG_OVERLAY_FS; not on top of another overlay: set TMPDIR)", err)
	}
	return errors.Join(command(ctx, "umount", path("merged")), os.RemoveAll(dir))
}

// probeControllers checks for the controllers that kubelet and runc use, in either cgroup version.
func probeControllers() error {
	var missing []string
	unified, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers") // empty in version 1
	for _, name := range []string{"cpu", "memory", "pids"} {
		_, err := os.Stat("/sys/fs/cgroup/" + name)
		if err != nil && !strings.Contains(" "+strings.TrimSpace(string(unified))+" ", " "+name+" ") {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this machine lacks the control groups %s, which a real node needs", strings.Join(missing, ", "))
	}
	return nil
}
