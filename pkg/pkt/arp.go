package pkt

// ARPLen is the length of an ARP message for Ethernet and IPv4.
const ARPLen = 28

// ARP operations (RFC 826).
const (
	ARPRequestOp = 1
	ARPReplyOp   = 2
)

// ARP is an Ethernet/IPv4 ARP message (RFC 826).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|     Hardware type (1)         |    Protocol type (0x0800)     |
//	+---------------+---------------+-------------------------------+
//	| HW length (6) | Pr length (4) |           Operation           |
//	+---------------+---------------+-------------------------------+
//	|                 Sender hardware address                       |
//	+                               +-------------------------------+
//	|                               |  Sender protocol address      |
//	+-------------------------------+-------------------------------+
//	|   (continued)                 |  Target hardware address      |
//	+-------------------------------+                               +
//	|                                                               |
//	+---------------------------------------------------------------+
//	|                 Target protocol address                       |
//	+---------------------------------------------------------------+
type ARP []byte

// Valid says whether this is a message of the one kind that the view is for:
// long enough, Ethernet and IPv4, request or reply, from a unicast sender.
func (h ARP) Valid() bool {
	return len(h) >= ARPLen && be.Uint64(h)&^0xffff == 0x0001_0800_0604_0000 &&
		(h.Op() == ARPRequestOp || h.Op() == ARPReplyOp) && h.SenderMAC().IsUnicast()
}

// Op is the operation.
func (h ARP) Op() uint16 { return be.Uint16(h[6:]) }

// SenderMAC is the sender's hardware address.
func (h ARP) SenderMAC() MAC { return MAC(h[8:14]) }

// SenderIP is the sender's protocol address; zero in a probe (RFC 5227).
func (h ARP) SenderIP() [4]byte { return [4]byte(h[14:18]) }

// TargetMAC is the target's hardware address, ignored in a request.
func (h ARP) TargetMAC() MAC { return MAC(h[18:24]) }

// TargetIP is the target's protocol address.
func (h ARP) TargetIP() [4]byte { return [4]byte(h[24:28]) }

// Set writes a whole message.
func (h ARP) Set(op uint16, senderMAC MAC, senderIP [4]byte, targetMAC MAC, targetIP [4]byte) {
	be.PutUint64(h, 0x0001_0800_0604_0000|uint64(op))
	copy(h[8:14], senderMAC[:])
	copy(h[14:18], senderIP[:])
	copy(h[18:24], targetMAC[:])
	copy(h[24:28], targetIP[:])
}

// arpFrame is the length of an ARP message in its Ethernet header. Padding to
// the minimum frame is the port's business.
const arpFrame = EthernetLen + ARPLen

// ARPRequest writes a frame that asks dst (usually [Broadcast]) who has
// targetIP. With senderIP zero it is a probe for a duplicate address, with
// senderIP equal to targetIP an announcement (RFC 5227).
func ARPRequest(buf []byte, dst, src MAC, senderIP, targetIP [4]byte) int {
	if len(buf) < arpFrame {
		return 0
	}
	Ethernet(buf).Set(dst, src, TypeARP)
	ARP(buf[EthernetLen:]).Set(ARPRequestOp, src, senderIP, MAC{}, targetIP)
	return arpFrame
}

// ARPReply writes the frame that answers req: the owner of the address that
// was asked for has the address mac. It answers requests only. buf may be the
// frame of the request itself.
func ARPReply(buf []byte, req ARP, mac MAC) int {
	if len(buf) < arpFrame || !req.Valid() || req.Op() != ARPRequestOp {
		return 0
	}
	asker, askerIP, ip := req.SenderMAC(), req.SenderIP(), req.TargetIP()
	Ethernet(buf).Set(asker, mac, TypeARP)
	ARP(buf[EthernetLen:]).Set(ARPReplyOp, mac, ip, asker, askerIP)
	return arpFrame
}
