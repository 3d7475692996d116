package gate

import (
	"fmt"
	"slices"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
)

// Answers hold, by route and field path, whether a copy of each mirror would reach a ready endpoint for at least
// one client. A mirror that no client's traffic meets has no answer.
type Answers map[string]bool

// Case is a cluster with the answers of the mesh.
type Case struct {
	Cluster clusters.Cluster `json:"cluster"`
	Answers Answers          `json:"answers"`
}

// Key is the key of a mirror in Answers.
func Key(route clusters.Object, path string) string { return clusters.Name(route) + " " + path }

// leftAlone are the reasons for which a mirror is active without a claim that its variant is Ready.
var leftAlone = []string{"ExternalTarget", "UnsupportedTarget"}

// Disagreements returns the mirrors about which mirrorgate and the mesh say different things.
func Disagreements(c Case) ([]string, error) {
	g, err := New(clusters.Text(c.Cluster.Objects, c.Cluster.Routes))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, r := range c.Cluster.Routes {
		mirrors, err := g.Mirrors(clusters.JSON(r))
		if err != nil {
			return nil, err
		}
		for _, m := range mirrors {
			ready, judged := c.Answers[Key(r, m.Path)]
			switch {
			case !judged, ready != m.Parked, !ready && slices.Contains(leftAlone, m.Reason):
			case ready:
				found = append(found, fmt.Sprintf("%s is parked (%s: %s), and a client's copies would arrive", Key(r, m.Path), m.Reason, m.Detail))
			default:
				found = append(found, fmt.Sprintf("%s is active (%s), and no client's copies would arrive", Key(r, m.Path), m.Reason))
			}
		}
	}
	return found, nil
}
