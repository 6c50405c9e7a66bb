package pkt

// Lengths of fixed transport headers.
const (
	UDPLen = 8
	TCPLen = 20
	ESPLen = 8 // SPI and sequence number
)

// UDP is a UDP datagram (RFC 768).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|          Source port          |       Destination port        |
//	+-------------------------------+-------------------------------+
//	|            Length             |           Checksum            |
//	+-------------------------------+-------------------------------+
type UDP []byte

// SrcPort is the source port.
func (h UDP) SrcPort() uint16 { return be.Uint16(h) }

// DstPort is the destination port.
func (h UDP) DstPort() uint16 { return be.Uint16(h[2:]) }

// Len is the length of header and data in bytes.
func (h UDP) Len() int { return int(be.Uint16(h[4:])) }

// Checksum is the checksum field; over IPv4, 0 means that there is none.
func (h UDP) Checksum() uint16 { return be.Uint16(h[6:]) }

// Payload is the data.
func (h UDP) Payload() []byte { return h[UDPLen:h.Len()] }

// Set writes the header with checksum 0.
func (h UDP) Set(src, dst uint16, length int) {
	be.PutUint16(h, src)
	be.PutUint16(h[2:], dst)
	be.PutUint16(h[4:], uint16(length))
	be.PutUint16(h[6:], 0)
}

// SetChecksum computes the checksum over pseudo (see [Pseudo4]), header and
// data. A computed 0 is sent as 0xffff.
func (h UDP) SetChecksum(pseudo Sum) {
	be.PutUint16(h[6:], 0)
	c := pseudo.Add(h[:h.Len()]).Checksum()
	if c == 0 {
		c = 0xffff
	}
	be.PutUint16(h[6:], c)
}

// TCP is a TCP segment (RFC 9293); only what a router looks at.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|          Source port          |       Destination port        |
//	+-------------------------------+-------------------------------+
//	|                        Sequence number                        |
//	+---------------------------------------------------------------+
//	|                    Acknowledgment number                      |
//	+-------+-------+---------------+-------------------------------+
//	| Offset| Rsrvd |     Flags     |            Window             |
//	+-------+-------+---------------+-------------------------------+
//	|           Checksum            |        Urgent pointer         |
//	+-------------------------------+-------------------------------+
type TCP []byte

// TCP flags.
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// SrcPort is the source port.
func (h TCP) SrcPort() uint16 { return be.Uint16(h) }

// DstPort is the destination port.
func (h TCP) DstPort() uint16 { return be.Uint16(h[2:]) }

// Seq is the sequence number.
func (h TCP) Seq() uint32 { return be.Uint32(h[4:]) }

// Ack is the acknowledgment number.
func (h TCP) Ack() uint32 { return be.Uint32(h[8:]) }

// HeaderLen is the header's length in bytes, options included.
func (h TCP) HeaderLen() int { return int(h[12]>>4) * 4 }

// Flags is the flag byte.
func (h TCP) Flags() uint8 { return h[13] }

// Checksum is the checksum field.
func (h TCP) Checksum() uint16 { return be.Uint16(h[16:]) }

// SetChecksum computes the checksum over pseudo and the segment, which is all
// of h.
func (h TCP) SetChecksum(pseudo Sum) {
	be.PutUint16(h[16:], 0)
	be.PutUint16(h[16:], pseudo.Add(h).Checksum())
}

// ESP is an ESP packet (RFC 4303 section 2). What follows the sequence number
// depends on the algorithm.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------------------------------------------------------+
//	|               Security parameters index (SPI)                 |
//	+---------------------------------------------------------------+
//	|                     Sequence number (low)                     |
//	+---------------------------------------------------------------+
//	|        IV, encrypted data, padding, next header, ICV          |
type ESP []byte

// SPI is the security parameters index.
func (h ESP) SPI() uint32 { return be.Uint32(h) }

// Seq is the sequence number, of which only the low 32 bits are sent.
func (h ESP) Seq() uint32 { return be.Uint32(h[4:]) }

// Set writes both.
func (h ESP) Set(spi, seq uint32) {
	be.PutUint32(h, spi)
	be.PutUint32(h[4:], seq)
}

// HasPorts tells whether packets of a protocol have ports: TCP, UDP, DCCP, SCTP
// and UDP-Lite.
func HasPorts(proto uint8) bool {
	switch proto {
	case ProtoTCP, ProtoUDP, 33, ProtoSCTP, ProtoUDPLite:
		return true
	}
	return false
}
