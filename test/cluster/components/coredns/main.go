// Command coredns is CoreDNS with the four plugins that a cluster without a way out needs. The stock
// program has sixty, with the libraries of every cloud, and takes several times as long to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	// The order in which plugins see a query; the stock list names more.
	dnsserver.Directives = []string{"ready", "errors", "log", "kubernetes"}
	coremain.Run()
}
