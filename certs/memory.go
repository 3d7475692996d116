package certs

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// Lifetimes of an in-memory CA and of its leaves.
const (
	memoryCALife   = 365 * 24 * time.Hour
	memoryLeafLife = 24 * time.Hour
)

// Memory is a source that is its own CA and keeps nothing on disk: for a program
// that registers itself and takes the registration back when it ends.
type Memory struct {
	served
	clock clock.WithTicker
	ca    *authority
}

// NewMemory makes a CA and a leaf for the given host names and IP addresses.
// metrics may be nil.
func NewMemory(clk clock.WithTicker, metrics *Metrics, names ...string) (*Memory, error) {
	ca, err := newAuthority(clk.Now(), memoryCALife)
	if err != nil {
		return nil, err
	}
	m := &Memory{served: served{names: names, now: clk.Now, metrics: metrics}, clock: clk, ca: ca}
	return m, m.renew()
}

// CABundle returns the CA certificate in PEM, for clientConfig.caBundle.
func (m *Memory) CABundle() []byte { return encodeCert(m.ca.cert) }

func (m *Memory) renew() error {
	leaf, err := m.ca.issue(m.clock.Now(), memoryLeafLife, m.names)
	if err != nil {
		m.failed()
		return err
	}
	m.set(leaf)
	return nil
}

// Start renews the leaf until ctx ends. A sleeping laptop wakes up late, so it
// looks at the clock every minute rather than waiting once.
func (m *Memory) Start(ctx context.Context) error {
	tick := m.clock.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
			if !due(m.cert.Load().Leaf, memoryLeafLife, m.clock.Now()) {
				continue
			}
			if err := m.renew(); err != nil {
				return err
			}
		}
	}
}
