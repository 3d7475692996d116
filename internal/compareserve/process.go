package compareserve

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/compare/page"
	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

const (
	// refresh is how often the verdict is looked at.
	refresh = 250 * time.Millisecond
	// drain is how long requests under way may take when the comparison ends.
	drain = 5 * time.Second
	// controlsInFlight is the most controls at once.
	controlsInFlight = 4
)

// Run compares until Options.Until, or until ctx ends, and returns the last report. The options must be valid.
func Run(ctx context.Context, o *Options, stdout, stderr io.Writer) (*compare.Report, error) {
	comparer, err := newComparer(o, time.Now())
	if err != nil {
		return nil, err
	}
	collector := compare.NewCollector(comparer)
	defer collector.Close()
	setup, err := setup(o)
	if err != nil {
		return nil, err
	}
	reports, err := serveReports(ctx, o, comparer, stderr)
	if err != nil {
		return nil, err
	}
	defer reports.Close()
	compared := newCompared(o, comparer, collector)
	server := newServer(o, compared)            //nolint:contextcheck // a server ends by Shutdown
	if err := server.Apply(setup); err != nil { //nolint:contextcheck // a server ends by Shutdown
		return nil, fmt.Errorf("compare: %w", err)
	}
	fmt.Fprintf(stderr, "mirrorgate: comparing at http://%s\n", server.Addr(listenerName))
	watch(ctx, o, comparer, stdout)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := server.Shutdown(bound); err != nil {
		o.Logger().Error(err, "Requests were aborted")
	}
	_ = reports.Shutdown(bound)
	collector.Close()
	report := comparer.Report(time.Now())
	return report, write(o, report, stdout)
}

// serveReports serves the present report at Options.Serve until it is shut down.
func serveReports(ctx context.Context, o *Options, comparer *compare.Comparer, stderr io.Writer) (*http.Server, error) {
	server := &http.Server{
		Handler:           page.Handler("", func() *compare.Report { return comparer.Report(time.Now()) }),
		ReadHeaderTimeout: drain, ReadTimeout: drain, WriteTimeout: 2 * drain, MaxHeaderBytes: 16 << 10,
	}
	if o.Serve == "" {
		return server, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Serve)
	if err != nil {
		return nil, fmt.Errorf("--serve: %w", err)
	}
	fmt.Fprintf(stderr, "mirrorgate: the report is at http://%s%s\n", listener.Addr(), page.Path)
	go func() { _ = server.Serve(listener) }() // ends by Shutdown
	return server, nil
}

// newServer returns the proxy, which compares the answers to the variant's copies.
func newServer(o *Options, compared *shadow.Compared) *proxy.Server {
	return proxy.New(&proxy.Options{
		Log: o.Logger().Error,
		Compare: func(m *routing.Mirror) *shadow.Compared {
			if m.Control {
				return nil
			}
			return compared
		},
	})
}

func newComparer(o *Options, now time.Time) (*compare.Comparer, error) {
	options := &compare.Options{Independence: o.Independence, Control: len(o.Control) > 0, Replicas: o.Replicas, Patterns: o.Paths, Messages: compare.Descriptors{}}
	var err error
	if options.Tolerance, err = o.tolerance(); err != nil {
		return nil, err
	}
	for _, text := range o.Ignore {
		ignore, err := compare.ParseIgnore(text)
		if err != nil {
			return nil, err
		}
		options.Ignore = append(options.Ignore, ignore)
	}
	for _, name := range o.DescriptorSets {
		set, err := os.ReadFile(name)
		if err == nil {
			err = options.Messages.Add(set)
		}
		if err != nil {
			return nil, fmt.Errorf("--descriptor-set: %s: %w", name, err)
		}
	}
	return compare.New(options, now)
}

func newCompared(o *Options, comparer *compare.Comparer, collector *compare.Collector) *shadow.Compared {
	c := &shadow.Compared{Comparer: comparer, Collector: collector}
	c.Pairs = compare.NewSampler(1, 0, o.Independence, rand.Float64, time.Now())
	if len(o.Control) > 0 {
		c.Triples = compare.NewSampler(o.ControlShare/100, o.ControlRate, o.Independence, rand.Float64, time.Now())
	}
	return c
}

