package printing

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNearest(t *testing.T) {
	known := []string{"mirror", "mirrors", "mirrorPercentage", "port", "percent"}
	for name, want := range map[string]string{
		"mirorr": "mirror", "mirrr": "mirror", "mirror_percentage": "mirrorPercentage", "mirrorPercentges": "mirrorPercentage",
		"prot": "port", "percnt": "percent", "Mirrors": "mirrors",
		"route": "", "match": "", "": "", "p": "", "mirrorPercentageOfTheTraffic": "",
	} {
		assert.Equal(t, want, Nearest(name, known), name)
	}
}
