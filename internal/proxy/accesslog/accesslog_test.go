package accesslog

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

type header map[string]string

func (h header) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }

func record() *core.Record {
	return &core.Record{
		Start: time.Date(2018, 3, 7, 19, 26, 44, 5e8, time.UTC), Took: 1234567 * time.Nanosecond, Remote: "127.0.0.1:50000",
		Method: "GET", Target: "/headers?a=\"b\"", Host: "httpbin:8000", Major: 1, Minor: 1, Status: 200, Received: 0, Sent: 361,
		Listener: "127.0.0.1:8000", Rule: "127.0.0.1:8000/0", Backend: "httpbin-v1:80", Endpoint: "127.0.0.1:9001", Mirrored: 1,
		Header: header{"user-agent": "curl/7.35.0"},
	}
}

func shadow() *core.Record {
	r := record()
	r.Remote, r.Host, r.Backend, r.Mirror, r.Mirrored = "", "httpbin-shadow:8000", "httpbin-v2:80", "127.0.0.1:8000/0>httpbin-v2:80#0", 0
	return r
}

func TestFormats(t *testing.T) {
	assert.Equal(t, `127.0.0.1 - - [07/Mar/2018:19:26:44 +0000] "GET /headers?a=\x22b\x22 HTTP/1.1" 200 361 "-" "curl/7.35.0" "httpbin:8000" httpbin-v1:80 primary
`, string(appendCommon(nil, record())))
	assert.Equal(t, `- - - [07/Mar/2018:19:26:44 +0000] "GET /headers?a=\x22b\x22 HTTP/1.1" 200 361 "-" "curl/7.35.0" "httpbin-shadow:8000" httpbin-v2:80 shadow
`, string(appendCommon(nil, shadow())))
	assert.Equal(t, `- - - [01/Jan/0001:00:00:00 +0000] "-" 400 0 "-" "-" "-" - primary
`, string(appendCommon(nil, &core.Record{Status: 400})))
	//nolint:testifylint // the exact bytes matter, not only the meaning
	assert.Equal(t, `{"time":"2018-03-07T19:26:44.5Z","kind":"primary","remote":"127.0.0.1:50000","method":"GET","host":"httpbin:8000","target":"/headers?a=\"b\"","protocol":"HTTP/1.1",`+
		`"status":200,"received":0,"sent":361,"mirrored":1,"duration":0.001235,"listener":"127.0.0.1:8000","rule":"127.0.0.1:8000/0","backend":"httpbin-v1:80","endpoint":"127.0.0.1:9001","userAgent":"curl/7.35.0"}
`, string(appendJSON(nil, record())))
	assert.Contains(t, string(appendJSON(nil, shadow())), `"kind":"shadow","method":"GET","host":"httpbin-shadow:8000",`)
	assert.Contains(t, string(appendJSON(nil, shadow())), `"mirror":"127.0.0.1:8000/0>httpbin-v2:80#0"`)
}

func TestByName(t *testing.T) {
	for _, name := range []string{"json", "common"} {
		format, err := ByName(name)
		require.NoError(t, err)
		assert.NotEmpty(t, format(nil, record()))
	}
	_, err := ByName("xml")
	assert.EqualError(t, err, `access log format "xml": must be json or common`)
}

// FuzzFormats requires that every record becomes one line of printable ASCII, or one line of JSON with the
// same values.
func FuzzFormats(f *testing.F) {
	f.Add("GET", "/\n\x00\x7f\"\\", "h\xff", "ü\u2028")
	f.Fuzz(func(t *testing.T, method, target, host, agent string) {
		r := record()
		r.Method, r.Target, r.Host, r.Header = method, target, host, header{"user-agent": agent}
		line := appendCommon(nil, r)
		for i, c := range line {
			require.Equal(t, i == len(line)-1, c == '\n')
			require.True(t, c == '\n' || ' ' <= c && c < 0x7f)
		}
		line = appendJSON(nil, r)
		require.Equal(t, 1, strings.Count(string(line), "\n"))
		var got struct{ Method, Target, Host, UserAgent string }
		require.NoError(t, json.Unmarshal(line, &got))
		for sent, logged := range map[string]string{method: got.Method, target: got.Target, host: got.Host, agent: got.UserAgent} {
			require.Equal(t, strings.ReplaceAll(strings.ToValidUTF8(sent, ""), "\ufffd", ""), strings.ReplaceAll(logged, "\ufffd", ""))
		}
	})
}

func TestFormatsAllocateNothing(t *testing.T) {
	buf, r := make([]byte, 0, 4096), record()
	for _, format := range []Format{appendJSON, appendCommon} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { format(buf, r) }))
	}
}

func BenchmarkFormats(b *testing.B) {
	for name, format := range map[string]Format{"json": appendJSON, "common": appendCommon} {
		b.Run(name, func(b *testing.B) {
			buf, r := make([]byte, 0, 4096), record()
			b.ReportAllocs()
			for b.Loop() {
				format(buf, r)
			}
		})
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := Open(path, appendCommon)
	require.NoError(t, err)
	const each = 200
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range each {
				l.Log(record())
				if i == each/2 {
					assert.NoError(t, l.Reopen())
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, l.Reopen())
	l.Log(record())
	require.NoError(t, l.Close())
	total := 0
	for _, file := range []string{path, path + ".1"} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		for line := range strings.Lines(string(data)) {
			require.Equal(t, string(appendCommon(nil, record())), line)
			total++
		}
	}
	assert.Equal(t, 8*each+1, total)
	assert.Zero(t, l.Dropped()+l.Failed())
}

func TestOpenFails(t *testing.T) {
	_, err := Open(t.TempDir(), appendJSON)
	assert.Error(t, err)
}

// slow is a writer that does not return until it is released.
type slow struct {
	started, release chan struct{}
	mu               sync.Mutex
	lines            int
}

func (s *slow) Write(p []byte) (int, error) {
	select {
	case s.started <- struct{}{}:
	default:
	}
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines += strings.Count(string(p), "\n")
	return len(p), nil
}

// A reader that does not read makes no request wait: memory is bounded, and missing lines are counted.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slow{started: make(chan struct{}, 1), release: make(chan struct{})}
		l := newLog(w, appendJSON)
		l.Log(record())
		<-w.started
		const n = 10000
		for range n {
			l.Log(record())
		}
		l.mu.Lock()
		assert.Less(t, len(l.lines), maxPending+1024)
		l.mu.Unlock()
		assert.Positive(t, l.Dropped())
		close(w.release)
		require.NoError(t, l.Close())
		assert.EqualValues(t, n+1, uint64(w.lines)+l.Dropped())
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestFailedWrites(t *testing.T) {
	l := newLog(broken{}, appendJSON)
	l.Log(record())
	require.NoError(t, l.Close())
	assert.EqualValues(t, 1, l.Failed())
}
