package pkt

// Objection is what is to be done about a packet whose extension headers or
// options this node may not pass over.
type Objection uint8

// The objections.
const (
	NoObjection Objection = iota
	// Discard: drop it and say nothing.
	Discard
	// Tell: drop it, and send a Parameter Problem unless it went to a group.
	Tell
	// TellAlways: drop it and send a Parameter Problem.
	TellAlways
)

// Object6 looks through the extension headers of an IPv6 packet that [ParseIP]
// has accepted for what must not be passed over: options whose type says so (RFC
// 8200 section 4.2), hop-by-hop ones everywhere, those for the destination and
// routing headers with segments left (RFC 8200 section 4.4, RFC 5095) only where
// host is true, which is when the packet is addressed to this node. at and code
// are those of the Parameter Problem.
func Object6(ip IPv6, host bool) (o Objection, at int, code uint8) {
	next := ip.NextHeader()
	for off := IPv6Len; off+8 <= len(ip); {
		size := 8 + 8*int(ip[off+1])
		switch next {
		case ProtoHopByHop, ProtoDestOpts:
			if next == ProtoDestOpts && !host {
				break
			}
			if off+size > len(ip) {
				return NoObjection, 0, 0
			}
			if o, k := objectOptions(ip[off+2 : off+size]); o != NoObjection {
				return o, off + 2 + k, ICMPv6UnknownOption
			}
		case ProtoRouting:
			if host && ip[off+3] > 0 {
				return Tell, off + 2, ICMPv6BadHeader
			}
		case ProtoMobility, ProtoHIP, ProtoShim6:
		case ProtoFragment:
			if ip[off+2]|ip[off+3]&^7 != 0 { // later fragment: what follows is data
				return NoObjection, 0, 0
			}
			size = 8
		default:
			return NoObjection, 0, 0
		}
		next = ip[off]
		off += size
	}
	return NoObjection, 0, 0
}

// objectOptions finds the first option that is neither known nor to be skipped.
func objectOptions(b []byte) (o Objection, at int) {
	for at < len(b) {
		switch t := b[at]; {
		case t == 0: // Pad1
			at++
			continue
		case at+2 > len(b):
			return NoObjection, 0
		case t == 1, t == 5, t>>6 == 0: // PadN, router alert, to be skipped
		default:
			return [4]Objection{NoObjection, Discard, TellAlways, Tell}[t>>6], at
		}
		at += 2 + int(b[at+1])
	}
	return NoObjection, 0
}

// RoutingType0 tells whether an IPv6 packet that [ParseIP] has accepted has a
// routing header of type 0 that is not used up: deprecated, since it lets anybody
// send packets round in circles (RFC 5095).
func RoutingType0(ip IPv6) bool {
	next := ip.NextHeader()
	for off := IPv6Len; off+8 <= len(ip); {
		size := 8 + 8*int(ip[off+1])
		switch next {
		case ProtoRouting:
			if ip[off+2] == 0 && ip[off+3] > 0 {
				return true
			}
		case ProtoHopByHop, ProtoDestOpts:
		default:
			return false
		}
		next = ip[off]
		off += size
	}
	return false
}

// BadOption4 is the offset of the first IPv4 option that is cut off or has an
// impossible length ([BadOptions]); 0 when there is none.
func BadOption4(ip IPv4) int {
	hl := ip.HeaderLen()
	for at := IPv4Len; at < hl && at < len(ip); {
		switch {
		case ip[at] == 0:
			return 0
		case ip[at] == 1:
			at++
		case at+2 > hl || ip[at+1] < 2 || at+int(ip[at+1]) > hl:
			return at
		default:
			at += int(ip[at+1])
		}
	}
	return 0
}
