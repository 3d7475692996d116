// Command bench measures the cost of mirrorgate as ratios: each figure is taken side by side, in one run,
// with that of the simplest program that could do the same work. docs/benchmarks.md explains the output.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 2 {
		if child, ok := children[os.Args[1]]; ok {
			exit(child(ctx, os.Args[2:]))
		}
	}
	parts := map[string]func(context.Context) error{
		"admission": benchAdmission, "scale": benchScale, "proxy": benchProxy, "isolation": benchIsolation, "hostile": benchHostile,
	}
	names := os.Args[1:]
	if len(names) == 0 {
		names = []string{"admission", "hostile", "scale", "proxy", "isolation"}
	}
	for _, name := range names {
		run, ok := parts[name]
		if !ok {
			exit(fmt.Errorf("no benchmark %q; there are %s", name, slices.Sorted(maps.Keys(parts))))
		}
		fmt.Printf("\n== %s\n", name)
		if err := run(ctx); err != nil {
			exit(err)
		}
	}
}

// children are the processes that benchmarks start.
var children = map[string]func(context.Context, []string) error{
	"serve":  func(ctx context.Context, args []string) error { return serveAdmission(ctx, args[0]) },
	"caller": func(ctx context.Context, args []string) error { return askSmall(ctx, args[0]) },
	"attack": func(ctx context.Context, args []string) error { return sendHostile(ctx, args[0]) },
	"faulty": func(ctx context.Context, args []string) error { return serveFaulty(ctx, args[0]) },
	"floor": func(_ context.Context, args []string) error {
		signal.Reset() // its loop never checks the context
		return serveFloor(args)
	},
	"paced": func(ctx context.Context, args []string) error {
		if len(args) != 2 {
			return errors.New("paced needs a target and a rate")
		}
		rate, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return askPaced(ctx, args[0], rate)
	},
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// percentile99 returns the 99th percentile of durations, which it sorts.
func percentile99(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(0.99*float64(len(d))))]
}

// median returns the median of values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// report prints the medians of a figure and of its peer's figure, and the ratio with its bound (0 for none).
// The ratio is the median of the rounds' ratios, since the load from the rest of the machine differs less
// within a round than between rounds.
func report(what, unit string, ours, peer []float64, bound float64) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / peer[i]
	}
	ratio, verdict := median(ratios), ""
	switch {
	case bound == 0:
	case ratio > bound:
		verdict = fmt.Sprintf("  ABOVE %.1f", bound)
	default:
		verdict = fmt.Sprintf("  within %.1f", bound)
	}
	fmt.Printf("%-46s %9.1f %-3s  peer %9.1f %-3s  ratio %5.2f%s\n", what, median(ours), unit, median(peer), unit, ratio, verdict)
}
