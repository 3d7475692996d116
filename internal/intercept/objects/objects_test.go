package objects

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

var (
	http  = corev1.ServicePort{Name: "http", Port: 8000, TargetPort: intstr.FromInt32(80)}
	named = corev1.ServicePort{Name: "named", Port: 9000, TargetPort: intstr.FromString("grpc")}
)

var update = flag.Bool("update", false, "rewrite golden files")

func parent(ports ...corev1.ServicePort) *Parent {
	config := DefaultConfig()
	config.Image, config.MaxReplicas = "mirrorgate:test", 5
	return &Parent{
		Service: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "httpbin", UID: "u1",
				Labels:      map[string]string{"team": "web", wellknown.ManagedByLabel: "Helm", wellknown.Label: wellknown.Enabled},
				Annotations: map[string]string{"prometheus.io/scrape": "true", "notes": "none"},
			},
			Spec: corev1.ServiceSpec{Ports: ports, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
		},
		Original: map[string]string{"app": "httpbin", "tier": "web"}, Config: config,
		Report: wellknown.ReportTarget{Address: "mirrorgate.mirrorgate-system.svc:9444", CA: "PEM"},
	}
}

// The golden file holds all objects of one Service; its diff is the review.
func TestObjects(t *testing.T) {
	p := parent(http, named, corev1.ServicePort{Name: "again", Port: 81, TargetPort: intstr.FromInt32(80), AppProtocol: new("http")})
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: "httpbin-mirrorgate-origin", UID: "u2"}
	var parts []string
	for _, o := range []any{p.Origin(), p.Account(owner), p.Binding(owner), p.Grant("far"), p.Deployment(), p.Budget(owner), p.Scaler(owner)} {
		raw, err := yaml.Marshal(o)
		require.NoError(t, err)
		parts = append(parts, string(raw))
	}
	have := strings.Join(parts, "---\n")
	const golden = "testdata/objects.golden.yaml"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, []byte(have), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), have)
}

func TestAdminPortIsNoPortOfTheService(t *testing.T) {
	s := intercept.ServesOf(nil, []intercept.ServicePort{{Port: wellknown.AdminPort}, {Port: wellknown.AdminPort + 1}})
	assert.Equal(t, int32(wellknown.AdminPort+2), adminPort(s.Ports))
	p := parent(corev1.ServicePort{Port: wellknown.AdminPort})
	c := p.Deployment().Spec.Template.Spec.Containers[0]
	assert.Contains(t, c.Args, "--admin-bind=:15021")
	assert.Equal(t, 15021, c.ReadinessProbe.HTTPGet.Port.IntValue())
}

// Only proxies that need low ports ask for the sysctl.
func TestLowPorts(t *testing.T) {
	assert.NotEmpty(t, parent(http).Deployment().Spec.Template.Spec.SecurityContext.Sysctls)
	assert.Empty(t, parent(corev1.ServicePort{Port: 8080}, named).Deployment().Spec.Template.Spec.SecurityContext.Sysctls)
}

// Of a Secret nothing is mounted but the certificate and its key, and a pod without them does not start.
func TestCertificatesAreMounted(t *testing.T) {
	p := parent(http)
	without := len(p.Deployment().Spec.Template.Spec.Volumes)
	p.Config.Certificates, p.Config.ProxyProtocol = []Certificate{{443, "shop-tls"}}, "out"
	pod := p.Deployment().Spec.Template.Spec
	require.Len(t, pod.Volumes, without+1)
	volume := pod.Volumes[without]
	secret := volume.Secret
	assert.Equal(t, "shop-tls", secret.SecretName)
	assert.Nil(t, secret.Optional)
	assert.Equal(t, []corev1.KeyToPath{{Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}}, secret.Items)
	assert.Contains(t, pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: volume.Name, MountPath: "/certificates/443", ReadOnly: true})
	assert.Subset(t, pod.Containers[0].Args, []string{"--certificate=443=/certificates/443", "--proxy-protocol=out"})
}

// Proxies drain before the kubelet ends them.
func TestGraceCoversTheDrain(t *testing.T) {
	assert.Greater(t, *parent(http).Deployment().Spec.Template.Spec.TerminationGracePeriodSeconds, int64((wellknown.EndpointLag + drainTimeout).Seconds()))
}

// The pods of a Deployment can serve the Service that it was made for.
func TestProxiesOfADeploymentServe(t *testing.T) {
	p := parent(http, named)
	template := p.Deployment().Spec.Template
	proxy := intercept.Proxy{Labels: template.Labels, Serves: intercept.ParseServes(template.Annotations[wellknown.ServesAnnotation])}
	p.Service.Spec.Selector = p.Original
	d := intercept.Decide(Read(p.Service), nil, &intercept.View{Wanted: true, Proxies: []intercept.Proxy{proxy}})
	assert.Equal(t, intercept.Proxied, d.Mode, d.Why)
}

