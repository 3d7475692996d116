package streams

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server returns a server whose core has no table: it answers every request with 503.
func server(tb testing.TB, limits *h1.Limits) *Server {
	tb.Helper()
	s := NewServer(core.New(&core.Options{Metrics: core.NewMetrics(prometheus.NewRegistry(), false)}), "main", limits)
	tb.Cleanup(func() {
		s.Close()
		s.Wait()
	})
	return s
}

// peer is a client that speaks frame by frame.
type peer struct {
	*http2.Framer
	t       *testing.T
	conn    net.Conn
	head    bytes.Buffer
	encoder *hpack.Encoder
}

// connect returns a client of a new server.
func connect(t *testing.T, limits *h1.Limits) *peer {
	t.Helper()
	p := dial(t, server(t, limits))
	_, err := io.WriteString(p.conn, http2.ClientPreface)
	require.NoError(t, err)
	require.NoError(t, p.WriteSettings())
	return p
}

// dial connects to a server over TCP.
func dial(t *testing.T, s *Server) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	accepted, err := l.Accept()
	require.NoError(t, err)
	s.Serve(accepted, nil)
	p := &peer{Framer: http2.NewFramer(conn, conn), t: t, conn: conn}
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.head)
	return p
}

var get = []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}

// block encodes fields, given as name, value.
func (p *peer) block(fields ...string) []byte {
	p.head.Reset()
	for i := 0; i < len(fields); i += 2 {
		require.NoError(p.t, p.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(p.head.Bytes())
}

// request sends a head.
func (p *peer) request(id uint32, ends bool, fields ...string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: ends})
}

// ended reads until a stream or the connection ends, and returns how: a status, RST_STREAM or GOAWAY with its code.
func (p *peer) ended(id uint32) string {
	status := ""
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	})
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return fmt.Sprint(status, " ", err)
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			_, err := decoder.Write(f.HeaderBlockFragment())
			require.NoError(p.t, err)
			if f.StreamEnded() && f.StreamID == id {
				return status
			}
		case *http2.DataFrame:
			if f.StreamEnded() && f.StreamID == id {
				return status
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return "RST_STREAM " + f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String()
		}
	}
}

func TestFieldsAreDecodedAsTheyWere(t *testing.T) {
	var fields []hpack.HeaderField
	var block []byte
	for name := range staticNames {
		fields = append(fields, hpack.HeaderField{Name: name, Value: "v"})
		block = appendField(block, strings.ToUpper(name), "v")
	}
	for _, n := range []int{0, 1, 31, 32, 33, 126, 127, 128, 254, 255, 20_000} {
		name, value := "x"+strings.Repeat("n", n), strings.Repeat("v", n)
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
		block = appendField(block, "X"+name[1:], value)
	}
	got, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
	require.NoError(t, err)
	assert.Equal(t, fields, got)
	for status := 100; status < 1000; status++ {
		got, err := hpack.NewDecoder(4096, nil).DecodeFull(appendStatus(nil, status))
		require.NoError(t, err)
		assert.Equal(t, []hpack.HeaderField{{Name: ":status", Value: fmt.Sprint(status)}}, got)
	}
	got, err = hpack.NewDecoder(4096, nil).DecodeFull(appendReply(nil, &message.Reply{Response: &message.Response{
		Status: 200, Length: message.Unknown, Fields: []message.Field{{Name: "Content-Length", Value: "1"}, {Name: "A", Value: "b"}},
	}}))
	require.NoError(t, err)
	assert.Equal(t, []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "a", Value: "b"}}, got)
}

func TestLongBlocksAreContinued(t *testing.T) {
	for _, n := range []int{0, 1, maxFrame, maxFrame + 1, 3 * maxFrame} {
		f, err := http2.NewFramer(nil, bytes.NewReader(appendBlock(nil, 1, 0, make([]byte, n)))).ReadFrame()
		require.NoError(t, err)
		assert.Equal(t, n <= maxFrame, f.(*http2.HeadersFrame).HeadersEnded())
	}
}

