package main

// The verb that removes mirrorgate from the path of the API server and of requests, and can restore the
// mirrors that are parked.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/internal/removal"
	"github.com/mirrorgate/mirrorgate/webhook"
)

func newUninstall() *cobra.Command {
	var kubeconfig, context string
	var restore, restoreLimited, dryRun bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop admission, take proxies away, and list or restore parked and limited mirrors",
		Long: `Uninstall deletes mirrorgate's webhook configurations, the validating ones first, so that
the steps that follow cannot block a write; those that a crash of serve --webhook-url left
behind are among them. Every Service with proxies in front of it gets its own selector
back, and the proxies end once no client reaches them any more, so no request is lost.
mirrorgate's entries in status.parents of routes are removed; a mirrorgate that still
runs writes them again, until the last step below.

Then it lists the mirrors that are parked or limited. They stay parked in the annotations
of their routes; with --restore-parked they are written as their author wrote them,
whatever the state of the variants. Limited ones keep the smaller percentage that is
stored; with --restore-limited they get the declared one. mirrorgate's annotations are
removed from a route of which nothing is left to restore.

The rest of the installation is removed with the tool that installed it. Restore mirrors
last, when no controller runs that would touch the routes again:

  mirrorgate uninstall
  kubectl delete --ignore-not-found -k manifests/overlays/default
  mirrorgate uninstall --restore-parked --restore-limited

A restored mirror may point at a Service that does not exist. Like every editor of a
route, a restoration becomes the owner of the fields that it writes: if they are
managed by server-side apply, apply the manifests again.

The exit code is 0 when all is done, 1 when something could not be, and 2 after a wrong flag.`,
		Example: `  mirrorgate uninstall --dry-run           # what would be done
  mirrorgate uninstall --restore-parked    # the last step
  mirrorgate uninstall --restore-limited   # and give limited mirrors their percentage back`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	bindCluster(f, &kubeconfig, &context)
	f.BoolVar(&restore, "restore-parked", false, "write parked mirrors back into their routes")
	f.BoolVar(&restoreLimited, "restore-limited", false, "give limited mirrors the percentage that they declare")
	f.BoolVar(&dryRun, "dry-run", false, "print what would be done, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, _, err := connect("uninstall", kubeconfig, context)
		if err != nil {
			return err
		}
		config.QPS = -1
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		routes, err := dynamic.NewForConfig(config)
		if err != nil {
			return err
		}
		return uninstall(cmd.Context(), cmd.OutOrStdout(), removal.Removal{
			Client: client, Routes: routes, Restore: restore, RestoreLimited: restoreLimited, DryRun: dryRun,
		})
	}
	return cmd
}

func uninstall(ctx context.Context, out io.Writer, r removal.Removal) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	registered, err := r.Webhooks(ctx)
	if err != nil {
		return err // a route that is restored now would be parked again
	}
	if r.DryRun {
		fmt.Fprintln(out, "dry run: nothing is changed")
	}
	printWebhooks(out, registered)
	if err := withoutProxies(ctx, out, r); err != nil {
		return err
	}
	cleared, uncleared := r.Statuses(ctx)
	for _, name := range cleared {
		fmt.Fprintf(out, "%s: its status has no entry of mirrorgate's any more\n", name)
	}
	found, err := r.Mirrors(ctx)
	for _, p := range found {
		fmt.Fprintf(out, "%s %s/%s: %s\n", p.Kind, p.Namespace, p.Name, p.Says)
	}
	if len(found) == 0 && err == nil {
		fmt.Fprintln(out, "no mirror is parked or limited")
	}
	return errors.Join(uncleared, err)
}

// printWebhooks prints each name of webhook configurations once.
func printWebhooks(out io.Writer, registered []webhook.Registered) {
	if len(registered) == 0 {
		fmt.Fprintln(out, "webhook configurations: there are none")
	}
	printed := map[string]bool{}
	for _, c := range registered {
		switch url := c.URL(); {
		case printed[c.Name]:
		case url != "":
			fmt.Fprintf(out, "webhook configurations %s: deleted; they were registered by `mirrorgate serve --webhook-url %s`\n", c.Name, url)
		default:
			fmt.Fprintf(out, "webhook configurations %s: deleted\n", c.Name)
		}
		printed[c.Name] = true
	}
}

// withoutProxies gives Services their own selectors back and deletes the proxies in front of them.
func withoutProxies(ctx context.Context, out io.Writer, r removal.Removal) error {
	services, err := r.Services(ctx)
	for _, name := range services {
		fmt.Fprintf(out, "Service %s: has its own selector again\n", name)
	}
	if err != nil {
		return err // its proxies have to stay
	}
	proxies, err := r.Proxies(ctx)
	for _, name := range proxies {
		fmt.Fprintf(out, "proxies of Service %s: deleted\n", name)
	}
	return err
}
