package pipeline

import (
	"vrouter/fastpath/action"
	"vrouter/pkg/pkt"
)

// MSS is to what the segment size that TCP SYNs announce is clamped (RFC 4459
// section 3.2 says why routers do).
type MSS uint16

// What is not a size.
const (
	NoClamp MSS = 0
	// ClampPath is as much as an IP packet without options may carry on the path.
	ClampPath MSS = 1
)

// Clamp appends to packet i's program that what it announces, it being a SYN, is
// lowered to m, ClampPath being what a packet of mtu bytes carries.
func (v *Vec) Clamp(i uint16, m MSS, mtu uint32) {
	if m == ClampPath {
		head := uint32(pkt.IPv4Len)
		if v.V6 {
			head = pkt.IPv6Len
		}
		if head += pkt.TCPLen; mtu <= head {
			return
		}
		m = MSS(min(mtu-head, 0xffff))
	}
	if m != NoClamp {
		v.Do(i, action.Clamp, uint32(m))
	}
}