// with returns the fields of a GET with others in their place, or after them.
func with(more ...string) []string { return append(append([]string{}, get...), more...) }

// A head is refused by resetting its stream if it is no request at all, else with a status.
func TestHeads(t *testing.T) {
	many := append([]string{}, get...)
	for i := range 200 {
		many = append(many, fmt.Sprint("x-", i), "v")
	}
	for name, tt := range map[string]struct {
		fields []string
		want   string
	}{
		"fine":                       {get, "503"},
		"with TE":                    {with("te", "trailers"), "503"},
		"Host like the authority":    {with("host", "A"), "503"},
		"Host without an authority":  {[]string{":method", "GET", ":scheme", "http", ":path", "/", "host", "a"}, "503"},
		"OPTIONS of the server":      {[]string{":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*"}, "503"},
		"no method":                  {[]string{":scheme", "http", ":authority", "a", ":path", "/"}, "RST_STREAM PROTOCOL_ERROR"},
		"no scheme":                  {[]string{":method", "GET", ":authority", "a", ":path", "/"}, "RST_STREAM PROTOCOL_ERROR"},
		"no path":                    {[]string{":method", "GET", ":scheme", "http", ":authority", "a"}, "RST_STREAM PROTOCOL_ERROR"},
		"an empty path":              {[]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", ""}, "RST_STREAM PROTOCOL_ERROR"},
		"two paths":                  {with(":path", "/"), "RST_STREAM PROTOCOL_ERROR"},
		"a late pseudo-header":       {[]string{":method", "GET", "a", "b", ":scheme", "http", ":authority", "a", ":path", "/"}, "RST_STREAM PROTOCOL_ERROR"},
		"an unknown pseudo-header":   {append([]string{":protocol", "websocket"}, get...), "RST_STREAM PROTOCOL_ERROR"},
		"a pseudo-header of answers": {append([]string{":status", "200"}, get...), "RST_STREAM PROTOCOL_ERROR"},
		"capitals":                   {with("X-Foo", "bar"), "RST_STREAM PROTOCOL_ERROR"},
		"a space in a name":          {with("x foo", "bar"), "RST_STREAM PROTOCOL_ERROR"},
		"an empty name":              {with("", "bar"), "RST_STREAM PROTOCOL_ERROR"},
		"Connection":                 {with("connection", "close"), "RST_STREAM PROTOCOL_ERROR"},
		"Transfer-Encoding":          {with("transfer-encoding", "chunked"), "RST_STREAM PROTOCOL_ERROR"},
		"Upgrade":                    {with("upgrade", "websocket"), "RST_STREAM PROTOCOL_ERROR"},
		"TE of another coding":       {with("te", "gzip"), "RST_STREAM PROTOCOL_ERROR"},
		"two lengths":                {with("content-length", "0", "content-length", "0"), "RST_STREAM PROTOCOL_ERROR"},
		"a length with a sign":       {with("content-length", "+0"), "RST_STREAM PROTOCOL_ERROR"},
		"a length without a body":    {with("content-length", "5"), "RST_STREAM PROTOCOL_ERROR"},
		"a line feed in a value":     {with("x", "a\nb"), "400"},
		"a line feed in the method":  {[]string{":method", "GET / HTTP/1.1\r\nA: b", ":scheme", "http", ":authority", "a", ":path", "/"}, "400"},
		"a space in the path":        {[]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/ HTTP/1.1"}, "400"},
		"a path that is a URL":       {[]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "http://b/"}, "400"},
		"no authority":               {[]string{":method", "GET", ":scheme", "http", ":path", "/"}, "400"},
		"a slash in the authority":   {[]string{":method", "GET", ":scheme", "http", ":authority", "a/b", ":path", "/"}, "400"},
		"another Host":               {with("host", "b"), "400"},
		"two Hosts":                  {with("host", "a", "host", "a"), "400"},
		"CONNECT":                    {[]string{":method", "CONNECT", ":authority", "a:1"}, "501"},
		"CONNECT with a path":        {[]string{":method", "CONNECT", ":authority", "a:1", ":path", "/", ":scheme", "http"}, "RST_STREAM PROTOCOL_ERROR"},
		"many fields":                {many, "431"},
		"long fields":                {with("x", strings.Repeat("v", 40_000), "y", strings.Repeat("w", 40_000)), "431"},
		"a long path":                {[]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/" + strings.Repeat("x", 20_000)}, "414"},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, &h1.Limits{})
			block := p.block(tt.fields...)
			first := min(len(block), maxFrame)
			require.NoError(t, p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:first], EndStream: true, EndHeaders: first == len(block)}))
			for block = block[first:]; len(block) > 0; {
				n := min(len(block), maxFrame)
				require.NoError(t, p.WriteContinuation(1, n == len(block), block[:n]))
				block = block[n:]
			}
			assert.Equal(t, tt.want, p.ended(1))
			p.request(3, true, get...)
			assert.Equal(t, "503", p.ended(3), "the connection goes on")
		})
	}
}

