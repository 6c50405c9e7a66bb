package ipsec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/pkt"
)

// syn makes a SYN of p, with a right checksum, that announces segments of mss.
func syn(p testbed.Packet, flags byte, mss uint16) []byte {
	b := []byte{0x12, 0x34, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 7 << 4, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 2, 4, byte(mss >> 8), byte(mss), 0, 0}
	p.Proto, p.Payload = pkt.ProtoTCP, b
	src, dst := addr(p.Src), addr(p.Dst)
	var sum uint16
	if src.Is6() {
		sum = pkt.Pseudo6(src.As16(), dst.As16(), pkt.ProtoTCP, len(b)).Add(b).Checksum()
	} else {
		sum = pkt.Pseudo4(src.As4(), dst.As4(), pkt.ProtoTCP, len(b)).Add(b).Checksum()
	}
	binary.BigEndian.PutUint16(b[16:], sum)
	return p.IP()
}

// TestClampInTunnel: SYNs in both directions announce what fits into the tunnel,
// in IPv4 and IPv6, also where their flow is in the cache; nothing else is
// touched.
func TestClampInTunnel(t *testing.T) {
	families(t, func(t *testing.T, in6, out6 bool) {
		for _, m := range []pipeline.MSS{pipeline.NoClamp, pipeline.ClampPath, 1000} {
			s := newSite(t, nil)
			out, in := s.tunnel(in6, func(a *ipsec.SA) {
				a.MSS = m
				if out6 {
					over6(a)
				}
			})
			head := 40
			if in6 {
				head = 60
			}
			inner := func() int { return int(s.sa("out").InnerMTU) }
			want := func(mss uint16) uint16 {
				switch m {
				case pipeline.ClampPath:
					return min(mss, uint16(inner()-head))
				case pipeline.NoClamp:
					return mss
				}
				return min(mss, uint16(m))
			}
			check := func() {
				t.Helper()
				for _, flags := range []byte{0x02, 0x12, 0x10, 0xc2} {
					for _, mss := range []uint16{1460, 999, 536, 0xffff} {
						is := want(mss)
						if flags == 0x10 {
							is = mss
						}
						got := s.fromHost(syn(outgoing(in6, 0), flags, mss))
						if o := out.must(t, got[0]); !bytes.Equal(o.inner, hop(syn(outgoing(in6, 0), flags, is))) {
							t.Fatalf("clamp %d, flags %#x, MSS %d: % x", m, flags, mss, o.inner)
						}
						s.delivered(s.fromPeer(in.send(syn(incoming(in6, 0), flags, mss))), hop(syn(incoming(in6, 0), flags, is)))
					}
				}
			}
			check()
			check() // all flows are known now
			if m != pipeline.ClampPath {
				continue
			}
			sent := s.fromHost(outgoing(in6, 1000).IP(), syn(outgoing(in6, 0), 0x10, 1))
			for _, g := range sent {
				out.must(t, g)
			}
			big := outgoing(in6, 1440)
			if out6 {
				big.Len = 1420
			}
			got := s.fromHost(big.IP())
			out.must(t, got[0])
			s.Advance(2 * time.Millisecond)
			s.fromPeer(tooBig(got[0][14:], 1400, 1000))
			if s.sa("out").PathMTU != 1400 {
				t.Fatal("nothing learnt")
			}
			check() // to less now, in both directions
		}
	})
}

// TestClampByInterface: what is forwarded in the clear is clamped by the
// interfaces it comes and goes by, whichever takes less; removed, it is not.
func TestClampByInterface(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		head := 40
		if v6 {
			head = 60
		}
		for _, c := range []struct {
			lan, wan pipeline.MSS
			want     int
		}{{0, 0, 9000}, {pipeline.ClampPath, 0, 1500 - head}, {0, pipeline.ClampPath, 1400 - head}, {pipeline.ClampPath, pipeline.ClampPath, 1400 - head},
			{1200, 0, 1200}, {0, 1100, 1100}, {1200, 1100, 1100}, {1100, pipeline.ClampPath, 1100}, {0, 0, 9000}} {
			s := newSite(t, nil)
			lan := testbed.Iface("lan", lanMAC, "10.1.0.1/24", "2001:db8:1::1/64")
			wan := testbed.Iface("wan", wanMAC, own4+"/24", own6+"/64")
			lan.MSS, wan.MSS, wan.MTU = c.lan, c.wan, 1400
			set := func() {
				s.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{lan, wan}}})
				s.Recv("wan")
				s.Recv("lan")
			}
			set()
			for range 2 {
				for _, flags := range []byte{2, 0x12} {
					for what, got := range map[string][][]byte{"out": s.fromHost(syn(outgoing(v6, 0), flags, 9000)), "in": s.fromPeer(syn(incoming(v6, 0), flags, 9000))} {
						p := outgoing(v6, 0)
						if what == "in" {
							p = incoming(v6, 0)
						}
						if len(got) != 1 || !bytes.Equal(got[0][14:], hop(syn(p, flags, uint16(c.want)))) {
							t.Fatalf("%s, %s, %+v: % x", fam(v6), what, c, got)
						}
					}
				}
				// A flow that is known.
				b := syn(outgoing(v6, 0), 0x10, 9000)
				if got := s.fromHost(b); !bytes.Equal(got[0][14:], hop(b)) {
					t.Fatalf("% x", got)
				}
			}
			lan.MSS, wan.MSS = 0, 0
			set()
			if got := s.fromHost(syn(outgoing(v6, 0), 2, 9000)); !bytes.Equal(got[0][14:], hop(syn(outgoing(v6, 0), 2, 9000))) {
				t.Fatal(fmt.Sprint("still clamped: ", got))
			}
		}
	}
}
