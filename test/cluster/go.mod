// The test cluster: a module of its own, so that the product's go.mod knows nothing of it. Only the
// standard library is needed here; what it runs is pinned by the modules below components/.
module github.com/mirrorgate/mirrorgate/test/cluster

go 1.26
