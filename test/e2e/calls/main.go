// Program calls is a server of gRPC and of HTTPS, and a client that calls both without a pause: what stands beside HTTP
// among the ports of a Service.
//
//	calls serve          gRPC without TLS at :9090, HTTPS at :8443; prints the authority of each call
//	calls load HOST      calls HOST:9090 and HOST:8443, and prints lines as load.py does
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

const (
	grpcPort  = "9090"
	httpsPort = "8443"
	// timeout is that of each call: a frozen server must not stop the client.
	timeout = 3 * time.Second
	// lag is how long the server serves on after SIGTERM, as any server in Kubernetes should: a connection of TLS that is
	// refused once it began cannot be tried elsewhere.
	lag = 5 * time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		return serve(ctx)
	case len(os.Args) == 3 && os.Args[1] == "load":
		return load(ctx, os.Args[2])
	}
	return errors.New("usage: calls serve | calls load HOST")
}

// serve serves until ctx ends, and then ends what is under way.
func serve(ctx context.Context) error {
	var config net.ListenConfig
	plain, err := config.Listen(ctx, "tcp", ":"+grpcPort)
	if err != nil {
		return err
	}
	calls := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			note(ctx)
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			note(stream.Context())
			return next(srv, stream)
		}))
	testgrpc.RegisterTestServiceServer(calls, interop.NewTestServer())
	secret, err := config.Listen(ctx, "tcp", ":"+httpsPort)
	if err != nil {
		return err
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(halves))
	_ = web.Listener.Close()
	web.Listener = secret
	web.StartTLS()
	served := make(chan error, 1)
	go func() { served <- calls.Serve(plain) }()
	<-ctx.Done()
	time.Sleep(lag)
	var ends sync.WaitGroup
	ends.Go(calls.GracefulStop)
	ends.Go(func() { _ = web.Config.Shutdown(context.WithoutCancel(ctx)) }) // Close would break off handshakes
	ends.Wait()
	return <-served
}

// note prints the authority that a call is for.
func note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	fmt.Println("call", strings.Join(md.Get(":authority"), " "))
}

// halves answers in two halves with a pause between, so that a connection that breaks off breaks off an answer.
func halves(w http.ResponseWriter, r *http.Request) {
	fmt.Println("https", r.Host)
	w.Header().Set("Content-Length", "8")
	_, _ = io.WriteString(w, "half")
	_ = http.NewResponseController(w).Flush()
	time.Sleep(30 * time.Millisecond)
	_, _ = io.WriteString(w, "half")
}

// kinds are the calls of the client: a name and how often a second. The names end in new or kept, as those of load.py
// are new and kept.
var kinds = map[string]int{"grpc new": 5, "grpc kept": 20, "grpc stream kept": 5, "https new": 10, "https kept": 10}

// line is one line of the client's output.
type line struct {
	At         float64 `json:"at,omitempty"`
	New        int     `json:"new"`
	Kept       int     `json:"kept"`
	FailedNew  int     `json:"failed_new"`
	FailedKept int     `json:"failed_kept"`
	Failed     string  `json:"failed,omitempty"`
	Error      string  `json:"error,omitempty"`
	Began      float64 `json:"began,omitempty"`
	Took       float64 `json:"took,omitempty"`
}

// client counts and prints.
type client struct {
	address string // of the Service; DNS is not under test
	host    string
	secure  *http.Transport

	mu  sync.Mutex
	sum line
}

func load(ctx context.Context, host string) error {
	own := httptest.NewTLSServer(nil) // has the certificate that the server has
	defer own.Close()
	c := &client{host: host, secure: own.Client().Transport.(*http.Transport)}
	for c.address == "" {
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		switch {
		case err == nil:
			c.address = found[0]
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			time.Sleep(time.Second / 2)
		}
	}
	var callers sync.WaitGroup
	for kind, rate := range kinds {
		callers.Go(func() { c.repeat(ctx, kind, rate) })
	}
	every := time.NewTicker(time.Second)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-every.C:
			c.mu.Lock()
			c.sum.At = seconds(now)
			c.print(&c.sum)
			c.mu.Unlock()
		}
	}
	callers.Wait()
	return nil
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// print needs the lock.
func (c *client) print(l *line) {
	text, _ := json.Marshal(l)
	fmt.Println(string(text))
}

// repeat makes calls of a kind at a rate until ctx ends.
func (c *client) repeat(ctx context.Context, kind string, rate int) {
	kept := strings.HasSuffix(kind, "kept")
	call := c.caller(kind, kept)
	pace := time.NewTicker(time.Second / time.Duration(rate))
	for ctx.Err() == nil {
		<-pace.C
		began := time.Now()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		err := call(bound)
		cancel()
		c.count(kind, kept, began, err)
	}
}

func (c *client) count(kind string, kept bool, began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok, failed := &c.sum.New, &c.sum.FailedNew
	if kept {
		ok, failed = &c.sum.Kept, &c.sum.FailedKept
	}
	if err == nil {
		*ok++
		return
	}
	*failed++ // any error counts: a client would see it
	c.print(&line{Failed: kind, Error: err.Error(), Began: seconds(began), Took: time.Since(began).Seconds()})
}

// caller returns what makes a call of a kind.
func (c *client) caller(kind string, kept bool) func(context.Context) error {
	if strings.HasPrefix(kind, "https") {
		return c.get(kept)
	}
	call := unary
	if strings.Contains(kind, "stream") {
		call = chat
	}
	if !kept {
		return func(ctx context.Context) error {
			conn, err := c.dial()
			if err != nil {
				return err
			}
			defer conn.Close()
			return call(ctx, testgrpc.NewTestServiceClient(conn))
		}
	}
	conn, err := c.dial()
	return func(ctx context.Context) error {
		if err != nil {
			return err
		}
		return call(ctx, testgrpc.NewTestServiceClient(conn))
	}
}

func (c *client) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+net.JoinHostPort(c.address, grpcPort), grpc.WithAuthority(c.host+":"+grpcPort),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func unary(ctx context.Context, service testgrpc.TestServiceClient) error {
	_, err := service.EmptyCall(ctx, &testgrpc.Empty{})
	return err
}

// chat exchanges three messages on a stream.
func chat(ctx context.Context, service testgrpc.TestServiceClient) error {
	stream, err := service.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range 3 {
		err := stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 10}}})
		if err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream goes on: %w", err)
	}
	return nil
}

// get makes requests over TLS, on a connection of its own each or on a kept one.
func (c *client) get(kept bool) func(context.Context) error {
	transport := c.secure.Clone()
	transport.DisableKeepAlives = !kept
	transport.ForceAttemptHTTP2 = false
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport.TLSClientConfig.ServerName, transport.TLSClientConfig.NextProtos = "example.com", nil
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(c.address, httpsPort)+"/", http.NoBody)
		if err != nil {
			return err
		}
		request.Host = c.host + ":" + httpsPort
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err == nil && string(body) != "halfhalf" {
			err = fmt.Errorf("status %d: %q", answer.StatusCode, body)
		}
		return err
	}
}
