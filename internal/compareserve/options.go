// Package compareserve runs `mirrorgate compare`: the proxy in front of a primary, a variant and a control, with a
// comparison of their answers, until it is decided.
package compareserve

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/compare"
)

// OtherPrimary is the value of Options.Control that stands for the other addresses of the primary.
const OtherPrimary = "primary"

// Options are the options of compare. The errors of Validate name the flags.
type Options struct {
	// Listen is the address at which requests arrive.
	Listen string
	// Primary, Variant and Control are the addresses of servers. Control may be OtherPrimary; empty means no control.
	Primary, Variant, Control []string
	// Replicas sends the variant's copies to the primary: to test the comparison itself.
	Replicas bool
	// Percent is how many of the requests are copied to the variant.
	Percent int
	// Methods are those of the requests that are copied.
	Methods []string
	// ControlShare is how many of the copied requests a control gets too, in percent, and ControlRate how many a second.
	ControlShare, ControlRate float64
	// Tolerance is the rate of differences below which the variant is the same, like 1%.
	Tolerance string
	// Independence is the longest time for which requests may depend on each other.
	Independence time.Duration
	// Ignore are differences that do not count, and Paths the patterns of endpoints.
	Ignore, Paths []string
	// DescriptorSets are files that describe services of gRPC.
	DescriptorSets []string
	// ShadowHost appends -shadow to the host of copies.
	ShadowHost bool
	// Protocol of the backends: http, h2c, or auto for that of the request.
	Protocol string
	// Until is decided, a duration, or both; empty means until it is stopped.
	Until string
	// Serve is the address at which the report is served while the comparison runs; empty for none.
	Serve string
	// Output is table or json, and Report the path of a page to write at the end.
	Output, Report string
	cli.Log

	until until
}

// until is when a comparison ends.
type until struct {
	decided bool
	after   time.Duration // 0 for never
}

// DefaultOptions returns the defaults.
func DefaultOptions() *Options {
	o := &Options{
		Listen: "127.0.0.1:8000", Percent: 100, Methods: []string{"GET", "HEAD"}, ControlShare: 100, ControlRate: compare.DefaultControls,
		Tolerance: "1%", Independence: time.Minute, Protocol: "auto", Output: "table", Log: cli.DefaultLog(),
	}
	o.Level = "warn"
	return o
}

// Validate checks the options.
func (o *Options) Validate() (errs field.ErrorList) {
	at := func(flag string) *field.Path { return field.NewPath(flag) }
	if len(o.Primary) == 0 {
		errs = append(errs, field.Required(at("primary"), "the address of the server whose answers clients get, like 127.0.0.1:9001"))
	}
	if len(o.Variant) == 0 && !o.Replicas {
		errs = append(errs, field.Required(at("variant"), "the address of the new version, like 127.0.0.1:9002"))
	}
	if len(o.Variant) > 0 && o.Replicas {
		errs = append(errs, field.Forbidden(at("aa"), "compares the primary with itself, without --variant"))
	}
	errs = append(errs, o.addresses()...)
	errs = append(errs, o.amounts()...)
	if _, err := o.tolerance(); err != nil {
		errs = append(errs, field.Invalid(at("tolerance"), o.Tolerance, err.Error()))
	}
	for _, text := range o.Ignore {
		if _, err := compare.ParseIgnore(text); err != nil {
			errs = append(errs, field.Invalid(at("ignore"), text, strings.TrimPrefix(err.Error(), strconv.Quote(text)+": ")))
		}
	}
	if _, err := compare.NewTemplates(o.Paths); err != nil {
		errs = append(errs, field.Invalid(at("path"), o.Paths, err.Error()))
	}
	var err error
	if o.until, err = parseUntil(o.Until); err != nil {
		errs = append(errs, field.Invalid(at("until"), o.Until, err.Error()))
	}
	errs = append(errs, cli.OneOf("protocol", o.Protocol, "http", "h2c", "auto")...)
	errs = append(errs, cli.OneOf("output", o.Output, "table", "json")...)
	return append(errs, o.Log.Validate()...)
}

// amounts checks how much is copied, and for how long requests depend on each other.
func (o *Options) amounts() (errs field.ErrorList) {
	at := func(flag string) *field.Path { return field.NewPath(flag) }
	if o.Percent < 1 || o.Percent > 100 {
		errs = append(errs, field.Invalid(at("percent"), o.Percent, "must be from 1 to 100"))
	}
	for _, m := range o.Methods {
		if m == "" || strings.ToUpper(m) != m || m == "CONNECT" {
			errs = append(errs, field.Invalid(at("methods"), m, "must be a method in capitals, like GET"))
		}
	}
	if o.ControlShare <= 0 || o.ControlShare > 100 {
		errs = append(errs, field.Invalid(at("control-share"), o.ControlShare, "must be more than 0 and at most 100"))
	}
	if o.ControlRate <= 0 || o.ControlRate > 1000 {
		errs = append(errs, field.Invalid(at("control-rate"), o.ControlRate, "must be more than 0 and at most 1000"))
	}
	if o.Independence < 10*time.Millisecond || o.Independence > 24*time.Hour {
		errs = append(errs, field.Invalid(at("independence"), o.Independence.String(), "must be from 10ms to 24h"))
	}
	return errs
}

// addresses checks all addresses. A host may be left out: it is this machine.
func (o *Options) addresses() (errs field.ErrorList) {
	check := func(flag, address string) {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			errs = append(errs, field.Invalid(field.NewPath(flag), address, "must be HOST:PORT, like 127.0.0.1:9001"))
		}
	}
	check("listen", o.Listen)
	if o.Serve != "" {
		check("serve", o.Serve)
	}
	for flag, list := range map[string][]string{"primary": o.Primary, "variant": o.Variant} {
		for _, address := range list {
			check(flag, address)
		}
	}
	if !slices.Equal(o.Control, []string{OtherPrimary}) {
		for _, address := range o.Control {
			check("control", address)
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// tolerance returns the rate.
func (o *Options) tolerance() (float64, error) {
	text := strings.TrimSpace(strings.TrimSuffix(o.Tolerance, "%"))
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || rate < 0.01 || rate > 50 {
		return 0, fmt.Errorf("must be a percentage from 0.01%% to 50%%, like 1%%")
	}
	return rate / 100, nil
}

// parseUntil parses decided, a duration, or both with a comma.
func parseUntil(text string) (u until, err error) {
	if text == "" {
		return u, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if part == "decided" {
			u.decided = true
			continue
		}
		if u.after, err = time.ParseDuration(part); err != nil || u.after <= 0 {
			return u, fmt.Errorf("must be decided, a duration like 10m, or both as decided,10m")
		}
	}
	return u, nil
}
