package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/freeport"
)

var update = flag.Bool("update", false, "write the output of the programs into the scripts, and docs/reference/commands.md")

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"mirrorgate": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": code, "backend": cmdBackend, "port": cmdPort, "expand": cmdExpand, "get": cmdGet, "await": cmdAwait, "signal": cmdSignal,
		},
	})
}

// cmdBackend starts servers that answer with their name, path and host: backend NAME... sets $NAME to
// host:port. A request with ?hang is answered when the script has ended.
func cmdBackend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: backend NAME...")
	}
	for _, name := range args {
		end := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "hang" {
				<-end
			}
			fmt.Fprintf(w, "%s %s %s\n", name, r.URL.Path, r.Host)
		}))
		ts.Defer(func() { close(end); server.Close() })
		ts.Setenv(name, server.Listener.Addr().String())
	}
}

// cmdPort sets variables to addresses at which no process listens: port NAME...
func cmdPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: port NAME...")
	}
	for _, name := range args {
		address, err := freeport.Address()
		ts.Check(err)
		ts.Setenv(name, address.String())
	}
}

// cmdExpand replaces variables in a file: expand FROM TO. TO is replaced at once.
func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expand FROM TO")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	to := ts.MkAbs(args[1])
	ts.Check(os.WriteFile(to+".new", []byte(text), 0o600))
	ts.Check(os.Rename(to+".new", to))
}

// cmdGet requests a URL until status and body match: get URL PATTERN. Without a listener the status is 0.
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get URL PATTERN")
	}
	client := &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
	}
	target, err := url.Parse(args[0])
	ts.Check(err)
	pollFor(ts, args[1], func() string {
		response, err := client.Do(&http.Request{Method: http.MethodGet, URL: target})
		if err != nil {
			return "0 " + err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return strconv.Itoa(response.StatusCode) + " " + response.Header.Get("Location") + string(body)
	})
}

// cmdAwait waits until a file matches: await FILE PATTERN.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE PATTERN")
	}
	pollFor(ts, args[1], func() string {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err.Error()
		}
		return string(data)
	})
}

// cmdSignal sends a signal to the command in the background: signal HUP|TERM.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal HUP|TERM")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(signals[args[0]]))
	}
}

func pollFor(ts *testscript.TestScript, pattern string, read func() string) {
	re := regexp.MustCompile(`(?m)` + pattern)
	deadline := time.After(20 * time.Second)
	for tick := time.Tick(10 * time.Millisecond); ; {
		got := read()
		if re.MatchString(got) {
			return
		}
		select {
		case <-tick:
		case <-deadline:
			ts.Fatalf("no %s in %s", pattern, strings.TrimSpace(got))
		}
	}
}

// code runs mirrorgate and wants an exit code: code VERB N ARGUMENT ...
func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("mirrorgate", append([]string{args[0]}, args[2:]...)...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want := args[1]; strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

// Every verb shows how it is used, and its flags of one meaning have one name.
func TestEveryVerbHasExamples(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for name, short := range map[string]string{"namespace": "n", "output": "o", "selector": "l", "all-namespaces": "A", "watch": "w"} {
			if f := cmd.Flags().Lookup(name); f != nil && f.Shorthand != short {
				t.Errorf("%s: --%s has the short form %q, not %q", cmd.CommandPath(), name, f.Shorthand, short)
			}
		}
		if cmd.Flags().Lookup("kubeconfig") != nil && cmd.Flags().Lookup("context") == nil {
			t.Errorf("%s has --kubeconfig and no --context", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
}

// docs/reference/commands.md has the help of every verb. With -update the test writes it.
func TestTheReferenceHasTheHelpOfEveryVerb(t *testing.T) {
	const file = "../../docs/reference/commands.md"
	var b strings.Builder
	b.WriteString("# Commands\n\nThe help of every verb, generated from the program. [configuration.md](configuration.md) has the keys of the\nfile that `--config` names.\n")
	for _, cmd := range newRoot().Commands() {
		if !cmd.IsAvailableCommand() || cmd.Name() == "completion" {
			continue
		}
		help := strings.TrimSpace(cmd.Long)
		if help == "" {
			help = cmd.Short + "."
		}
		fmt.Fprintf(&b, "\n## mirrorgate %s\n\n```text\n%s\n\n%s\n```\n", cmd.Name(), help, strings.TrimSpace(cmd.UsageString()))
	}
	want := b.String()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o600))
	}
	have, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, want, string(have), "go test ./cmd/mirrorgate -update writes it")
}
