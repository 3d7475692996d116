package feed

// The client that feeds share.

import (
	"context"
	"fmt"
	"net"
	"slices"
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
	// Live reads are on the request path of admission, so they must not queue behind each other. The API
	// server limits them by priority and fairness.
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

// Served returns the best version of a kind that the API server serves, "" if it serves none that mirrorgate
// reads.
func (c *Client) Served(ctx context.Context, k *Kind) (string, error) {
	for _, version := range k.Versions {
		if is, err := c.serves(ctx, k, version); err != nil {
			return "", err
		} else if is {
			return version, nil
		}
	}
	return "", nil
}

// ServedVersions returns all versions of a kind that the API server serves.
func (c *Client) ServedVersions(ctx context.Context, k *Kind) (found []string, err error) {
	var group metav1.APIGroup
	if err := c.discover(ctx, "/apis/"+k.Group, &group); err != nil {
		return nil, err
	}
	for _, v := range group.Versions {
		is, err := c.serves(ctx, k, v.Version)
		if err != nil {
			return nil, err
		}
		if is {
			found = append(found, v.Version)
		}
	}
	return found, nil
}

func (c *Client) serves(ctx context.Context, k *Kind, version string) (bool, error) {
	var served metav1.APIResourceList
	err := c.discover(ctx, GroupPath(k.Group, version), &served)
	return slices.ContainsFunc(served.APIResources, func(r metav1.APIResource) bool { return r.Name == k.Resource }), err
}

// discover reads a document of discovery; one that is not found stays empty.
func (c *Client) discover(ctx context.Context, path string, into any) error {
	raw, err := c.Get().AbsPath(path).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("discover %s: %w", path, err)
	}
	return nil
}
