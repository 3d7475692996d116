package objects

// The Deployment of a Service's proxies: their pods with probes, ports and rights.

import (
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	// drainTimeout is how long requests under way have to end after wellknown.EndpointLag.
	drainTimeout = 20 * time.Second
	// grace is how long the kubelet lets a proxy drain and stop.
	grace = wellknown.EndpointLag + drainTimeout + 7*time.Second
)

// Deployment returns the Deployment that runs the proxies.
func (p *Parent) Deployment() *appsv1.Deployment {
	serves := intercept.ServesOf(p.Original, ports(p.Service.Spec.Ports))
	labels := intercept.Sentinels(p.Service.Name, p.Original)
	labels[wellknown.ParentLabel] = wellknown.ParentValue(p.Service.Name)
	only := &metav1.LabelSelector{MatchLabels: map[string]string{wellknown.ParentLabel: wellknown.ParentValue(p.Service.Name)}}
	replicas := p.Config.Replicas
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: p.meta(wellknown.ProxyName(p.Service.Name), p.self()),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: only,
			// A new proxy is ready before an old one goes.
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{wellknown.ServesAnnotation: serves.String()}},
				Spec: corev1.PodSpec{
					ServiceAccountName:            wellknown.ProxyAccount,
					TerminationGracePeriodSeconds: new(int64(grace.Seconds())),
					SecurityContext:               securityContext(serves.Ports),
					Containers:                    []corev1.Container{p.container(&serves)},
					Volumes:                       []corev1.Volume{reportToken()},
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						TopologyKey: corev1.LabelHostname, MaxSkew: 1, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: only, MatchLabelKeys: []string{appsv1.DefaultDeploymentUniqueLabelKey},
					}},
				},
			},
		},
	}
	mount(&d.Spec.Template.Spec, p.Config.Certificates)
	return d
}

func (p *Parent) container(serves *intercept.Serves) corev1.Container {
	admin := adminPort(serves.Ports)
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(admin), Scheme: corev1.URISchemeHTTP}},
			PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 1,
		}
	}
	c := corev1.Container{
		Name: "proxy", Image: p.Config.Image, ImagePullPolicy: p.Config.PullPolicy,
		Args: append([]string{
			"proxy", "--service=" + p.Service.Name, "--namespace=" + p.Service.Namespace,
			"--admin-bind=:" + strconv.Itoa(int(admin)),
			"--drain-min=" + wellknown.EndpointLag.String(), "--drain-timeout=" + drainTimeout.String(),
			"--log-format=json",
		}, p.Config.args()...),
		// A frozen proxy loses the new connections of three seconds.
		ReadinessProbe: probe("/readyz", 1, 2),
		LivenessProbe:  probe("/healthz", 10, 3),
		Resources:      p.Config.Resources,
		// The garbage collector works harder near the limit, before the kernel kills the proxy.
		Env: []corev1.EnvVar{{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{
			ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"},
		}}, {Name: wellknown.ZoneVariable, ValueFrom: &corev1.EnvVarSource{
			// Kubernetes 1.35 and later copy this label from the node; before, the zone is empty.
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels['" + corev1.LabelTopologyZone + "']"},
		}}, {Name: wellknown.ReportTokenVariable, Value: reportTokens + "/token"}},
		VolumeMounts: []corev1.VolumeMount{{Name: reportVolume, MountPath: reportTokens, ReadOnly: true}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	for _, port := range serves.Ports {
		if i := len(c.Ports); i > 0 && int(c.Ports[i-1].ContainerPort) == port.Number {
			continue // a list of ports has each number once
		}
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: port.Name, ContainerPort: int32(port.Number), Protocol: corev1.ProtocolTCP}) //nolint:gosec // a port
	}
	return c
}

const (
	reportVolume = "report-token"
	// reportTokens is the folder of the token with which a proxy reports to the leader.
	reportTokens = "/var/run/secrets/mirrorgate.dev/report" //nolint:gosec // no credential, its folder
)

// reportToken is a volume with a token that proves to the leader, and to nobody else, who reports.
func reportToken() corev1.Volume {
	return corev1.Volume{Name: reportVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: wellknown.ReportAudience, ExpirationSeconds: new(int64(3600)), Path: "token",
		}}},
	}}}
}

// adminPort returns the first port from wellknown.AdminPort on that no proxy listens on for its Service.
func adminPort(taken []intercept.Port) int32 {
	port := wellknown.AdminPort
	for slices.ContainsFunc(taken, func(p intercept.Port) bool { return p.Number == port }) {
		port++
	}
	return int32(port) //nolint:gosec // a Service has no more than 100 ports
}

// securityContext satisfies Pod Security "restricted", and lets a proxy listen on low ports.
func securityContext(listens []intercept.Port) *corev1.PodSecurityContext {
	c := &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if slices.ContainsFunc(listens, func(p intercept.Port) bool { return p.Number < 1024 }) {
		c.Sysctls = []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}}
	}
	return c
}
