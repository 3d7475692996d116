package certs

// A certificate in memory alone, for a process that is its own CA.

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// Lifetimes of a CA in memory and of its leaves.
const (
	memoryCALife   = 365 * 24 * time.Hour
	memoryLeafLife = 24 * time.Hour
)

// Memory is a source that is its own CA and keeps nothing on disk. It is for a process that registers its
// webhooks itself and removes the registration when it ends.
type Memory struct {
	served
	clock clock.WithTicker
	ca    *authority
}

// NewMemory makes a CA and a leaf for the given host names and IP addresses. metrics may be nil.
func NewMemory(clk clock.WithTicker, metrics *Metrics, names ...string) (*Memory, error) {
	ca, err := newAuthority(clk.Now(), memoryCALife)
	if err != nil {
		return nil, err
	}
	m := &Memory{served: served{names: names, now: clk.Now, metrics: metrics}, clock: clk, ca: ca}
	return m, m.renew()
}

// CABundle returns the CA certificate in PEM, for the caBundle of a webhook.
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

// Start renews the leaf until ctx ends. It compares the clock every minute, because a timer for the whole
// time would fire late on a computer that was suspended.
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
