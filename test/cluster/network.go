// The network of a sandbox, and what the kernel must have for a node in it.

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
		// Both ends inside; not every kernel has the dummy device that one would expect here.
		"link add node0 type veth peer name node0peer",
		"addr add " + nodeAddress + "/24 dev node0",
		"link set node0 up",
		"link set node0peer up",
		// Without a route the node's own processes could not connect to a Service's address, which
		// kube-proxy rewrites only afterwards.
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

// probeKernel says what of the kernel is missing, before a component fails with words of its own.
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

// probeControllers looks for the controllers that kubelet and runc use, in either version.
func probeControllers() error {
	var missing []string
	unified, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers") // none in version 1
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
