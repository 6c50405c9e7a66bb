package pkt

// Problem says what is wrong with a frame. The zero value is [OK].
type Problem uint8

// What Parse can find. Each is a reason to drop; TTL, addresses and policy are
// not judged here.
const (
	OK Problem = iota
	// ShortFrame: too short for the Ethernet header or a tag.
	ShortFrame
	// LongFrame: more than 65535 bytes.
	LongFrame
	// TooManyTags: more than two VLAN tags.
	TooManyTags
	// BadARP: type ARP, but not a valid message (see [ARP.Valid]).
	BadARP
	// ShortIP: too short for the IP header.
	ShortIP
	// BadVersion: the version is not that of the EtherType.
	BadVersion
	// BadHeaderLen: IPv4 header length below 20 or beyond the packet.
	BadHeaderLen
	// BadTotalLen: IP length below the header's or beyond the frame.
	BadTotalLen
	// BadHeaderChecksum: the IPv4 header checksum is wrong.
	BadHeaderChecksum
	// BadOptions: an IPv4 option is cut off or has an impossible length.
	BadOptions
	// BadExtension: an IPv6 extension header is cut off, out of place, or there
	// are more than eight.
	BadExtension
	// BadFragment: a fragment that ends beyond 65535 bytes, or one that is not
	// the last whose length is no multiple of eight.
	BadFragment
	// ShortL4: the transport header is not complete. In a first fragment this
	// is how filters are evaded (RFC 1858, RFC 7112).
	ShortL4
	// BadL4Len: a UDP length or TCP data offset that cannot be.
	BadL4Len

	problems
)

var problemNames = [problems]string{
	"ok", "frame too short", "frame too long", "too many VLAN tags", "invalid ARP message", "IP header cut off",
	"wrong IP version", "bad IPv4 header length", "bad IP length", "bad IPv4 header checksum", "bad IPv4 options",
	"bad IPv6 extension header", "bad fragment", "transport header cut off", "bad transport length",
}

func (p Problem) String() string {
	if p < problems {
		return problemNames[p]
	}
	return "problem?"
}

// Error makes a Problem an error. Do not compare a Problem in an error with
// nil: OK is not nil.
func (p Problem) Error() string { return "pkt: " + p.String() }

// Flag marks what a slow path wants to know about a packet.
type Flag uint8

// Flags of Offsets.
const (
	// FirstFragment: a fragment with the transport header.
	FirstFragment Flag = 1 << iota
	// LaterFragment: a fragment without; L4 is where its data begins.
	LaterFragment
	// HasOptions: IPv4 options or IPv6 extension headers are there.
	HasOptions
	// RouterAlert: every router is to look at the packet (RFC 2113, RFC 2711).
	RouterAlert
	// SourceRoute: an IPv4 source route option or an IPv6 routing header.
	SourceRoute
	// UnknownOption: an IPv6 hop-by-hop option that this router does not know
	// and whose type demands that the packet be dropped (RFC 8200 section 4.2).
	UnknownOption
)

// Offsets is where the parts of a frame begin, in bytes from its first. It is
// filled as far as parsing came, also when a Problem is reported.
type Offsets struct {
	Type  uint16    // EtherType behind the tags
	VID   [2]uint16 // VLANs of the tags, outermost first
	L3    uint16    // first byte behind the link header
	L4    uint16    // first byte behind the IP headers; 0 when not IP
	End   uint16    // behind the last byte of the IP packet or ARP message
	Tags  uint8     // number of VLAN tags
	Proto uint8     // protocol at L4, extension headers skipped
	Flags Flag
}

// Has says whether flag f is set.
func (o *Offsets) Has(f Flag) bool { return o.Flags&f != 0 }

// Parse walks an Ethernet frame (as received: no preamble, no frame check
// sequence) up to the transport header and checks every length on the way. A
// frame that is neither IP nor ARP ends at its type, with L4 and End 0.
func Parse(frame []byte) (o Offsets, p Problem) {
	if len(frame) < EthernetLen {
		return o, ShortFrame
	}
	if len(frame) > 0xffff {
		return o, LongFrame
	}
	o.Type = Ethernet(frame).Type()
	o.L3 = EthernetLen
	for o.Type == TypeVLAN || o.Type == TypeQinQ {
		if int(o.Tags) == len(o.VID) {
			return o, TooManyTags
		}
		if len(frame) < int(o.L3)+VLANLen {
			return o, ShortFrame
		}
		tag := VLAN(frame[o.L3:])
		o.VID[o.Tags] = tag.VID()
		o.Tags++
		o.Type = tag.Type()
		o.L3 += VLANLen
	}
	switch o.Type {
	case TypeIPv4:
		return o, o.parse4(frame)
	case TypeIPv6:
		return o, o.parse6(frame)
	case TypeARP:
		if !ARP(frame[o.L3:]).Valid() {
			return o, BadARP
		}
		o.End = o.L3 + ARPLen
	}
	return o, OK
}

// ParseIP is Parse for an IP packet without a link header, such as one that
// left a tunnel. Type is set from the version, L3 is 0.
func ParseIP(packet []byte) (o Offsets, p Problem) {
	if len(packet) == 0 {
		return o, ShortIP
	}
	if len(packet) > 0xffff {
		return o, LongFrame
	}
	switch packet[0] >> 4 {
	case 4:
		o.Type = TypeIPv4
		return o, o.parse4(packet)
	case 6:
		o.Type = TypeIPv6
		return o, o.parse6(packet)
	}
	return o, BadVersion
}

