package feed

// The connection that feeds share.

import (
	"context"
	"fmt"
	"net"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
)

// Client talks to an API server.
type Client struct {
	rest.Interface
	// Metadata reads the metadata of objects of any kind.
	Metadata metadata.Interface
	dialer   *connrotation.Dialer
}

// NewClient returns a client that reads the types that the given functions register, as protobuf.
func NewClient(config *rest.Config, types ...func(*runtime.Scheme) error) (*Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range types {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register types: %w", err)
		}
	}
	config = rest.CopyConfig(config)
	// Live reads are on the request path of admission: they must not queue behind each other.
	// The API server has priority and fairness for that.
	config.QPS, config.RateLimiter = -1, nil
	config.Timeout = 0 // it would end watches
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	dialer := connrotation.NewDialer(dial)
	config.Dial = dialer.DialContext
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	client, err := rest.UnversionedRESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	meta, err := metadata.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return &Client{client, meta, dialer}, nil
}

// Close closes the connections.
func (c *Client) Close() { c.dialer.CloseAll() }

// Served is the first of the versions of a resource that the API server serves, "" if it serves none.
func (c *Client) Served(ctx context.Context, group, resource string, versions []string) (string, error) {
	for _, version := range versions {
		var served metav1.APIResourceList
		raw, err := c.Get().AbsPath(GroupPath(group, version)).
			SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
		if apierrors.IsNotFound(err) {
			continue
		}
		if err == nil {
			err = unmarshal(raw, &served)
		}
		if err != nil {
			return "", fmt.Errorf("discover %s/%s: %w", group, version, err)
		}
		for _, r := range served.APIResources {
			if r.Name == resource {
				return version, nil
			}
		}
	}
	return "", nil
}
