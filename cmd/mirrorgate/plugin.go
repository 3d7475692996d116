package main

// The program as a plugin of kubectl: a file named kubectl-mirrorgate is `kubectl mirrorgate`, and one named
// kubectl_complete-mirrorgate completes it. Both are the same binary by another name.

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// The names of the plugin's files, and how its users call it.
const (
	pluginFile     = "kubectl-mirrorgate"
	completionFile = "kubectl_complete-mirrorgate"
	pluginName     = "kubectl mirrorgate"
)

// byName returns the root for the name by which the program was started, and its arguments.
func byName(args []string) (*cobra.Command, []string) {
	root := newRoot()
	switch strings.TrimSuffix(filepath.Base(args[0]), ".exe") {
	case pluginFile:
		asPlugin(root)
		return root, args[1:]
	case completionFile:
		asPlugin(root)
		return root, append([]string{cobra.ShellCompRequestCmd}, args[1:]...)
	}
	return root, args[1:]
}

// command matches the name of the program where a text shows how to call it, and not in an address or a sentence.
var command = regexp.MustCompile("(?m)(^ {2,}|[|\"`] *|xargs )mirrorgate ")

// asPlugin makes usage texts say how to call the plugin.
func asPlugin(root *cobra.Command) {
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: pluginName}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, text := range []*string{&cmd.Long, &cmd.Example} {
			*text = command.ReplaceAllString(*text, "${1}"+pluginName+" ")
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}
