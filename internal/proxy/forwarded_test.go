package proxy_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// With forwarded, the primary and the variant learn who the client is, over either version of HTTP; without it fields
// pass as they came.
func TestForwardedFields(t *testing.T) {
	seen := make(chan string, 10)
	backend := func(name string) string {
		return serve(t, func(_ http.ResponseWriter, r *http.Request) {
			seen <- fmt.Sprintf("%s %v%v%v", name, r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"], r.Header["X-Forwarded-Host"])
		})
	}
	for _, protocol := range []string{"http", "h2c"} {
		for _, test := range []struct {
			forwarded *spec.Forwarded
			want      string
		}{
			{nil, "[6.6.6.6, 1.1.1.1][https][www]"},
			{&spec.Forwarded{}, "[127.0.0.1][http][%s]"},
			{&spec.Forwarded{TrustedHops: 1}, "[1.1.1.1, 127.0.0.1][https][www]"},
		} {
			table := one(backend("primary"), backend("variant"))
			for _, name := range []string{"primary", "variant0"} {
				port := table.Services[name][80]
				port.Protocol = protocol
				table.Services[name][80] = port
			}
			table.Listeners[0].Forwarded = test.forwarded
			s := start(t, table, &proxy.Options{})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr, http.NoBody)
			require.NoError(t, err)
			req.Header = http.Header{"X-Forwarded-For": {"6.6.6.6, 1.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"www"}}
			resp, err := client(t).Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			want := test.want
			if test.forwarded != nil && test.forwarded.TrustedHops == 0 {
				want = fmt.Sprintf(want, s.addr)
			}
			assert.ElementsMatch(t, []string{"primary " + want, "variant " + want}, []string{<-seen, <-seen}, protocol)
		}
	}
}
