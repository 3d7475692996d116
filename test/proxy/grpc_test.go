// gRPC's two implementations, that of Go and the C core of all other languages but Java, as client and as server: while
// servers restart, and over streams that are silent.

package interop_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
)

var silence = flag.Duration("silence", 5*time.Second, "how long a stream is silent")

// restarts is how often servers restart under load.
const restarts = 12

// goServer is a server on gRPC for Go that can restart at its address.
type goServer struct {
	address string
	server  *grpc.Server
	served  chan error
}

func (s *goServer) start(t *testing.T) {
	t.Helper()
	var l net.Listener
	require.Eventually(t, func() bool {
		var err error
		l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.address)
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	s.address = l.Addr().String()
	server, served := grpc.NewServer(), make(chan error, 1)
	s.server, s.served = server, served
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	go func() { served <- server.Serve(l) }()
	_, err := dialed(t, s.address).EmptyCall(t.Context(), &testgrpc.Empty{}, grpc.WaitForReady(true))
	require.NoError(t, err, "it serves, as a pod that is ready does")
}

// stop ends the server as in a rollout: it takes no new calls, and ends when those under way have.
func (s *goServer) stop(t *testing.T) {
	t.Helper()
	s.server.GracefulStop()
	require.NoError(t, <-s.served)
}

// between returns the address of a proxy in front of backends, of which each can answer each call.
func between(t *testing.T, backends ...string) string {
	t.Helper()
	written := table("h2c", "", "")
	written.Listeners[0].Rules[0].Filters = nil
	port := spec.Port{Protocol: "h2c"}
	for _, address := range backends {
		port.Endpoints = append(port.Endpoints, spec.Endpoint{Address: address})
	}
	written.Services = map[string]spec.Service{"primary": {80: port}}
	return start(t, written, nil)
}

func dialed(t *testing.T, addr string) testgrpc.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

// A server that restarts tells with a GOAWAY which calls it has not processed. These reach the other server, so that
// no call fails.
func TestGRPCServersRestartUnderLoad(t *testing.T) {
	servers := [2]goServer{{address: "127.0.0.1:0"}, {address: "127.0.0.1:0"}}
	for i := range servers {
		servers[i].start(t)
	}
	c := dialed(t, between(t, servers[0].address, servers[1].address))
	var over atomic.Bool
	var calls atomic.Int64
	var callers sync.WaitGroup
	defer callers.Wait()
	defer over.Store(true)
	for range 4 {
		callers.Go(func() {
			for !over.Load() {
				_, err := c.EmptyCall(t.Context(), &testgrpc.Empty{})
				assert.NoError(t, err)
				assert.NoError(t, chat(t.Context(), c, 3))
				calls.Add(2)
			}
		})
	}
	for i := range restarts {
		before := calls.Load()
		s := &servers[i%2]
		s.stop(t)
		s.start(t)
		require.Eventually(t, func() bool { return calls.Load() >= before+100 }, time.Minute, time.Millisecond)
	}
	over.Store(true)
	callers.Wait()
	for i := range servers {
		servers[i].stop(t)
	}
}

// chat exchanges messages on a stream.
func chat(ctx context.Context, c testgrpc.TestServiceClient, messages int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range messages {
		if err := ping(stream); err != nil {
			return err
		}
	}
	return stream.CloseSend()
}

func ping(stream testgrpc.TestService_FullDuplexCallClient) error {
	err := stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 10}}})
	if err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err == nil && len(answer.GetPayload().GetBody()) != 10 {
		err = errors.New("another answer")
	}
	return err
}

// Neither the proxy's PINGs nor its timeouts end a stream on which nobody speaks. A server of gRPC ends the connection
// of a client that sends PINGs more often than every five minutes.
func TestGRPCSilentStream(t *testing.T) {
	s := goServer{address: "127.0.0.1:0"}
	s.start(t)
	c := dialed(t, between(t, s.address))
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	require.NoError(t, ping(stream))
	time.Sleep(*silence) //nolint:forbidigo // the event is that none happens
	require.NoError(t, ping(stream))
	cancel()
	s.stop(t)
}

const (
	python     = "/usr/bin/python3"
	corePeer   = "testdata/grpc_core.py"
	pythonGRPC = "/usr/lib/python3/dist-packages/grpc/__init__.py"
)

// core starts a server on the C core, and returns what ends it as in a rollout.
func core(t *testing.T, addr string) (stop func()) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), python, corePeer, "server", port)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
			assert.NoError(t, cmd.Wait(), "%s", &out)
		})
	}
	t.Cleanup(stop)
	listens(t, addr)
	return stop
}

func client(t *testing.T, mode, addr string) *exec.Cmd {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return exec.CommandContext(t.Context(), python, corePeer, mode, port)
}

func TestGRPCCore(t *testing.T) {
	require.NoError(t, debian.Need(t.Context(), pythonGRPC, "python3-grpcio"))
	backend := free(t)
	core(t, backend)
	out, err := client(t, "calls", between(t, backend)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "no such method")
}

// A server of Python's that stops answers a call that it has taken and not yet begun with CANCELLED, also without a
// proxy. No other call fails.
func TestGRPCCoreServersRestartUnderLoad(t *testing.T) {
	require.NoError(t, debian.Need(t.Context(), pythonGRPC, "python3-grpcio"))
	addresses := [2]string{free(t), free(t)}
	stops := [2]func(){core(t, addresses[0]), core(t, addresses[1])}
	load := client(t, "load", between(t, addresses[:]...))
	var out bytes.Buffer
	load.Stdout, load.Stderr = &out, &out
	in, err := load.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, load.Start())
	for i := range restarts / 2 {
		stops[i%2]()
		stops[i%2] = core(t, addresses[i%2])
	}
	require.NoError(t, in.Close())
	require.NoError(t, load.Wait(), "%s", &out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	failures := slices.DeleteFunc(lines[2:], func(line string) bool { return line == "StatusCode.CANCELLED CANCELLED" })
	require.Empty(t, failures)
	require.NotEqual(t, "0", lines[0])
}
