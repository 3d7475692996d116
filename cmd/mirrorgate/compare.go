package main

// The verb that answers whether a variant behaves as its primary does.

import (
	"github.com/spf13/cobra"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/compareserve"
)

const compareHelp = `Compare stands in front of a primary. Its clients get the primary's answers; copies of
their requests go to a variant, and to a control, which is another replica of the
primary. A field in which the variant is the odd one is a difference; one in which the
control is the odd one as often is noise. No rules about noise need to be written.

The verdict may be looked at as often as you like: in all, at most one comparison in
twenty is wrong when it says "different", and one in twenty when it says "same".
  same        fewer answers than --tolerance differ
  different   the fields are named, with how many answers differ
  undecided   the missing part is named: requests, time, noise

Requests depend on each other: a cache serves one value for a while. All requests of one
--independence count as one, so "different" takes fifteen to twenty-five times as long.
It should be a fifth of the longest cache lifetime, at least; 5s suits a trial without
caches. No request is compared twice within that time.

Without --control noise is unknown: "same" can be decided, "different" cannot. The
control gets at most --control-rate requests a second, and only GET and HEAD without a
body. --aa sends the variant's copies to the primary, too: the verdict should be same.

Only fields, counts and classes of values are shown, never values. Bodies of up to 64 KiB
are compared, JSON and gRPC by field.

Any gateway or mesh can mirror to this process, with the primary as its backend: then
the answers go nowhere.

Exit codes: 0 same; 1 different; 2 undecided, or it could not run.`

func newCompare() *cobra.Command {
	o := compareserve.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "compare --primary ADDRESS --variant ADDRESS [--control ADDRESS]",
		Short: "Tell whether a variant answers as its primary does, where not, and how sure",
		Long:  compareHelp,
		Example: `  mirrorgate compare --primary :9001 --variant :9002 --control :9003
  mirrorgate compare --primary :9001 --variant :9002 --control :9003 --independence 5s --until decided,10m
  mirrorgate compare --primary 10.0.0.7:80,10.0.0.8:80 --variant 10.0.0.9:80 --control primary --report compare.html
  mirrorgate compare --primary :9001 --aa --control primary     # test the comparison itself
  mirrorgate compare --primary :9001 --variant :9002 --control :9003 --ignore 'body.version:value' --path '/users/{id}'`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Listen, "listen", o.Listen, "address at which requests arrive")
	f.StringSliceVar(&o.Primary, "primary", nil, "addresses of the primary, whose answers clients get")
	f.StringSliceVar(&o.Variant, "variant", nil, "addresses of the variant")
	f.StringSliceVar(&o.Control, "control", nil, `addresses of other replicas of the primary, or "primary" for those of --primary; no control by default`)
	f.BoolVar(&o.Replicas, "aa", false, "send the variant's copies to the primary: a test of the comparison itself")
	f.IntVar(&o.Percent, "percent", o.Percent, "how many of the requests are copied to the variant")
	f.StringSliceVar(&o.Methods, "methods", o.Methods, "methods of the requests that are copied; the control gets GET and HEAD only")
	f.Float64Var(&o.ControlShare, "control-share", o.ControlShare, "how many of the copied requests the control gets, in percent")
	f.Float64Var(&o.ControlRate, "control-rate", o.ControlRate, "the most requests a second that the control gets")
	f.StringVar(&o.Tolerance, "tolerance", o.Tolerance, "rate of differing answers below which the variant is the same")
	f.DurationVar(&o.Independence, "independence", o.Independence, "longest time for which requests may depend on each other")
	f.StringArrayVar(&o.Ignore, "ignore", nil, "FIELD or FIELD:KIND whose differences do not count, like body.updated:value; kinds: value, type, presence, order, length")
	f.StringArrayVar(&o.Paths, "path", nil, "pattern of an endpoint, like /users/{id}; other paths then belong to no endpoint of their own")
	f.StringArrayVar(&o.DescriptorSets, "descriptor-set", nil, "file of protoc --descriptor_set_out --include_imports, which names the fields of gRPC's answers")
	f.BoolVar(&o.ShadowHost, "shadow-host", false, "append -shadow to the host of copies")
	f.StringVar(&o.Protocol, "protocol", o.Protocol, "protocol of the servers: http, h2c, or auto for that of each request")
	f.StringVar(&o.Until, "until", "", "decided, a duration, or both as decided,10m; until Ctrl-C by default")
	f.StringVarP(&o.Output, "output", "o", o.Output, "table or json")
	f.StringVar(&o.Serve, "serve", "", "address of the report while it runs: /compare, /compare.json, and /compare/confirm and /compare/rollback for Flagger")
	f.StringVar(&o.Report, "report", "", "HTML file to write at the end")
	bindLog(f, &o.Log)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if errs := o.Validate(); len(errs) > 0 {
			return usage(errs.ToAggregate())
		}
		report, err := compareserve.Run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		if err != nil {
			return usage(err) // exit code 1 means different
		}
		switch report.Verdict {
		case compare.Same:
			return nil
		case compare.Different:
			return exitFindings
		}
		return exitUsage
	}
	return cmd
}
