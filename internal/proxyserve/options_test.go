package proxyserve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestErrorsComeInTheSameOrderEachTime(t *testing.T) {
	opts := &Options{Service: "A_", Namespace: "B_", AdminBind: "9090", AccessLog: "xml", DrainMin: -time.Second, DrainTimeout: -time.Second}
	for range 20 {
		var paths []string
		for _, err := range opts.Validate() {
			paths = append(paths, err.Field)
		}
		assert.Equal(t, []string{"service", "namespace", "admin-bind", "access-log", "drain-min", "drain-timeout", "log-level", "log-format"}, paths)
	}
}