// Frames that break the protocol end the stream or the connection, with the code of RFC 9113.
func TestFrames(t *testing.T) {
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload string) func(*peer) {
		return func(p *peer) { _ = p.WriteRawFrame(kind, flags, id, []byte(payload)) }
	}
	for name, tt := range map[string]struct {
		send func(p *peer)
		want string
	}{
		"DATA on an idle stream":            {raw(http2.FrameData, 0, 1, "x"), "GOAWAY PROTOCOL_ERROR"},
		"DATA without a stream":             {raw(http2.FrameData, 0, 0, "x"), "GOAWAY PROTOCOL_ERROR"},
		"RST_STREAM on an idle stream":      {raw(http2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08"), "GOAWAY PROTOCOL_ERROR"},
		"RST_STREAM that is short":          {raw(http2.FrameRSTStream, 0, 1, "\x00"), "GOAWAY FRAME_SIZE_ERROR"},
		"WINDOW_UPDATE on an idle stream":   {raw(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x08"), "GOAWAY PROTOCOL_ERROR"},
		"WINDOW_UPDATE of 0":                {raw(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00"), "GOAWAY PROTOCOL_ERROR"},
		"WINDOW_UPDATE past the largest":    {raw(http2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff"), "GOAWAY FLOW_CONTROL_ERROR"},
		"WINDOW_UPDATE that is short":       {raw(http2.FrameWindowUpdate, 0, 0, "\x00"), "GOAWAY FRAME_SIZE_ERROR"},
		"SETTINGS on a stream":              {raw(http2.FrameSettings, 0, 1, ""), "GOAWAY PROTOCOL_ERROR"},
		"SETTINGS of a wrong length":        {raw(http2.FrameSettings, 0, 0, "12345"), "GOAWAY FRAME_SIZE_ERROR"},
		"SETTINGS that acknowledge and set": {raw(http2.FrameSettings, 1, 0, "123456"), "GOAWAY FRAME_SIZE_ERROR"},
		"a window that is too large":        {raw(http2.FrameSettings, 0, 0, "\x00\x04\xff\xff\xff\xff"), "GOAWAY FLOW_CONTROL_ERROR"},
		"a frame size that is too small":    {raw(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x00\x01"), "GOAWAY PROTOCOL_ERROR"},
		"pushes of 2":                       {raw(http2.FrameSettings, 0, 0, "\x00\x02\x00\x00\x00\x02"), "GOAWAY PROTOCOL_ERROR"},
		"PING on a stream":                  {raw(http2.FramePing, 0, 1, "12345678"), "GOAWAY PROTOCOL_ERROR"},
		"PING of a wrong length":            {raw(http2.FramePing, 0, 0, "1234567"), "GOAWAY FRAME_SIZE_ERROR"},
		"GOAWAY on a stream":                {raw(http2.FrameGoAway, 0, 1, "12345678"), "GOAWAY PROTOCOL_ERROR"},
		"PRIORITY of a wrong length":        {raw(http2.FramePriority, 0, 1, "1234"), "GOAWAY FRAME_SIZE_ERROR"},
		"PRIORITY on itself":                {raw(http2.FramePriority, 0, 3, "\x00\x00\x00\x03\x01"), "GOAWAY PROTOCOL_ERROR"},
		"PUSH_PROMISE":                      {raw(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02"), "GOAWAY PROTOCOL_ERROR"},
		"CONTINUATION without HEADERS":      {raw(http2.FrameContinuation, 4, 1, ""), "GOAWAY PROTOCOL_ERROR"},
		"padding longer than its frame":     {raw(http2.FrameHeaders, 0x8|0x4, 1, "\x05ab"), "GOAWAY PROTOCOL_ERROR"},
		"a frame that is too large":         {raw(http2.FrameData, 0, 1, strings.Repeat("x", maxFrame+1)), "GOAWAY FRAME_SIZE_ERROR"},
		"a block that is no HPACK":          {raw(http2.FrameHeaders, 4, 1, "\xff\xff\xff\xff\xff"), "GOAWAY COMPRESSION_ERROR"},
		"an even stream":                    {func(p *peer) { p.request(2, true, get...) }, "GOAWAY PROTOCOL_ERROR"},
		"a frame inside a header block": {func(p *peer) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
			_ = p.WritePing(false, [8]byte{})
		}, "GOAWAY PROTOCOL_ERROR"},
		"a stream that goes back": {func(p *peer) {
			p.request(5, true, get...)
			assert.Equal(p.t, "503", p.ended(5))
			p.request(3, true, get...)
		}, "GOAWAY STREAM_CLOSED"},
		"DATA that is longer than Content-Length": {func(p *peer) {
			p.request(1, false, with("content-length", "1")...)
			_ = p.WriteData(1, true, []byte("xx"))
		}, "RST_STREAM PROTOCOL_ERROR"},
		"DATA that is shorter than Content-Length": {func(p *peer) {
			p.request(1, false, with("content-length", "3")...)
			_ = p.WriteData(1, true, []byte("xx"))
		}, "RST_STREAM PROTOCOL_ERROR"},
		"trailers that do not end the stream": {func(p *peer) {
			p.request(1, false, get...)
			p.request(1, false, "x", "y")
		}, "RST_STREAM PROTOCOL_ERROR"},
		"trailers with a pseudo-header": {func(p *peer) {
			p.request(1, false, get...)
			p.request(1, true, ":path", "/")
		}, "RST_STREAM PROTOCOL_ERROR"},
		"a stream's window past the largest": {func(p *peer) {
			p.request(1, false, get...)
			_ = p.WriteWindowUpdate(1, 1<<31-1)
		}, "RST_STREAM FLOW_CONTROL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, &h1.Limits{})
			// All of it arrives at once, so that the exchange of a request begins only after it.
			var sent bytes.Buffer
			p.Framer = http2.NewFramer(&sent, p.conn)
			p.AllowIllegalWrites = true
			if name == "a stream that goes back" {
				p.Framer = http2.NewFramer(p.conn, p.conn)
			}
			tt.send(p)
			_, err := p.conn.Write(sent.Bytes())
			require.NoError(t, err)
			assert.Equal(t, tt.want, p.ended(1))
		})
	}
}

// Frames that cost work and carry none end the connection once there are too many, and memory stays bounded.
func TestFloods(t *testing.T) {
	for name, flood := range map[string]func(p *peer, i int) error{
		"PING":          func(p *peer, _ int) error { return p.WritePing(false, [8]byte{}) },
		"PING's answer": func(p *peer, _ int) error { return p.WritePing(true, [8]byte{}) },
		"SETTINGS":      func(p *peer, _ int) error { return p.WriteSettings() },
		"windows by SETTINGS": func(p *peer, i int) error {
			return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 100)})
		},
		"PRIORITY": func(p *peer, i int) error {
			return p.WritePriority(1, http2.PriorityParam{StreamDep: uint32(3 + 2*i), Weight: 1})
		},
		"WINDOW_UPDATE":  func(p *peer, _ int) error { return p.WriteWindowUpdate(0, 1) },
		"unknown frames": func(p *peer, _ int) error { return p.WriteRawFrame(0x42, 0, 0, nil) },
		"GOAWAY":         func(p *peer, _ int) error { return p.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"empty DATA": func(p *peer, i int) error {
			if i == 0 {
				p.request(1, false, with("content-length", "1")...)
			}
			return p.WriteData(1, false, nil)
		},
		"malformed heads": func(p *peer, i int) error {
			p.request(uint32(1+2*i), true, ":method", "GET")
			return nil
		},
		"empty CONTINUATION": func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
			}
			return p.WriteContinuation(1, false, nil)
		},
		"long CONTINUATION": func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
			}
			return p.WriteContinuation(1, false, make([]byte, maxFrame))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, &h1.Limits{})
			how := make(chan string, 1)
			go func() { how <- p.ended(1 << 30) }()
			for i := range 4 * creditBurst {
				if flood(p, i) != nil {
					break
				}
			}
			assert.Equal(t, "GOAWAY ENHANCE_YOUR_CALM", <-how)
		})
	}
}

// A client that causes frames and reads none does not make the server keep them.
func TestFloodWithoutReading(t *testing.T) {
	p := connect(t, &h1.Limits{})
	require.NoError(t, p.conn.(*net.TCPConn).SetReadBuffer(4096))
	ping := bytes.Repeat([]byte("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"), 1000)
	var err error
	for err == nil {
		_, err = p.conn.Write(ping)
	}
	assert.NotErrorIs(t, err, io.EOF)
}

// A request of many references to one long field of the dynamic table costs no more than its bound.
func TestBombOfHPACK(t *testing.T) {
	p := connect(t, &h1.Limits{})
	block := p.block(with("x", strings.Repeat("v", 3000))...)
	block = append(block, bytes.Repeat([]byte{0x80 | 62}, 16_000-len(block))...) // 48 MB of fields
	require.NoError(t, p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
	assert.Equal(t, "431", p.ended(1))
}

// A client that does not finish its preface, its head or its silence is not waited for.
func TestSilentClients(t *testing.T) {
	limits := &h1.Limits{HeadTimeout: 200 * time.Millisecond, IdleTimeout: 200 * time.Millisecond}
	for name, say := range map[string]func(p *peer){
		"nothing":      func(*peer) {},
		"half a frame": func(p *peer) { _, _ = io.WriteString(p.conn, http2.ClientPreface+"\x00\x00\x05\x04") },
		"only the preface": func(p *peer) {
			_, _ = io.WriteString(p.conn, http2.ClientPreface)
			_ = p.WriteSettings()
		},
		"half a head": func(p *peer) {
			_, _ = io.WriteString(p.conn, http2.ClientPreface)
			_ = p.WriteSettings()
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
		},
		"a head that drips": func(p *peer) {
			_, _ = io.WriteString(p.conn, http2.ClientPreface)
			_ = p.WriteSettings()
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(get...)})
			go func() {
				for p.WriteContinuation(1, false, p.block("a", "b")) == nil {
					<-time.After(50 * time.Millisecond)
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, server(t, limits))
			say(p)
			assert.Equal(t, "GOAWAY NO_ERROR", p.ended(1))
		})
	}
}

// The end of a server is orderly: it says which streams it has taken, and answers those.
func TestCloseIdle(t *testing.T) {
	s := server(t, &h1.Limits{})
	p := dial(t, s)
	_, err := io.WriteString(p.conn, http2.ClientPreface)
	require.NoError(t, err)
	require.NoError(t, p.WriteSettings())
	p.request(1, true, get...)
	require.Equal(t, "503", p.ended(1))
	s.CloseIdle()
	f, err := p.ReadFrame()
	for ; err == nil; f, err = p.ReadFrame() {
		if away, ok := f.(*http2.GoAwayFrame); ok {
			assert.EqualValues(t, 1, away.LastStreamID)
			p.request(3, true, get...) // is not answered
		}
		_, headers := f.(*http2.HeadersFrame)
		assert.False(t, headers)
	}
	require.ErrorIs(t, err, io.EOF)
	s.Wait()
}