const listenerName = "compare"

// setup returns the routing table: one rule for all requests, with a mirror to the variant and one to the control.
func setup(o *Options) (*proxy.Setup, error) {
	port := func(addresses []string) spec.Service {
		p := spec.Port{Protocol: o.Protocol}
		for _, address := range addresses {
			if strings.HasPrefix(address, ":") {
				address = "127.0.0.1" + address
			}
			p.Endpoints = append(p.Endpoints, spec.Endpoint{Address: address})
		}
		return spec.Service{80: p}
	}
	variant, control := o.Variant, o.Control
	if o.Replicas {
		variant = o.Primary
	}
	if len(control) == 1 && control[0] == OtherPrimary {
		control = o.Primary
	}
	services := map[string]spec.Service{"primary": port(o.Primary), "variant": port(variant)}
	mirror := func(name string, percent int, m spec.Mirror) spec.Filter {
		m.ShadowHost = &o.ShadowHost
		return spec.Filter{Type: "RequestMirror", RequestMirror: &spec.RequestMirror{
			BackendRef: spec.BackendRef{Name: name, Port: 80}, Percent: &percent, Mirrorgate: m,
		}}
	}
	rule := spec.Rule{
		BackendRefs: []spec.BackendRef{{Name: "primary", Port: 80}},
		Filters:     []spec.Filter{mirror("variant", o.Percent, spec.Mirror{Methods: o.Methods})},
	}
	if len(control) > 0 {
		inFlight, queue := controlsInFlight, 0
		services["control"] = port(control)
		rule.Filters = append(rule.Filters, mirror("control", 100, spec.Mirror{MaxInFlight: &inFlight, Queue: &queue}))
	}
	table, problems := routing.Compile(&spec.Table{Listeners: []spec.Listener{{Name: listenerName, Address: o.Listen, Rules: []spec.Rule{rule}}}, Services: services})
	for _, p := range problems {
		if !p.Warning {
			return nil, fmt.Errorf("compare: %s", p)
		}
	}
	for _, m := range table.Mirrors {
		m.Control = strings.HasPrefix(m.Target.Name, "control:")
	}
	return &proxy.Setup{Table: table, Listeners: []proxy.Listener{{Name: listenerName, Address: o.Listen, H2C: true}}}, nil
}

// watch returns when the comparison is to end. On a terminal it shows the table as it changes.
func watch(ctx context.Context, o *Options, comparer *compare.Comparer, stdout io.Writer) {
	show := liveTable(o, stdout)
	tick := time.NewTicker(min(refresh, o.Independence))
	defer tick.Stop()
	var timeout <-chan time.Time
	if o.until.after > 0 {
		timer := time.NewTimer(o.until.after)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timeout:
			return
		case now := <-tick.C:
			report := comparer.Report(now)
			show(report)
			if o.until.decided && report.Verdict != compare.Undecided {
				return
			}
		}
	}
}

// liveTable returns a function that shows a report in place of the last one, if the output is a terminal.
func liveTable(o *Options, stdout io.Writer) func(*compare.Report) {
	file, is := stdout.(*os.File)
	if !is || o.Output != "table" || !term.IsTerminal(int(file.Fd())) {
		return func(*compare.Report) {}
	}
	return func(r *compare.Report) {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			width = 120
		}
		var text strings.Builder
		writeTable(&text, r)
		_, _ = io.WriteString(file, "\x1b[H\x1b[2J")
		for line := range strings.Lines(text.String()) {
			_, _ = io.WriteString(file, printing.Shorten(strings.TrimSuffix(line, "\n"), max(width-1, 40))+"\n")
		}
	}
}

// write prints the last report, and writes the page.
func write(o *Options, r *compare.Report, stdout io.Writer) error {
	if o.Report != "" {
		if err := page.WriteFile(o.Report, r, ""); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	if o.Output == "json" {
		return printing.JSON(stdout, r)
	}
	writeTable(stdout, r)
	return nil
}
