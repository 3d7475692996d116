package objects

// Certificates with which proxies terminate TLS. The kubelet mounts their Secrets, so that no proxy, and nobody who makes
// one, needs a right to read Secrets.

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Certificate is the certificate of a port of a Service.
type Certificate struct {
	// Port is its number.
	Port int
	// Secret is the name of the Secret in the Service's namespace, of type kubernetes.io/tls.
	Secret string
}

// ParseCertificates reads the value of CertificatesAnnotation, sorted by port. After an error there are none.
func ParseCertificates(text string) (found []Certificate, err error) {
	for entry := range strings.SplitSeq(text, ",") {
		number, secret, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if text == "" {
			break
		}
		port, atoi := strconv.Atoi(number)
		if !ok || atoi != nil || port < 1 || port > 65535 || len(validation.IsDNS1123Subdomain(secret)) > 0 {
			return nil, fmt.Errorf("%q: must be PORT=SECRET, like 443=shop-tls", entry)
		}
		if slices.ContainsFunc(found, func(c Certificate) bool { return c.Port == port }) {
			return nil, fmt.Errorf("%q: the port has a certificate already", entry)
		}
		if found = append(found, Certificate{port, secret}); len(found) > maxCertificates {
			return nil, errors.New("has more than " + strconv.Itoa(maxCertificates) + " certificates")
		}
	}
	slices.SortFunc(found, func(a, b Certificate) int { return a.Port - b.Port })
	return found, nil
}

// maxCertificates bounds those of a Service, which has no more than 100 ports in practice.
const maxCertificates = 100

// folder is where a proxy finds the certificate.
func (c *Certificate) folder() string { return "/certificates/" + strconv.Itoa(c.Port) }

// mount adds the certificates to a pod. Of a Secret nothing is mounted but the certificate and its key; without them the
// pod does not start, and the Service goes on bypassing its proxies.
func mount(pod *corev1.PodSpec, certificates []Certificate) {
	for i := range certificates {
		c := &certificates[i]
		name := "certificate-" + strconv.Itoa(c.Port)
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: c.Secret,
			Items: []corev1.KeyToPath{
				{Key: corev1.TLSCertKey, Path: corev1.TLSCertKey}, {Key: corev1.TLSPrivateKeyKey, Path: corev1.TLSPrivateKeyKey},
			},
		}}})
		pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: c.folder(), ReadOnly: true})
	}
}
