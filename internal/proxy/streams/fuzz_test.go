package streams

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
)

// Whatever bytes a client sends, the server sends nothing but well-formed frames, on streams that the client has opened,
// and ends with the connection.
func FuzzServer(f *testing.F) {
	start := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	get := "\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a"
	f.Add([]byte(start + "\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a"))
	f.Add([]byte(start + "\x00\x00\x06\x01\x04\x00\x00\x00\x01\x83\x86\x84\x41\x01a\x00\x00\x01\x00\x01\x00\x00\x00\x01x"))
	f.Add([]byte(start + "\x00\x00\x06\x01\x04\x00\x00\x00\x01\x83\x86\x84\x41\x01a\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"))
	f.Add([]byte(start + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678" + get))
	f.Add([]byte(start + "\x00\x00\x06\x01\x00\x00\x00\x00\x01\x82\x86\x84\x41\x01a\x00\x00\x00\x09\x04\x00\x00\x00\x01"))
	f.Add([]byte(start + "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00" + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := server(t, &h1.Limits{BodyTimeout: time.Second})
		client, served := net.Pipe()
		_ = client.SetDeadline(time.Now().Add(10 * time.Second))
		s.Serve(served, nil)
		go func() {
			_, _ = client.Write(in)
			_ = client.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		}()
		framer := http2.NewFramer(io.Discard, client)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		framer.SetMaxReadFrameSize(maxFrame)
		for {
			frame, err := framer.ReadFrame()
			if _, network := err.(net.Error); network || err == io.EOF || err == io.ErrClosedPipe { //nolint:errorlint // as they come from a pipe
				break
			}
			if err != nil {
				t.Fatalf("the server sends %v", err)
			}
			if id := frame.Header().StreamID; id%2 == 0 && id != 0 {
				t.Fatalf("the server opens stream %d", id)
			}
		}
		_ = client.Close()
		s.Close()
		s.Wait()
	})
}
