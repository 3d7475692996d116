package main

// Completion of names and values, for `mirrorgate completion bash` and the like. A cluster that does not answer
// soon completes nothing.

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/steer"
	"github.com/mirrorgate/mirrorgate/manifests"
)

// completionTimeout is how long a shell waits for a cluster.
const completionTimeout = 2 * time.Second

// values are the values of flags that have few.
var values = map[string][]string{
	"log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"}, "access-log": {"json", "common"},
	"certs": {"auto", "cert-manager", "self", "files"}, "failure-policy": {"Fail", "Ignore"}, "routes": manifests.Routes(),
	"protocol": {"http", "h2c", "auto"}, "for": {"active", "parked", "synced"}, "as-limit": {"Limit", "Deny", "Warn"},
}

// outputs are the values of --output by verb.
var outputs = map[string][]string{
	"compare": {"table", "json"}, "status": {"wide", "json", "yaml", "name", "jsonpath="}, "check": {"text", "json"}, "version": {"text", "json"}, "lint": {"text", "json", "sarif", "github"},
}

// failLevels are the values of --fail-on by verb.
var failLevels = map[string][]string{"check": {"error", "warning"}, "lint": {"error", "warning", "parked"}}

// complete adds completion to a verb and those below it.
func complete(cmd *cobra.Command) {
	for name, list := range values {
		completeFlag(cmd, name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
	}
	completeFlag(cmd, "output", cobra.FixedCompletions(outputs[cmd.Name()], cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "fail-on", cobra.FixedCompletions(failLevels[cmd.Name()], cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return contexts(), cobra.ShellCompDirectiveNoFileComp
	})
	completeFlag(cmd, "namespace", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return objectNames(cmd, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, ""), cobra.ShellCompDirectiveNoFileComp
	})
	if cmd.Name() == "status" || cmd.Name() == "wait" {
		cmd.ValidArgsFunction = completeRoutes
	}
	if cmd.Name() == "stop" || cmd.Name() == "resume" || cmd.Name() == "step" {
		cmd.ValidArgsFunction = completePolicies
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

func completeFlag(cmd *cobra.Command, name string, complete cobra.CompletionFunc) {
	if cmd.Flags().Lookup(name) != nil {
		_ = cmd.RegisterFlagCompletionFunc(name, complete) // it fails only for a flag that there is none of
	}
}

// contexts returns the names in the kubeconfig.
func contexts() (names []string) {
	raw, err := clientcmd.NewDefaultClientConfigLoadingRules().Load()
	if err != nil {
		return nil
	}
	for name := range raw.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func completeRoutes(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	namespace, _ := cmd.Flags().GetString("namespace")
	for _, kind := range []*feed.Kind{feed.HTTPRoutes, feed.GRPCRoutes, feed.VirtualServices} {
		for _, name := range objectNames(cmd, kind.At("v1"), namespace) {
			if full := strings.ToLower(kind.Name) + "/" + name; !slices.Contains(args, full) {
				names = append(names, full)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completePolicies(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	switch {
	case len(args) == 0:
		namespace, _ := cmd.Flags().GetString("namespace")
		names = objectNames(cmd, steer.Resource, namespace)
	case cmd.Name() == "step" && len(args) == 1:
		names = []string{steer.Auto}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// objectNames returns the names of a resource's objects, in the namespace of the context if none is given.
func objectNames(cmd *cobra.Command, resource schema.GroupVersionResource, namespace string) (names []string) {
	kubeconfig, _ := cmd.Flags().GetString("kubeconfig")
	kubecontext, _ := cmd.Flags().GetString("context")
	config, own, err := connect("completion", kubeconfig, kubecontext)
	if err != nil {
		return nil
	}
	if namespace == "" && resource.Resource != "namespaces" {
		namespace = own
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	list, err := client.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	for _, o := range list.Items {
		names = append(names, o.Name)
	}
	return names
}
