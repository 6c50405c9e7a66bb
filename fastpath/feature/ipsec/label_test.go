package ipsec_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"vrouter/pkg/pkt"
)

// TestFlowLabel: all packets of a flow have one label outside (RFC 6438), whatever
// else differs between them, flows have labels of their own, and that of an inner
// packet is kept.
func TestFlowLabel(t *testing.T) {
	for _, in6 := range []bool{false, true} {
		s := newSite(t, nil)
		s.tunnel(in6, over6)
		label := func(b []byte) uint32 {
			t.Helper()
			got := s.fromHost(b)
			if len(got) != 1 || got[0][14]>>4 != 6 {
				t.Fatalf("left as %x", got)
			}
			return binary.BigEndian.Uint32(got[0][14:]) & 0xfffff
		}
		seen := map[uint32]string{}
		twice := 0
		for _, proto := range []uint8{pkt.ProtoUDP, pkt.ProtoTCP, 132, pkt.ProtoESP} {
			for n := range uint16(50) {
				p := outgoing(in6, 100)
				p.Proto, p.SPort = proto, 1000+n
				if proto == pkt.ProtoESP {
					p.Payload = append([]byte{0, 0, 9, byte(n)}, make([]byte, 60)...)
				} else if proto == 132 {
					p.Payload = append([]byte{4, byte(n), 9, 9}, make([]byte, 60)...)
				}
				l := label(p.IP())
				q := p
				q.TTL, q.TOS = 9, 0x50
				if q.Payload == nil {
					q.Len = 300
				}
				if x := label(q.IP()); x != l || l == 0 {
					t.Fatalf("one flow has labels %#x and %#x", l, x)
				}
				if other, there := seen[l]; there {
					twice++
					t.Logf("%s has the label of %s", fmt.Sprint(proto, n), other)
				}
				seen[l] = fmt.Sprint(proto, n)
			}
		}
		if twice > 3 { // of 200 in a million
			t.Errorf("%d flows have another's label", twice)
		}
		if in6 {
			b := outgoing(true, 100).IP()
			binary.BigEndian.PutUint32(b, 6<<28|0xabcde)
			if l := label(b); l != 0xabcde {
				t.Errorf("label %#x", l)
			}
		}
	}
}
