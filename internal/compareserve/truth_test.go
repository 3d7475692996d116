package compareserve

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/compare/comparetest"
)

// Pairs of the catalogue, as real servers behind the real proxy. The simulation of internal/compare has all of them.
func TestTruthThroughTheProxy(t *testing.T) {
	chosen := map[string]bool{
		"random ids": true, "map order": true, "echoed Host": true, "missing": true, "reordered": true, "404 on one route": true,
		"gzip on one side": true, "one of three replicas": true,
	}
	ran := 0
	for _, p := range comparetest.Catalogue() {
		if !chosen[p.Name] {
			continue
		}
		ran++
		t.Run(p.Name, func(t *testing.T) {
			world := comparetest.NewWorld(1, time.Now)
			servers := p.Serve(world)
			path := func(n int) string {
				if p.Path != nil {
					return p.Path(world, n)
				}
				return fmt.Sprint("/cart/", n)
			}
			report, stdout, _ := compareWith(t, func(o *Options) {
				for _, primary := range servers.Primaries {
					o.Primary = append(o.Primary, server(t, primary.ServeHTTP))
				}
				o.Variant, o.Control, o.ShadowHost = []string{server(t, servers.Variant.ServeHTTP)}, []string{OtherPrimary}, true
				if p.Verdict == compare.Undecided {
					o.Until = "decided,4s"
				}
			}, plain(func(n int) *http.Request { return httptest.NewRequest(http.MethodGet, path(n), nil) }))
			assert.Equal(t, p.Verdict, report.Verdict, stdout)
			assert.Contains(t, report.Summary, p.Field, stdout)
			assert.Contains(t, stdout, p.Says)
		})
	}
	assert.Len(t, chosen, ran)
}
