// Command mirrorgate makes traffic mirroring safe in Kubernetes: it gates every mirror on the variant that
// should receive it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is stamped by the build of a release, which can set a constant only.
var version = unstamped

const unstamped = "devel"

// release matches the version of a release, and none that Go makes up for a commit.
var release = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// installed returns the version at which `go install …@version` fetched this module, else or.
func installed(or string) string {
	info, known := debug.ReadBuildInfo()
	if !known || !release.MatchString(info.Main.Version) {
		return or
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if version == unstamped {
		version = installed(version)
	}
	root, args := byName(os.Args)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	stop()
	os.Exit(exitCode(err))
}

// The exit codes of all verbs; proxy has one more.
const (
	exitFindings exitError = 1 // there are findings, or the verb could not do its work
	exitUsage    exitError = 2 // a flag, an argument or a file is wrong
)

// exitError ends the program with that code; the message has been printed already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// failure is an error of a verb at work. Every other error is a wrong usage, which is found before it begins.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usage marks an error that a verb finds in its flags, arguments or files.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// exitCode prints an error, unless that was done, and returns the exit code for it.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, is := errors.AsType[exitError](err); is {
		return int(exit)
	}
	fmt.Fprintln(os.Stderr, "mirrorgate:", err)
	if _, is := errors.AsType[usageError](err); is {
		return int(exitUsage)
	}
	if _, is := errors.AsType[failure](err); is {
		return int(exitFindings)
	}
	fmt.Fprintln(os.Stderr, "See `mirrorgate --help`, or --help of the verb.")
	return int(exitUsage)
}

// atWork marks the errors of a verb and of the verbs below it.
func atWork(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return failure{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		atWork(sub)
	}
}

// knownVerb refuses the name of a verb that there is none of, and suggests one that is spelt alike.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance == 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if alike := cmd.SuggestionsFor(args[0]); len(alike) > 0 {
		message += "; did you mean " + strings.Join(alike, " or ") + "?"
	}
	return errors.New(message)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "mirrorgate",
		Short: "Mirror production traffic to a new variant, safely",
		Long: `mirrorgate gates every traffic mirror of an HTTPRoute, GRPCRoute or VirtualService
on the variant that should receive it: while the variant is not ready its mirror is
parked, so that it can neither break the primary nor be forgotten.`,
		Example: `  mirrorgate demo                          # see it at work, without a cluster
  mirrorgate lint routes/                  # judge manifests
  mirrorgate check --pre                   # whether a cluster is ready for it
  mirrorgate status -A                     # where each mirror is, and why`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newServe(), newIntercept(), newProxy(), newLint(), newExplain(), newStatus(), newWait(), newStop(), newResume(), newStep(), newCheck(), newCompare(), newDemo(), newUninstall(), newVersion())
	atWork(root)
	complete(root)
	return root
}
