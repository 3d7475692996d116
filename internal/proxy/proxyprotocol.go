// PROXY protocol, version 2: the bytes at the start of a connection by which a load balancer that passes connections
// through tells the address of the client (https://www.haproxy.org/download/2.4/doc/proxy-protocol.txt).

package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyLocal     = 0x20 // version 2: the balancer's own connection, as for a check
	proxyProxied   = 0x21 // version 2: a client's connection
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
	// mostProxyBytes bounds the addresses and extensions of a header. Those in use take some hundred bytes.
	mostProxyBytes = 4 << 10
)

var errNoProxyHeader = errors.New("the connection does not begin with a header of PROXY protocol, version 2")

// readProxyHeader reads a header, and not a byte more, and returns the address of the client. It is invalid if the
// balancer speaks for itself or for something else than TCP; then the address of the connection stands.
func readProxyHeader(conn net.Conn, within time.Duration) (client netip.AddrPort, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return client, err
	}
	var head [16]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return client, fmt.Errorf("%w: %w", errNoProxyHeader, err)
	}
	length := int(binary.BigEndian.Uint16(head[14:]))
	if string(head[:12]) != proxySignature || head[12] != proxyLocal && head[12] != proxyProxied || length > mostProxyBytes {
		return client, errNoProxyHeader
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return client, fmt.Errorf("%w: %w", errNoProxyHeader, err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil || head[12] == proxyLocal {
		return client, err
	}
	switch {
	case head[13] == proxyTCP4 && length >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:])), nil
	case head[13] == proxyTCP6 && length >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)), binary.BigEndian.Uint16(rest[32:])), nil
	case head[13] == proxyTCP4, head[13] == proxyTCP6:
		return client, errNoProxyHeader
	}
	return client, nil
}

// appendProxyHeader appends the header of a connection that a client has made to the proxy.
func appendProxyHeader(dst []byte, client, proxy netip.AddrPort) []byte {
	from, to := client.Addr().Unmap(), proxy.Addr().Unmap()
	dst = append(dst, proxySignature...)
	if from.Is4() && to.Is4() {
		dst = append(dst, proxyProxied, proxyTCP4, 0, 12)
	} else {
		dst = append(dst, proxyProxied, proxyTCP6, 0, 36)
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	dst = append(append(dst, from.AsSlice()...), to.AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(dst, client.Port()), proxy.Port())
}

// addrPort returns an address of a TCP connection.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return tcp.AddrPort()
}
