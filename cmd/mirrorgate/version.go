package main

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/discovery"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

// serverTimeout bounds the question for the version of the cluster.
const serverTimeout = 5 * time.Second

// versions are those of this program and, where there is a cluster, of its API server.
type versions struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Kubernetes is the version of the API server, "" where none answers.
	Kubernetes string `json:"kubernetes,omitempty"`
}

func newVersion() *cobra.Command {
	var output, kubeconfig, kubecontext string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program, of Go and of the platform",
		Long: `Version prints the version of this program, of Go and of the platform. With -o json, and
with --kubeconfig or --context, it adds the version of the cluster's API server, if it answers.`,
		Example: `  mirrorgate version
  mirrorgate version -o json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	bindCluster(cmd.Flags(), &kubeconfig, &kubecontext)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cli.OneOf("output", output, "text", "json").ToAggregate(); err != nil {
			return usage(err)
		}
		v := versions{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
		if output == "json" || kubeconfig != "" || kubecontext != "" {
			v.Kubernetes = serverVersion(kubeconfig, kubecontext)
		}
		return v.write(cmd.OutOrStdout(), output)
	}
	return cmd
}

func (v versions) write(out io.Writer, output string) error {
	if output == "json" {
		return printing.JSON(out, v)
	}
	text := fmt.Sprintf("mirrorgate %s %s %s", v.Version, v.Go, v.Platform)
	if v.Kubernetes != "" {
		text += ", Kubernetes " + v.Kubernetes
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// serverVersion returns the version of the API server, "" when there is no cluster or it does not answer.
func serverVersion(kubeconfig, kubecontext string) string {
	config, _, err := connect("version", kubeconfig, kubecontext)
	if err != nil {
		return ""
	}
	config.Timeout = serverTimeout
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return ""
	}
	info, err := client.ServerVersion()
	if err != nil {
		return ""
	}
	return info.GitVersion
}
