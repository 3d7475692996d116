// Package check looks for the faults that keep mirrorgate from working in a cluster, before it is installed and
// after. It reads, and writes nothing but dry runs, with the rights of its user: where they do not suffice, it
// says so and goes on.
package check

import (
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/internal/status"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// Level is how a check ended.
type Level string

// The levels.
const (
	OK Level = "ok"
	// Unread is for a check whose objects the user may not read.
	Unread  Level = "unread"
	Warning Level = "warning"
	Error   Level = "error"
)

// Result is one line of the report.
type Result struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Hint is the remedy of a fault.
	Hint string `json:"hint,omitempty"`
	// Docs is the address of the check's description.
	Docs string `json:"docs,omitempty"`
}

// docs is the page that describes the checks, each under a heading of its name.
const docs = "https://github.com/mirrorgate/mirrorgate/blob/main/docs/check.md#"

// View is the cluster as the checks see it.
type View struct {
	Client  kubernetes.Interface
	Objects dynamic.Interface
	// Routes returns the routes with mirrors.
	Routes func(context.Context) ([]status.Route, error)
	// Denies reports whether a validating webhook denies a dry run that must be denied, in a namespace.
	Denies func(ctx context.Context, namespace, hook string) (bool, error)
	// Version is that of this program, and Now the time of the machine.
	Version string
	Now     func() time.Time

	versions     map[kind][]string // those that were asked for in this run
	registered   []webhook.Registered
	registeredAt error
}

// check is one row of the table: a name, when it is asked, and a function that returns its findings. No finding
// means that all is well, in the words of fine.
type check struct {
	name string
	when when
	fine string
	run  func(*View, context.Context) (findings, error)
}

// when is the part of an installation's life in which a check is asked, and the objects that it needs.
type when int

const (
	always     when = iota
	before          // with --pre
	after           // without --pre
	registered      // after, and there are webhook configurations
	installed       // after, and there is an installation in the cluster
)

// finding is a fault with its remedy.
type finding struct {
	level      Level
	text, hint string
}

type findings []finding

func (f *findings) add(level Level, text, hint string) { *f = append(*f, finding{level, text, hint}) }

func checks() []check {
	return []check{
		{"kubernetes-version", always, "the API server answers, with a version that mirrorgate supports", (*View).kubernetesVersion},
		{"route-kinds", always, "the cluster serves kinds of routes that mirrorgate gates", (*View).routeKinds},
		{"mirror-percent", always, "the CRDs keep the percentage of a mirror", (*View).mirrorPercent},
		{"gateway-classes", always, "no GatewayClass lacks mirrors", (*View).gatewayClasses},
		{"other-webhooks", always, "no webhook of others stands in the way", (*View).otherWebhooks},
		{"permissions", before, "you may install mirrorgate", (*View).permissions},
		{"webhooks-registered", after, "the API server knows mirrorgate's webhooks", (*View).webhooksRegistered},
		{"one-mirrorgate", registered, "one mirrorgate decides about each kind of route", (*View).oneMirrorgate},
		{"webhooks-answer", registered, "a dry run that must be denied is denied", (*View).webhooksAnswer},
		{"webhooks-fail-closed", registered, "the validating webhooks have failure policy Fail", (*View).failClosed},
		{"ca-bundle", registered, "the API server has a valid CA for the webhooks", (*View).caBundle},
		{"probe-namespace", installed, "the namespace of the dry runs exists", (*View).probeNamespace},
		{"endpoints", installed, "replicas are ready behind the Service of the webhooks", (*View).endpoints},
		{"replicas", installed, "all replicas are ready", (*View).replicas},
		{"interception", installed, "the process that makes proxies is ready, where there are to be proxies", (*View).interception},
		{"certificate", installed, "the certificate is valid, and made by the CA", (*View).certificate},
		{"leader", installed, "a leader moves mirrors", (*View).leader},
		{"version", installed, "the installation has the version of this program", (*View).version},
		{"routes", registered, "every mirror is where the decision puts it", (*View).routes},
		{"policies", after, "every MirrorPolicy applies to all of its targets", (*View).policies},
		{"services", after, "no Service with proxies leads past them", (*View).services},
		{"proxies", after, "all proxies in front of Services are ready", (*View).proxies},
	}
}

// Run asks all checks: those of a cluster without mirrorgate if pre is set, else those of one with it.
func Run(ctx context.Context, v *View, pre bool) []Result {
	v.versions = map[kind][]string{}
	v.registered, v.registeredAt = webhook.Configurations(ctx, v.Client)
	var results []Result
	for _, c := range checks() {
		if !v.asks(c.when, pre) {
			continue
		}
		found, err := c.run(v, ctx)
		more := c.results(found, err)
		results = append(results, more...)
		if c.name == "kubernetes-version" && err != nil {
			break // nothing answers
		}
	}
	return results
}

func (v *View) asks(w when, pre bool) bool {
	switch w {
	case always:
		return true
	case before:
		return pre
	case after:
		return !pre
	case registered:
		return !pre && len(v.registered) > 0
	default:
		return !pre && v.installation() != nil
	}
}

// results returns the lines of one check.
func (c check) results(found findings, err error) (results []Result) {
	switch {
	case apierrors.IsForbidden(err):
		found.add(Unread, "not checked: "+serverWords(err), "ask somebody who may, or get the right")
	case err != nil:
		found.add(Error, serverWords(err), "")
	}
	if len(found) == 0 {
		return []Result{{Check: c.name, Level: OK, Text: c.fine}}
	}
	for _, f := range found {
		results = append(results, Result{c.name, f.level, f.text, f.hint, docs + c.name})
	}
	return results
}

// serverWords returns the message of the API server in an error, or the error's own.
func serverWords(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return status.Status().Message
	}
	return err.Error()
}

// Fails reports whether a result is as bad as a level: error, or warning.
func Fails(results []Result, level Level) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.Level == Error || r.Level == Warning && level == Warning })
}
