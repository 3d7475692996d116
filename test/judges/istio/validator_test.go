package istio

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/judges/cases"
	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
	"github.com/mirrorgate/mirrorgate/test/judges/crd"
	"github.com/mirrorgate/mirrorgate/test/judges/gate"
	"github.com/mirrorgate/mirrorgate/test/judges/istio/oracle"
)

// What the CRD and Istio's validator accept, they accept after mirrorgate as well. What they refuse is refused: if
// mirrorgate parked it, the fault would show when the variant comes.
func TestValidators(t *testing.T) {
	schema := virtualServices(t)
	accepted, refused := 0, 0
	cases.Question{Random: damaged, Whole: whole, Judge: func(t *testing.T, c clusters.Cluster) []string {
		t.Helper()
		g, err := gate.New(clusters.Text(c.Objects))
		require.NoError(t, err)
		var found []string
		for _, r := range c.Routes {
			ok, difference, err := g.Compare(t.Context(), schema, clusters.JSON(r))
			require.NoError(t, err)
			if difference != "" {
				found = append(found, clusters.Name(r)+": "+difference)
			}
			if ok {
				accepted++
			} else {
				refused++
			}
		}
		return found
	}}.Ask(t)
	t.Logf("%d routes accepted as written, %d refused", accepted, refused)
	if *cases.Count >= 100 && (accepted == 0 || refused == 0) {
		t.Error("the routes are all of one kind")
	}
}

// damaged returns a random cluster whose routes have faults, most of them.
func damaged(seed uint64) clusters.Cluster {
	c := mesh(seed)
	m := clusters.Seeded(seed)
	for _, r := range c.Routes {
		m.Damage(r)
	}
	return c
}

// validators refuse VirtualServices: the CRD, then Istio's own webhook.
type validators struct{ *crd.Schema }

// Check returns the fault for which a VirtualService is refused where mirrorgate is not installed.
func (v validators) Check(ctx context.Context, raw []byte) error {
	if err := v.Schema.Check(ctx, raw); err != nil {
		return fmt.Errorf("CRD: %w", err)
	}
	if err := oracle.Check(raw); err != nil {
		return fmt.Errorf("validator of Istio: %w", err)
	}
	return nil
}

// virtualServices returns the schema of the CRD, of Istio's API in the version that this module builds with.
func virtualServices(t *testing.T) validators {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(source(t, "istio.io/api"), "kubernetes", "customresourcedefinitions.gen.yaml"))
	require.NoError(t, err)
	schema, err := crd.Read(text, "VirtualService", "v1")
	require.NoError(t, err)
	return validators{schema}
}
