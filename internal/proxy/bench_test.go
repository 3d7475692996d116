// The cost of a request in time and allocations.

package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// answerer returns the address of a backend that allocates nothing for a request.
func answerer(b *testing.B) string {
	b.Helper()
	answer := []byte(faulty.Fine)
	return serveConns(b, func(_ context.Context, conn net.Conn) {
		for in := bufio.NewReader(conn); ; {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) > len("\r\n") {
				continue
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
}

// benchmark sends one request after the other over one connection. Client and backends allocate nothing, so
// the proxy makes all allocations. TestAllocations bounds them.
func benchmark(b *testing.B, table *spec.Table) {
	table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
	compiled, problems := routing.Compile(table)
	require.Empty(b, problems)
	s := proxy.New(&proxy.Options{})
	require.NoError(b, s.Apply(&proxy.Setup{Table: compiled, Listeners: []proxy.Listener{{Name: "main", Address: "127.0.0.1:0"}}}))
	defer func() { _ = s.Shutdown(context.WithoutCancel(b.Context())) }()
	var d net.Dialer
	conn, err := d.DialContext(b.Context(), "tcp", s.Addr("main").String())
	require.NoError(b, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	request := []byte("GET /a/b?c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n")
	answer := make([]byte, len(faulty.Fine))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(in, answer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlain(b *testing.B) { benchmark(b, one(answerer(b))) }

func BenchmarkMirrored(b *testing.B) { benchmark(b, one(answerer(b), answerer(b))) }

// A request costs no allocation, with or without a copy.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		return // the race detector allocates; `make unit` runs this test a second time without it
	}
	for _, tt := range []struct {
		name  string
		bench func(*testing.B)
		most  int64
	}{{"plain", BenchmarkPlain, 0}, {"mirrored", BenchmarkMirrored, 0}} {
		assert.LessOrEqual(t, testing.Benchmark(tt.bench).AllocsPerOp(), tt.most, tt.name)
	}
}