func (o *Offsets) parse4(frame []byte) Problem {
	ip := IPv4(frame[o.L3:])
	if len(ip) < IPv4Len {
		return ShortIP
	}
	if ip.Version() != 4 {
		return BadVersion
	}
	hl, total := ip.HeaderLen(), ip.TotalLen()
	if hl < IPv4Len || hl > len(ip) {
		return BadHeaderLen
	}
	if total < hl || total > len(ip) {
		return BadTotalLen
	}
	o.L4, o.End, o.Proto = o.L3+uint16(hl), o.L3+uint16(total), ip.Proto()
	if !ip.ChecksumOK() {
		return BadHeaderChecksum
	}
	if hl > IPv4Len {
		o.Flags |= HasOptions
		if p := o.options4(ip[IPv4Len:hl]); p != OK {
			return p
		}
	}
	if ip.IsFragment() {
		if p := o.fragment(ip.FragOffset(), total-hl, ip.MF()); p != OK {
			return p
		}
	}
	return o.transport(frame[o.L4:o.End])
}

// options4 walks the options of an IPv4 header (RFC 791 section 3.1).
func (o *Offsets) options4(b []byte) Problem {
	for len(b) > 0 {
		switch b[0] {
		case 0: // end of list
			return OK
		case 1: // no operation
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return BadOptions
		}
		switch b[0] {
		case 148:
			o.Flags |= RouterAlert
		case 131, 137: // loose, strict
			o.Flags |= SourceRoute
		}
		b = b[b[1]:]
	}
	return OK
}

// fragment judges a part of size bytes at offset of some datagram.
func (o *Offsets) fragment(offset, size int, more bool) Problem {
	if offset+size > 0xffff || more && size%8 != 0 || more && size == 0 {
		return BadFragment
	}
	switch {
	case offset > 0:
		o.Flags |= LaterFragment
	case more:
		o.Flags |= FirstFragment
	}
	return OK
}

// maxExtensions bounds the walk over extension headers.
const maxExtensions = 8

func (o *Offsets) parse6(frame []byte) Problem {
	ip := IPv6(frame[o.L3:])
	if len(ip) < IPv6Len {
		return ShortIP
	}
	if ip.Version() != 6 {
		return BadVersion
	}
	if IPv6Len+ip.PayloadLen() > len(ip) {
		return BadTotalLen
	}
	o.L4 = o.L3 + IPv6Len
	o.End = o.L4 + uint16(ip.PayloadLen())
	o.Proto = ip.NextHeader()
	for i := 0; ; i++ {
		b := frame[o.L4:o.End]
		var size int
		switch o.Proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts, ProtoMobility, ProtoHIP, ProtoShim6:
			if o.Proto == ProtoHopByHop && i > 0 || len(b) < 8 {
				return BadExtension
			}
			size = 8 + 8*int(b[1])
		case ProtoFragment:
			size = 8
		default:
			return o.transport(b)
		}
		if i == maxExtensions || len(b) < size {
			return BadExtension
		}
		o.Flags |= HasOptions
		switch o.Proto {
		case ProtoHopByHop:
			if p := o.hopByHop(b[2:size]); p != OK {
				return p
			}
		case ProtoRouting:
			o.Flags |= SourceRoute
		case ProtoFragment:
			off := be.Uint16(b[2:])
			if p := o.fragment(int(off&^7), len(b)-8, off&1 != 0); p != OK {
				return p
			}
		}
		o.Proto = b[0]
		o.L4 += uint16(size)
		if o.Has(LaterFragment) {
			return OK
		}
	}
}

// NextHeaderAt is the offset in ip of the next header field that names o.Proto:
// that of the last extension header, or the fixed header's. ip is the packet that
// o was parsed from.
func (o *Offsets) NextHeaderAt(ip IPv6) int {
	field, at, next := 6, IPv6Len, ip.NextHeader()
	for last := int(o.L4 - o.L3); at < last; {
		field = at
		size := 8
		if next != ProtoFragment {
			size += 8 * int(ip[at+1])
		}
		next = ip[at]
		at += size
	}
	return field
}

// hopByHop walks the options that a router must look at (RFC 8200 section 4.3).
func (o *Offsets) hopByHop(b []byte) Problem {
	for len(b) > 0 {
		if b[0] == 0 { // Pad1
			b = b[1:]
			continue
		}
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return BadExtension
		}
		switch {
		case b[0] == 1: // PadN
		case b[0] == 5: // router alert
			o.Flags |= RouterAlert
		case b[0]>>6 != 0: // unknown, and not to be skipped
			o.Flags |= UnknownOption
		}
		b = b[2+int(b[1]):]
	}
	return OK
}

// transport checks that the header which ports and the like are read from is
// complete. b is the IP payload.
func (o *Offsets) transport(b []byte) Problem {
	if o.Has(LaterFragment) {
		return OK
	}
	need := 0
	switch o.Proto {
	case ProtoTCP:
		need = TCPLen
	case ProtoUDP, ProtoUDPLite, ProtoESP, ProtoICMP, ProtoICMPv6:
		need = 8
	case ProtoSCTP:
		need = 12
	}
	if len(b) < need {
		return ShortL4
	}
	switch o.Proto {
	case ProtoTCP:
		if hl := TCP(b).HeaderLen(); hl < TCPLen || hl > len(b) && !o.Has(FirstFragment) {
			return BadL4Len
		}
	case ProtoUDP:
		if n := UDP(b).Len(); n < UDPLen || n > len(b) && !o.Has(FirstFragment) {
			return BadL4Len
		}
	}
	return OK
}
