package gate

import (
	"fmt"
	"slices"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
)

// Answer says how far the copies of a mirror get.
type Answer int

// The answers of the mesh: no client has a cluster for the mirror, one has and nothing in it is ready, or copies
// arrive.
const (
	NoCluster Answer = iota
	NotReady
	Ready
)

var answerNames = []string{"no cluster", "not ready", "ready"}

func (a Answer) String() string { return answerNames[a] }

// ParseAnswer returns the answer of that name, false for none.
func ParseAnswer(name string) (Answer, bool) {
	at := slices.Index(answerNames, name)
	return Answer(at), at >= 0
}

// Answers hold, by route and field path, the best answer of each mirror for any client. A mirror that no client's
// traffic meets has no answer.
type Answers map[string]Answer

// Case is a cluster with the answers of the mesh.
type Case struct {
	Cluster clusters.Cluster `json:"cluster"`
	Answers Answers          `json:"answers"`
}

// Key is the key of a mirror in Answers.
func Key(route clusters.Object, path string) string { return clusters.Name(route) + " " + path }

// leftAlone reports whether a mirror is active without a claim that its variant is Ready. A target outside of the
// cluster must be known to the mesh, unless mirrorgate tells the author that it leaves the mirror alone.
func leftAlone(m Mirror, answer Answer) bool {
	return m.Reason == "UnsupportedTarget" || (m.Reason == "ExternalTarget" && (answer != NoCluster || m.Detail != ""))
}

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
			answer, judged := c.Answers[Key(r, m.Path)]
			switch {
			case !judged, (answer == Ready) != m.Parked, !m.Parked && leftAlone(m, answer):
			case m.Parked:
				found = append(found, fmt.Sprintf("%s is parked (%s: %s), and a client's copies would arrive", Key(r, m.Path), m.Reason, m.Detail))
			default:
				found = append(found, fmt.Sprintf("%s is active (%s), and no client's copies would arrive: %s", Key(r, m.Path), m.Reason, answer))
			}
		}
	}
	return found, nil
}
