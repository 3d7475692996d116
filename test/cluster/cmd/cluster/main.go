// Command cluster is the test cluster for people and scripts: it starts a cluster, prints its kubeconfig or
// runs a command in it, and removes everything at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/test/cluster"
)

const usage = `cluster runs a real Kubernetes control plane on this machine: no root, no containers, loopback only.

  cluster up [FLAGS]                start one, print its KUBECONFIG, keep it until Ctrl-C
  cluster up [FLAGS] -- CMD ARGS…   start one, run CMD in it, end it, exit with CMD's code
  cluster build                     build and keep everything that up needs (minutes, once)
  cluster help                      this text

Flags of up:
  --crds LIST      CRDs to install, separated by commas: %s; or none
                   (default %s)
  --nodes N        number of nodes (default 1)
  --api-only       etcd and kube-apiserver only: no controllers, scheduler or nodes
  --real-node      a node whose pods run, all in a network of its own without a way out; needs
                   root, Linux, and some Debian packages, which it names

CMD gets KUBECONFIG, KUBECTL and, on its PATH, the cluster's kubectl. Examples:

  go run ./cmd/cluster up -- kubectl get nodes
  go run ./cmd/cluster up --crds gateway-api,cert-manager -- bash

Components are kept in bin/cluster at the top of the repository, or in the folder that
%s names. go run turns every exit code but 0 into 1; a built binary does not.
`

func main() {
	// Installed before anything starts: from here on a signal means "clean up" and not "exit at once".
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	os.Exit(code)
}

// run executes the verb that the arguments name and returns the exit code: the command's, 130 if a signal
// ended it, 2 for wrong arguments, 1 for other failures.
func run(ctx context.Context, args []string) (int, error) {
	verb := "help"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "up":
		return up(ctx, args)
	case "build":
		return build(ctx)
	case "help", "-h", "--help":
		fmt.Print(help())
		return 0, nil
	}
	return 2, fmt.Errorf("no command is called %q; try: cluster help", verb)
}

func help() string {
	return fmt.Sprintf(usage, strings.Join(cluster.KnownCRDs(), ", "), strings.Join(cluster.DefaultCRDs(), ","), cluster.BinEnv)
}

// build builds and keeps everything that up may need.
func build(ctx context.Context) (int, error) {
	if _, err := cluster.Build(ctx, os.Stderr); err != nil {
		return 1, err
	}
	if err := cluster.BuildCRDs(ctx, os.Stderr); err != nil {
		return 1, err
	}
	return 0, nil
}

// up starts a cluster and keeps it until the command or a signal ends it.
func up(ctx context.Context, args []string) (code int, err error) {
	options, command, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(help())
		return 0, nil
	}
	if err != nil {
		return 2, fmt.Errorf("%w; try: cluster help", err)
	}
	if options.RealNode && !cluster.InSandbox() {
		if err := cluster.BuildNode(ctx, options); err != nil {
			return 1, err
		}
		return cluster.Sandbox()
	}
	// A signal ends the start at once, but a started cluster lives until the command has ended.
	lifetime, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	started := context.AfterFunc(ctx, cancel)
	c, err := cluster.Start(lifetime, options)
	started()
	if err != nil {
		return 1, err
	}
	defer func() {
		if stopErr := c.Stop(); stopErr != nil {
			code, err = max(code, 1), errors.Join(err, stopErr)
		}
	}()
	if len(command) > 0 {
		return runCommand(ctx, c, command)
	}
	fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig)
	fmt.Fprintln(os.Stderr, "cluster: Ctrl-C ends it")
	<-ctx.Done()
	return 0, nil
}

// parse reads the flags of up and the command after "--".
func parse(args []string) (options cluster.Options, command []string, err error) {
	if i := slices.Index(args, "--"); i >= 0 {
		args, command = args[:i], args[i+1:]
	}
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.Usage = func() {}
	flags.SetOutput(os.Stderr)
	crds := flags.String("crds", strings.Join(cluster.DefaultCRDs(), ","), "")
	nodes := flags.Int("nodes", 1, "")
	apiOnly := flags.Bool("api-only", false, "")
	realNode := flags.Bool("real-node", false, "")
	if err := flags.Parse(args); err != nil {
		return options, nil, err
	}
	if flags.NArg() > 0 {
		return options, nil, fmt.Errorf("unexpected %q: a command follows --", flags.Arg(0))
	}
	if *apiOnly {
		options = cluster.APIOnly()
	}
	if *apiOnly && *realNode {
		return options, nil, errors.New("--api-only and --real-node exclude each other")
	}
	options.Nodes, options.RealNode, options.Progress, options.CRDs = *nodes, *realNode, os.Stderr, []string{}
	if *crds != "none" && *crds != "" {
		options.CRDs = strings.Split(*crds, ",")
	}
	return options, command, nil
}

// runCommand runs the command in the cluster. After a signal the command gets SIGTERM and has ten seconds to
// end; it shares this process's terminal, so a Ctrl-C reaches it directly too.
func runCommand(ctx context.Context, c *cluster.Cluster, command []string) (int, error) {
	for _, variable := range c.Env() { // set in this process too, whose PATH is searched for the command
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return 1, err
		}
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cluster.Run(cmd)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 130, nil //nolint:nilerr // interrupted by the user
	case errors.As(err, &exit):
		return exitCode(exit), nil
	case err != nil:
		return 1, err
	}
	return 0, nil
}

// exitCode returns the command's own code or, as shells do, 128 plus the signal that ended it.
func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
