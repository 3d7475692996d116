package objects

// How many proxies a Service gets, and their resources: by the flags of serve, or by annotations of the
// Service.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// The annotations of a Service that win over the Config of serve.
const (
	ReplicasAnnotation    = wellknown.Prefix + "proxy-replicas"     // a number
	MaxReplicasAnnotation = wellknown.Prefix + "proxy-max-replicas" // a number
	ResourcesAnnotation   = wellknown.Prefix + "proxy-resources"    // JSON of a container's resources
)

// MaxReplicas bounds the proxies of one Service: the right to write a Service should not allow to fill a
// cluster.
const MaxReplicas = 100

// Config describes the proxies of a Service. The zero value is not valid; see DefaultConfig.
type Config struct {
	// Image is the image that they run.
	Image string `json:"image,omitempty"`
	// PullPolicy is that of the image, the cluster's default when empty.
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
	// Replicas is their number.
	Replicas int32 `json:"replicas,omitempty"`
	// MaxReplicas is their greatest number under load, by a HorizontalPodAutoscaler. Unless it is more than
	// Replicas there is no HorizontalPodAutoscaler.
	MaxReplicas int32 `json:"maxReplicas,omitempty"`
	// Resources are those of each proxy.
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
}

// DefaultConfig returns a Config that is complete but for the image.
func DefaultConfig() Config {
	return Config{
		Replicas: 2,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
	}
}

// Validate returns every fault, with field paths below path.
func (c *Config) Validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Replicas < 1 || c.Replicas > MaxReplicas {
		errs = append(errs, field.Invalid(path.Child("replicas"), c.Replicas, fmt.Sprintf("must be from 1 to %d", MaxReplicas)))
	}
	if c.MaxReplicas < 0 || c.MaxReplicas > MaxReplicas {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), c.MaxReplicas, fmt.Sprintf("must be from 0 to %d", MaxReplicas)))
	}
	return errs
}

// For returns the Config for a Service with these annotations. An annotation with a fault is reported and
// changes nothing.
func (c Config) For(annotations map[string]string) (Config, field.ErrorList) {
	var errs field.ErrorList
	path := field.NewPath("metadata", "annotations")
	number := func(key string, least int, into *int32) {
		text, ok := annotations[key]
		if !ok {
			return
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > MaxReplicas {
			errs = append(errs, field.Invalid(path.Key(key), text, fmt.Sprintf("must be a number from %d to %d", least, MaxReplicas)))
			return
		}
		*into = int32(n) //nolint:gosec // it is in bounds
	}
	number(ReplicasAnnotation, 1, &c.Replicas)
	number(MaxReplicasAnnotation, 0, &c.MaxReplicas)
	if text, ok := annotations[ResourcesAnnotation]; ok {
		var r corev1.ResourceRequirements
		strict := json.NewDecoder(bytes.NewReader([]byte(text)))
		strict.DisallowUnknownFields()
		if err := strict.Decode(&r); err != nil {
			errs = append(errs, field.Invalid(path.Key(ResourcesAnnotation), text, "must be JSON of a container's resources: "+err.Error()))
		} else {
			c.Resources = r
		}
	}
	return c, errs
}
