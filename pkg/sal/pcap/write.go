package pcap

import "encoding/binary"

var le = binary.LittleEndian

// appendSection begins a section of pcapng for packets of one Ethernet
// interface with times in nanoseconds.
func appendSection(b []byte, iface string) []byte {
	b = block(b, blockSection, func(b []byte) []byte {
		b = le.AppendUint32(b, magicOrder)
		b = le.AppendUint16(b, 1) // version 1.0
		b = le.AppendUint16(b, 0)
		return le.AppendUint64(b, 1<<64-1) // of unknown length
	})
	return block(b, blockInterface, func(b []byte) []byte {
		b = le.AppendUint16(b, linkEthernet)
		b = le.AppendUint16(b, 0)
		b = le.AppendUint32(b, 0) // whole packets
		b = option(b, optName, []byte(iface))
		b = option(b, optResolution, []byte{9})
		return option(b, optEnd, nil)
	})
}

func block(b []byte, typ uint32, body func([]byte) []byte) []byte {
	at := len(b)
	b = le.AppendUint32(b, typ)
	b = body(le.AppendUint32(b, 0))
	n := uint32(len(b) - at + 4)
	le.PutUint32(b[at+4:], n)
	return le.AppendUint32(b, n)
}

func option(b []byte, code uint16, v []byte) []byte {
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, uint16(len(v)))
	b = append(b, v...)
	return append(b, make([]byte, -len(v)&3)...)
}

// packetOverhead is what an enhanced packet block takes beside the frame.
const packetOverhead = 32 + 3

// appendPacket appends an enhanced packet block; it does not grow a b with room
// for the frame and packetOverhead.
func appendPacket(b []byte, ns int64, frame []byte) []byte {
	pad := -len(frame) & 3
	n := uint32(32 + len(frame) + pad)
	b = le.AppendUint32(b, blockEnhanced)
	b = le.AppendUint32(b, n)
	b = le.AppendUint32(b, 0) // interface
	b = le.AppendUint32(b, uint32(uint64(ns)>>32))
	b = le.AppendUint32(b, uint32(ns))
	b = le.AppendUint32(b, uint32(len(frame)))
	b = le.AppendUint32(b, uint32(len(frame)))
	b = append(b, frame...)
	for range pad {
		b = append(b, 0)
	}
	return le.AppendUint32(b, n)
}
