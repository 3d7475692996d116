package freeport

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddressesAreFreeAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		address, err := Address()
		require.NoError(t, err)
		require.False(t, seen[address.String()], "%s was given twice", address)
		seen[address.String()] = true
		l, err := net.ListenTCP("tcp", address)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
