// How a copy of a request differs on the wire from the request: the -shadow suffix of its host, as Envoy
// writes it, and a marker header.

package message

// Marker is the header field that marks a request as a copy. A proxy that receives a marked request does not
// mirror it again.
const Marker = "x-mirrorgate-shadow"

// shadowSuffix is the suffix that Envoy appends to the host of a copy.
const shadowSuffix = "-shadow"

// AppendShadowHost appends the host of a copy: host with -shadow inserted before the port, and before the dot that
// ends an absolute name, where the suffix would be a label of its own. An IPv6 address
// stays as it is: nothing may follow its bracket (RFC 3986 section 3.2.2), and a strict variant would answer
// 400.
func AppendShadowHost(dst []byte, host string) []byte {
	name, port := SplitPort(host)
	if name == "" || name[len(name)-1] == ']' {
		return append(dst, host...)
	}
	dot := ""
	if len(name) > 1 && name[len(name)-1] == '.' {
		name, dot = name[:len(name)-1], "."
	}
	return append(append(append(append(dst, name...), shadowSuffix...), dot...), port...)
}
