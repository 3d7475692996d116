// A client of the API server that covers just the requests of the cluster itself. The standard library is
// enough for it; client-go would bring its dependencies into every test module.

package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// client talks to one API server as its administrator.
type client struct {
	url, token string
	http       *http.Client
}

func newClient(url, token string, caPEM []byte) *client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caPEM)
	return &client{url: url, token: token, http: &http.Client{
		Timeout: 30 * time.Second, // a paused etcd must not hang a caller
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots},
			// One connection per request: a kept connection would not survive a restart of the API server.
			DisableKeepAlives: true,
		},
	}}
}

// get decodes the JSON response for path into out; out may be nil.
func (c *client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, out)
}

// do sends one request, with body as contentType unless body is nil, and decodes the response into out unless
// out is nil. A status of 300 or more is an error with the API server's message.
func (c *client) do(ctx context.Context, method, path, contentType string, body, out any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, sent)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	// The first type is discovery in one document (see discovery); every other path returns plain JSON.
	req.Header.Set("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return &apiError{method + " " + path, resp.StatusCode, string(answer)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// apiError is a response of the API server with an error status.
type apiError struct {
	request string
	status  int
	body    string
}

func (e *apiError) Error() string {
	message := struct{ Message string }{}
	if json.Unmarshal([]byte(e.body), &message) != nil || message.Message == "" {
		message.Message = e.body
	}
	return fmt.Sprintf("%s: %d: %s", e.request, e.status, lastBytes(message.Message, 2<<10))
}