func TestConfigOfAService(t *testing.T) {
	base := DefaultConfig()
	for name, c := range map[string]struct {
		annotations map[string]string
		want        func(*Config)
		says        string
	}{
		"nothing": {nil, func(*Config) {}, ""},
		"numbers": {map[string]string{ReplicasAnnotation: "3", MaxReplicasAnnotation: "10"}, func(c *Config) { c.Replicas, c.MaxReplicas = 3, 10 }, ""},
		"resources": {map[string]string{ResourcesAnnotation: `{"requests":{"cpu":"1"}}`}, func(c *Config) {
			c.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
		}, ""},
		"settings": {map[string]string{AccessLogAnnotation: "json", MetricsPerRuleAnnotation: "true", ReasonHeaderAnnotation: "false", TrustedHopsAnnotation: "0"}, func(c *Config) {
			c.AccessLog, c.MetricsPerRule, c.ReasonHeader, c.TrustedHops = "json", true, new(false), new(int32(0))
		}, ""},
		"their defaults": {map[string]string{AccessLogAnnotation: "none", MetricsPerRuleAnnotation: "false", ReasonHeaderAnnotation: "true", TrustedHopsAnnotation: "none"}, func(c *Config) {
			c.AccessLog = "none"
		}, ""},
		"no format": {map[string]string{AccessLogAnnotation: "xml"}, func(*Config) {}, `metadata.annotations[mirrorgate.dev/proxy-access-log]: Unsupported value: "xml"`},
		"no truth":  {map[string]string{MetricsPerRuleAnnotation: "yes"}, func(*Config) {}, "Unsupported value"},
		"connections": {map[string]string{ProxyProtocolAnnotation: "in-out", CertificatesAnnotation: "8443=b, 443=a.b"}, func(c *Config) {
			c.ProxyProtocol, c.Certificates = "in-out", []Certificate{{443, "a.b"}, {8443, "b"}}
		}, ""},
		"no protocol":    {map[string]string{ProxyProtocolAnnotation: "v2"}, func(*Config) {}, "Unsupported value"},
		"no certificate": {map[string]string{CertificatesAnnotation: "https=a"}, func(*Config) {}, `"https=a": must be PORT=SECRET, like 443=shop-tls`},
		"no Secret":      {map[string]string{CertificatesAnnotation: "443=a/b"}, func(*Config) {}, "must be PORT=SECRET"},
		"two Secrets":    {map[string]string{CertificatesAnnotation: "443=a,443=b"}, func(*Config) {}, "the port has a certificate already"},
		"no hops":        {map[string]string{TrustedHopsAnnotation: "-1"}, func(*Config) {}, "must be a number from 0 to 100"},
		"a cookie":       {map[string]string{AffinityCookieAnnotation: "shop-pod"}, func(c *Config) { c.AffinityCookie = "shop-pod" }, ""},
		"no cookie":      {map[string]string{AffinityCookieAnnotation: "a=b; c"}, func(*Config) {}, "must be the name of a cookie"},
		"no number":      {map[string]string{ReplicasAnnotation: "many"}, func(*Config) {}, `metadata.annotations[mirrorgate.dev/proxy-replicas]: Invalid value: "many": must be a number from 1 to 100`},
		"none":           {map[string]string{ReplicasAnnotation: "0"}, func(*Config) {}, "must be a number from 1 to 100"},
		"too many":       {map[string]string{MaxReplicasAnnotation: "101"}, func(*Config) {}, "must be a number from 0 to 100"},
		"no JSON":        {map[string]string{ResourcesAnnotation: "{"}, func(*Config) {}, "must be JSON of a container's resources"},
		"a misnomer":     {map[string]string{ResourcesAnnotation: `{"limit":{"cpu":1}}`}, func(*Config) {}, `unknown field "limit"`},
		"no quantity":    {map[string]string{ResourcesAnnotation: `{"limits":{"cpu":"much"}}`}, func(*Config) {}, "quantities must match"},
	} {
		t.Run(name, func(t *testing.T) {
			want := base
			c.want(&want)
			got, errs := base.For(c.annotations)
			assert.Equal(t, want, got)
			if c.says == "" {
				assert.Empty(t, errs)
				return
			}
			require.Len(t, errs, 1)
			assert.Contains(t, errs[0].Error(), c.says)
		})
	}
	changed := Config{AffinityCookie: "pod", AccessLog: "common", MetricsPerRule: true, ReasonHeader: new(false), TrustedHops: new(int32(2))}
	p := parent(http)
	assert.NotContains(t, strings.Join(p.Deployment().Spec.Template.Spec.Containers[0].Args, " "), "access-log")
	p.Config = changed
	assert.Subset(t, p.Deployment().Spec.Template.Spec.Containers[0].Args, []string{"--access-log=common", "--metrics-per-rule", "--reason-header=false", "--trusted-hops=2", "--affinity-cookie=pod"})
	back, errs := changed.For(map[string]string{AccessLogAnnotation: "none", MetricsPerRuleAnnotation: "false", ReasonHeaderAnnotation: "true", TrustedHopsAnnotation: "none"})
	assert.Empty(t, errs)
	back.AffinityCookie = ""
	assert.Empty(t, back.args(), "a Service can have the defaults in spite of serve's")
	bad := Config{Replicas: 0, MaxReplicas: -1, AccessLog: "xml", TrustedHops: new(int32(101))}
	assert.Len(t, bad.Validate(field.NewPath("proxy")), 4)
	assert.Empty(t, base.Validate(field.NewPath("proxy")))
}
