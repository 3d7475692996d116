package demo

// The three plays. All of them follow their document, and then take variant 2 through everything that can
// happen to it.

import (
	"context"
	"fmt"
	"path"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// variantTwo is the Deployment of variant 2, by the name that all documents give it.
const variantTwo = "httpbin-v2"

// play is one document.
type play struct {
	title, short string
	folder       string
	kind         route.Kind
	// service is the Service that the mirror points at: by its endpoints the variant is ready or not.
	service string
	// first are the files that come before everything else, plain the one with the default route, mirror the
	// mirrored route's, second those of variant 2.
	first  []string
	plain  string
	mirror string
	second []string
	// ends are the objects that are deleted to end variant 2.
	ends []string
	// documents are the files that make the route, where its author does not write it: mirror and plain are
	// the routes that the document prints then.
	documents []string
}

func plays() []play {
	return []play{
		{
			title: `Istio's task "Mirroring", as VirtualService and DestinationRule`, short: "Istio, VirtualService",
			folder: "istio-virtualservice", kind: route.VirtualService, service: "httpbin",
			first: []string{"httpbin-v1.yaml", "httpbin.yaml"}, plain: "default-route.yaml", mirror: "mirror-route.yaml",
			second: []string{"httpbin-v2.yaml"}, ends: []string{"deployment/httpbin-v2"},
		},
		{
			title: `Istio's task "Mirroring", as HTTPRoute of the Gateway API`, short: "Istio, HTTPRoute",
			folder: "istio-gateway-api", kind: route.HTTPRoute, service: "httpbin-v2",
			first: []string{"httpbin-v1.yaml", "httpbin.yaml"}, plain: "default-route.yaml", mirror: "mirror-route.yaml",
			second: []string{"httpbin-v2.yaml"}, ends: []string{"deployment/httpbin-v2", "service/httpbin-v2"},
		},
		{
			title: `Iter8's tutorial "Traffic mirroring", with its subject and routing policy`, short: "Iter8",
			folder: "iter8", kind: route.HTTPRoute, service: "httpbin-v2",
			first: []string{"httpbin-v1.yaml", "httpbin-v1-service.yaml", "httpbin.yaml"},
			plain: "inspect.yaml", mirror: "route.yaml", second: []string{"httpbin-v2.yaml", "httpbin-v2-service.yaml"},
			ends:      []string{"deployment/httpbin-v2", "service/httpbin-v2"},
			documents: []string{"subject.yaml", "routingpolicy.yaml"},
		},
	}
}

// written is the mirrored route as its author has it.
func (p play) written(documents manifests) *unstructured.Unstructured {
	return documents[path.Join(p.folder, p.mirror)][0]
}

// outcome is the expected state of the stored route after a step.
type outcome int

const (
	// noMirror: the route is stored without a mirror.
	noMirror outcome = iota
	// mirror: the route is stored with the mirrors of the manifest.
	mirror
	// noChange: the stored object is the very same.
	noChange
	// noRoute: there is none any more.
	noRoute
)

func (o outcome) String() string {
	return [...]string{"no mirror", "mirror", "no change", "no route"}[o]
}

// cause is the event that a step's flip is timed from.
type cause int

const (
	// theWrite of the route itself.
	theWrite cause = iota
	// theCall that scaled or deleted the variant.
	theCall
	// theVariant, when it became ready.
	theVariant
	// theDocuments that make the route, or whose end is its end.
	theDocuments
)

// step is a change to the cluster and its expected outcome.
type step struct {
	title string
	do    []action
	since cause
	want  outcome
	// prints is the file with the route as the document prints it after the step, "" if it does not.
	prints string
}

// action is one command, written as kubectl would take it.
type action struct {
	command string
	run     func(context.Context, *stage) error
}

// steps are those of the document.
func (p play) steps() []step {
	if len(p.documents) > 0 {
		return p.tutorial()
	}
	write, plain := p.apply(p.mirror), p.apply(p.plain)
	scale := func(replicas string) []action {
		return []action{{
			"scale deployment/" + variantTwo + " --replicas=" + replicas,
			func(ctx context.Context, s *stage) error { return s.scale(ctx, variantTwo, replicas) },
		}}
	}
	return []step{
		{"the mirror is written while variant 2 is absent", slices.Concat(p.apply(p.first...), plain, write), theWrite, noMirror, ""},
		{"variant 2 is deployed", p.apply(p.second...), theVariant, mirror, ""},
		// The order of Istio's document: both variants first, then these two.
		{"the default route is applied, without a mirror", plain, theWrite, noMirror, ""},
		{"the mirror is written while variant 2 is ready", write, theWrite, mirror, ""},
		{"variant 2 is scaled to 0", scale("0"), theCall, noMirror, ""},
		{"variant 2 is scaled back to 1", scale("1"), theVariant, mirror, ""},
		{"variant 2 is deleted", p.delete(p.ends...), theCall, noMirror, ""},
		{"the same manifest is applied again", write, theWrite, noChange, ""},
	}
}

// tutorial are the steps of Iter8's.
func (p play) tutorial() []step {
	plain, mirrored := path.Join(p.folder, p.plain), path.Join(p.folder, p.mirror)
	return []step{
		{"the app, its subject and its routing policy", p.create(append(slices.Clone(p.first), p.documents...)...), theDocuments, noMirror, plain},
		{"variant 2 is deployed", p.create(p.second...), theVariant, mirror, mirrored},
		{"variant 2 is deleted", p.deleteAll("delete deploy/httpbin-v2 svc/httpbin-v2", p.ends...), theCall, noMirror, plain},
		{"cleanup", append(
			p.deleteAll("delete deploy/httpbin-v1 svc/httpbin-v1", "deployment/httpbin-v1", "service/httpbin-v1"),
			p.deleteAll("delete svc/httpbin cm/httpbin cm/httpbin-route", "service/httpbin", "configmap/httpbin", "configmap/httpbin-route")...,
		), theDocuments, noRoute, ""},
	}
}

// create, apply and delete are one command for each file or object.
func (p play) create(names ...string) []action {
	return p.forFiles("create -f ", (*stage).createFile, names)
}

func (p play) apply(names ...string) []action {
	return p.forFiles("apply --server-side -f ", (*stage).applyFile, names)
}

func (p play) forFiles(command string, run func(*stage, context.Context, string) error, names []string) (actions []action) {
	for _, name := range names {
		file := path.Join(p.folder, name)
		actions = append(actions, action{command + file, func(ctx context.Context, s *stage) error { return run(s, ctx, file) }})
	}
	return actions
}

func (p play) delete(names ...string) (actions []action) {
	for _, name := range names {
		actions = append(actions, p.deleteAll("delete "+name, name)...)
	}
	return actions
}

// deleteAll is one command for several objects.
func (p play) deleteAll(command string, names ...string) []action {
	return []action{{command, func(ctx context.Context, s *stage) error {
		for _, name := range names {
			if err := s.deleteNamed(ctx, name); err != nil {
				return fmt.Errorf("delete %s: %w", name, err)
			}
		}
		return nil
	}}}
}
