package pkt

import "fmt"

// MAC is an Ethernet address in wire order.
type MAC [6]byte

// Broadcast is the address of everybody on a link.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// IsUnicast says whether the group bit is clear and the address not zero.
func (m MAC) IsUnicast() bool { return m[0]&1 == 0 && m != MAC{} }

// IsMulticast says whether the group bit is set; the broadcast address has it.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// EtherTypes.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100 // IEEE 802.1Q customer tag
	TypeIPv6 = 0x86dd
	TypeQinQ = 0x88a8 // IEEE 802.1ad service tag
)

// EthernetLen is the length of an Ethernet header without tags.
const EthernetLen = 14

// Ethernet is a frame from its first byte on (IEEE 802.3, without preamble and
// frame check sequence).
//
//	 0                   6                  12      14
//	+-------------------+-------------------+-------+--------
//	|    Destination    |      Source       | Type  | Payload
//	+-------------------+-------------------+-------+--------
type Ethernet []byte

// Dst is the destination address.
func (h Ethernet) Dst() MAC { return MAC(h[0:6]) }

// Src is the source address.
func (h Ethernet) Src() MAC { return MAC(h[6:12]) }

// Type is the EtherType; values below 0x600 are an 802.3 length.
func (h Ethernet) Type() uint16 { return be.Uint16(h[12:]) }

// Payload is what follows the header.
func (h Ethernet) Payload() []byte { return h[EthernetLen:] }

// SetDst sets the destination address.
func (h Ethernet) SetDst(m MAC) { copy(h[0:6], m[:]) }

// SetSrc sets the source address.
func (h Ethernet) SetSrc(m MAC) { copy(h[6:12], m[:]) }

// SetType sets the EtherType.
func (h Ethernet) SetType(t uint16) { be.PutUint16(h[12:], t) }

// Set writes the whole header.
func (h Ethernet) Set(dst, src MAC, typ uint16) {
	h.SetDst(dst)
	h.SetSrc(src)
	h.SetType(typ)
}

// VLANLen is the length of one tag, from its TPID on.
const VLANLen = 4

// VLAN is one tag's last four bytes of a tagged header: the control
// information and the type of what follows (IEEE 802.1Q section 9.6). It
// begins behind the TPID, which stands in the place of the EtherType.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-----+-+-----------------------+-------------------------------+
//	| PCP |D|          VID          |             Type              |
//	+-----+-+-----------------------+-------------------------------+
type VLAN []byte

// VID is the VLAN identifier, 0 for a tag that carries a priority only.
func (h VLAN) VID() uint16 { return be.Uint16(h) & 0xfff }

// PCP is the priority code point, 0 to 7.
func (h VLAN) PCP() uint8 { return h[0] >> 5 }

// DEI is the drop eligible indicator.
func (h VLAN) DEI() bool { return h[0]&0x10 != 0 }

// Type is the EtherType of what follows the tag.
func (h VLAN) Type() uint16 { return be.Uint16(h[2:]) }

// Set writes the tag. vid is masked to 12 bits and pcp to 3.
func (h VLAN) Set(vid uint16, pcp uint8, dei bool, typ uint16) {
	t := vid&0xfff | uint16(pcp&7)<<13
	if dei {
		t |= 0x1000
	}
	be.PutUint16(h, t)
	be.PutUint16(h[2:], typ)
}
