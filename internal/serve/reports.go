package serve

// The reports of the proxies in front of Services: the port at which the leader takes them, and the address that proxies
// are given.

import (
	"context"
	"net"

	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// reports are the server of reports and the sections that it knows.
type reports struct {
	server *report.Server
	// mirrors are the counters of copies.
	mirrors *report.Counters
}

// takeReports adds the port of reports. Every replica listens, and only the leader takes them.
func (p *Process) takeReports() error {
	if p.opts.ReportBind == "0" {
		return nil
	}
	r := &reports{mirrors: report.NewCounters()}
	r.server = report.New(report.Options{
		Reviews:  p.client.AuthenticationV1().TokenReviews(),
		Sections: map[string]report.Section{report.Mirrors: r.mirrors},
		Registry: metrics.Registry, Log: p.log.WithName("report"),
	})
	p.reports = r
	return p.manager.Add(everyReplica(func(ctx context.Context) error {
		return r.server.ListenAndServe(ctx, p.opts.ReportBind, p.source.GetCertificate)
	}))
}

// reporting is the loop that takes reports.
func (p *Process) reporting(events.EventRecorder) ([]loop, error) {
	if p.reports == nil {
		return nil, nil
	}
	return []loop{p.reports.server.Lead}, nil
}

// reportTarget returns where proxies report to.
func (p *Process) reportTarget() wellknown.ReportTarget {
	if target := p.noMesh.reportTo.Load(); target != nil {
		return *target
	}
	return wellknown.ReportTarget{}
}

// reportTargetFor returns where proxies report to, with the authorities that the API server trusts. In an installation
// that is its Service, else the host of --webhook-url.
func (p *Process) reportTargetFor(ca []byte) *wellknown.ReportTarget {
	host, port := "", "9444"
	if p.opts.ReportBind == "0" || len(ca) == 0 {
		return &wellknown.ReportTarget{}
	}
	if url := p.opts.webhookURL(); url != nil {
		host = url.Hostname()
		if _, bound, err := net.SplitHostPort(p.opts.ReportBind); err == nil {
			port = bound
		}
	} else if namespace, err := p.opts.installationNamespace(); err == nil {
		host = Installation + "." + namespace + ".svc"
	}
	if host == "" {
		return &wellknown.ReportTarget{}
	}
	return &wellknown.ReportTarget{Address: net.JoinHostPort(host, port), CA: string(ca)}
}

// servesRoute reports whether proxies serve a route, and whether something else may serve it too.
func (p *Process) servesRoute(key route.Key) (ours, others bool) {
	name := dataplane.RouteName{Name: dataplane.Name{Namespace: key.Namespace, Name: key.Name}}
	switch key.Kind {
	case route.HTTPRoute:
		name.Kind = dataplane.KindHTTPRoute
	case route.GRPCRoute:
		name.Kind = dataplane.KindGRPCRoute
	default:
		return false, true
	}
	return p.noMesh.index.Serves(name)
}
