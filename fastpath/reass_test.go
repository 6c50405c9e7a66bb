package fastpath_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/reass"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// frames puts the MACs of host and interface a on IP packets.
func frames(ips ...[]byte) (l [][]byte) {
	for _, ip := range ips {
		l = append(l, testbed.Frame(testbed.MAC(1), testbed.MAC(21), ip))
	}
	return l
}

// packets takes the Ethernet headers off again.
func packets(l [][]byte) (ips [][]byte) {
	for _, f := range l {
		ips = append(ips, f[14:])
	}
	return ips
}

// replyTo is what an echo request must bring back.
func replyTo(ip []byte) []byte {
	b := bytes.Clone(ip)
	if b[0]>>4 == 6 {
		h := pkt.IPv6(b)
		src, dst := h.Src(), h.Dst()
		h.SetSrc(dst)
		h.SetDst(src)
		h.SetHopLimit(64)
		pkt.ICMP(b[40:]).Set(129, 0, pkt.ICMP(b[40:]).Rest(), pkt.Pseudo6(dst, src, 58, len(b)-40))
		return b
	}
	h := pkt.IPv4(b)
	src, dst := h.Src(), h.Dst()
	h.SetSrc(dst)
	h.SetDst(src)
	h.SetTTL(64)
	h.SetChecksum()
	pkt.ICMP(b[20:]).Set(0, 0, pkt.ICMP(b[20:]).Rest(), 0)
	return b
}

// TestEchoInPieces pings the router with fragments, from a little more than one
// up to the largest packet there is, in order, backwards, and with duplicates.
func TestEchoInPieces(t *testing.T) {
	b := twoPorts(t, nil)
	id := uint32(0)
	for _, v6 := range []bool{false, true} {
		for _, n := range []int{64, 1501, 1900, 2000, 3000, 9000, 65535} {
			for _, order := range []string{"forwards", "backwards", "twice"} {
				t.Run(fmt.Sprint(v6, n, order), func(t *testing.T) {
					b.T = t
					src, dst := "10.0.1.2", "10.0.2.1"
					if v6 {
						src, dst = "2001:db8:1::2", "2001:db8:2::1"
					}
					ip := testbed.Echo(src, dst, n).IP()
					for i := 48; i < n; i++ {
						ip[i] = byte(i * 7)
					}
					if v6 {
						pkt.ICMP(ip[40:]).Set(128, 0, 7, pkt.Pseudo6(pkt.IPv6(ip).Src(), pkt.IPv6(ip).Dst(), 58, n-40))
					} else {
						pkt.ICMP(ip[20:]).Set(8, 0, 7, 0)
					}
					id++
					if !v6 {
						pkt.IPv4(ip).SetID(uint16(id))
					}
					size := 1440
					if n < 100 {
						size = 8
					}
					parts := testbed.Cut(ip, size, id)
					dup := 0
					switch order {
					case "backwards":
						slices.Reverse(parts)
					case "twice":
						parts = append(slices.Clone(parts[:len(parts)-1]), parts...)
						dup = (len(parts) - 1) / 2
					}
					got := packets(b.Exchange("a", frames(parts...), "a")[0])
					if joined := testbed.Join(got); !bytes.Equal(joined, replyTo(ip)) {
						t.Errorf("%d pieces sent, %d back, joined %.60x\nwant %.60x", len(parts), len(got), joined, replyTo(ip))
					}
					want := fmt.Sprintf("a rx %d, a tx %d", len(parts), len(parts)-dup)
					if dup > 0 {
						want += fmt.Sprintf(", a drop reassembly-duplicate %d", dup)
					}
					b.Moved(want)
				})
			}
		}
	}
	if w := b.State(&fastpath.Query{Process: true}).Process.Buffers.Waiting; w != 0 {
		t.Errorf("%d buffers are still held", w)
	}
}

// TestPieces sends what attackers and broken hosts send.
func TestPieces(t *testing.T) {
	b := twoPorts(t, nil)
	echo := func(n int) []byte { return testbed.Echo("10.0.1.2", "10.0.1.1", n).IP() }
	echo6 := func(n int) []byte { return testbed.Echo("2001:db8:1::2", "2001:db8:1::1", n).IP() }
	udp := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", SPort: 9, DPort: 9, Len: 1600}.IP()
	udpBig := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", SPort: 9, DPort: 9, Len: 4000}.IP()
	esp := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: 1600}.IP()
	espBig := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: 2000}.IP()
	four := testbed.Cut(echo(52), 8, 0)
	six := func(id uint32) [][]byte { return testbed.Cut(echo6(72), 8, id) }
	part := func(at, n int, more bool) []byte { return testbed.Fragment(four[0][:20], make([]byte, n), at, more, 0) }
	solicit := pkt.IPv6(make([]byte, 40+24))
	solicit.Set(pkt.IPv6(echo6(72)).Src(), pkt.IPv6(echo6(72)).Dst(), 58, 255, 0, 24)
	pkt.ICMP(solicit[40:]).Set(135, 0, 0, pkt.Pseudo6(solicit.Src(), solicit.Dst(), 58, 24))
	ce := slices.Clone(testbed.Cut(esp, 800, 0))
	pkt.IPv4(ce[0]).SetTOS(3)
	pkt.IPv4(ce[0]).SetChecksum()
	badSum := testbed.Cut(echo(52), 16, 0)
	badSum[0][31] ^= 1
	var tiny [][]byte
	for i := range 80 {
		tiny = append(tiny, part(8*i, 8, true))
	}
	atomic := testbed.Fragment(echo6(100)[:40], echo6(100)[40:], 0, false, 3)
	for _, c := range []struct {
		name  string
		parts [][]byte
		moved string
	}{
		{"overlap", [][]byte{four[0], part(0, 16, true), four[1], four[2], four[3]}, "a rx 5, a drop reassembly-overlap 5"},
		{"the same place, other bytes", [][]byte{four[0], four[1], testbed.Fragment(four[0][:20], []byte("whatever"), 8, true, 0), four[2], four[3]}, "a rx 5, a drop reassembly-overlap 5"},
		{"behind the end", [][]byte{four[3], part(40, 8, true)}, "a rx 2, a drop reassembly-overlap 2"},
		{"two ends", [][]byte{part(24, 8, false), part(16, 8, false)}, "a rx 2, a drop reassembly-overlap 2"},
		{"an end before", [][]byte{part(24, 8, true), part(16, 8, false)}, "a rx 2, a drop reassembly-overlap 2"},
		{"overlap6", [][]byte{six(1)[0], testbed.Fragment(echo6(72)[:40], make([]byte, 16), 0, true, 1), six(1)[1], six(1)[2], six(1)[3]}, "a rx 5, a drop reassembly-overlap 5"},
		{"too many", tiny, "a rx 80, a drop reassembly-full 65, a drop reassembly-overlap 15"},
		{"empty end", [][]byte{part(24, 0, false)}, "a rx 1, a drop ip-length 1"},
		{"bad checksum", badSum, "a rx 2, a drop icmp-bad 2"},
		{"an error in pieces", testbed.Cut(errorTo("10.0.1.2", "10.0.1.1", 60), 32, 0), "a rx 2, a drop icmp-ignored 2"},
		{"neighbour discovery in pieces", testbed.Cut(solicit, 16, 5), "a rx 2, a drop icmp-ignored 2"},
		{"udp", testbed.Cut(udp, 800, 0), "a rx 2, a tx 1, a drop local-udp 1"},
		{"udp larger than a buffer", testbed.Cut(udpBig, 1400, 0), "a rx 3, a tx 1, a drop local-udp 1"},
		{"esp without SA", testbed.Cut(esp, 800, 0), "a rx 2, a drop esp-no-sa 1"},
		{"esp larger than a buffer", testbed.Cut(espBig, 800, 0), "a rx 3, a drop esp-no-sa 1"},
		{"a congestion mark on a flow that knows none", ce, "a rx 2, a drop reassembly-overlap 2"},
		{"atomic", [][]byte{atomic}, "a rx 1, a tx 1"},
		{"not ours", testbed.Cut(testbed.Packet{Src: "10.0.1.2", Dst: "192.0.2.1", Len: 200}.IP(), 80, 0), "a rx 3, b tx 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			b.Exchange("a", frames(c.parts...), "a", "b")
			b.Moved(c.moved)
			b.Advance(2 * reass.Timeout6) // what is left goes
			b.Recv("a")
			b.Forget()
		})
	}
}

// TestPiecesOfTheLargest: what nothing serves is refused, and its sender told, in
// datagrams too that are larger than the fast path puts together: by their first
// piece, and the others have a name.
func TestPiecesOfTheLargest(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for proto, why := range map[uint8]string{pkt.ProtoUDP: "local-udp", pkt.ProtoTCP: "local-tcp", 99: "local-protocol"} {
			for _, n := range []int{sal.MaxPacket, sal.MaxPacket + 1, 65535} {
				b := twoPorts(t, nil)
				p := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", SPort: 9, DPort: 9, Proto: proto, Len: n}
				if v6 {
					p.Src, p.Dst = "2001:db8:1::2", "2001:db8:1::1"
				}
				parts := testbed.Cut(p.IP(), 1440, 7)
				b.Exchange("a", frames(parts...), "a")
				want := fmt.Sprintf("a rx %d, a drop %s 1", len(parts), why)
				if proto != pkt.ProtoTCP { // of whatever size: nobody is told
					want += ", a tx 1"
				}
				if n > sal.MaxPacket {
					want += fmt.Sprintf(", a drop reassembly-too-big %d", len(parts)-1)
				}
				b.Moved(want)
			}
		}
	}
}

// errorTo is an ICMP port unreachable.
func errorTo(src, dst string, n int) []byte {
	m := pkt.ICMP(make([]byte, n-20))
	m.Set(3, 3, 0, 0)
	return testbed.Packet{Src: src, Dst: dst, Proto: 1, Payload: m}.IP()
}

// TestReassemblyTime: what does not become whole is given up, its buffers come
// back, and its sender hears of it if it sent the beginning.
func TestReassemblyTime(t *testing.T) {
	b := twoPorts(t, nil)
	four := testbed.Cut(testbed.Echo("10.0.1.2", "10.0.1.1", 100).IP(), 40, 0)
	six := testbed.Cut(testbed.Echo("2001:db8:1::2", "2001:db8:1::1", 100).IP(), 40, 1)
	held := func() int { return b.State(&fastpath.Query{Process: true}).Process.Buffers.Waiting }
	for _, c := range []struct {
		name  string
		parts [][]byte
		life  time.Duration
		typ   byte
		moved string
	}{
		{"beginning", four[:1], reass.Timeout4, 11, "a rx 1, a tx 1, a drop reassembly-timeout 1"},
		{"end", four[1:], reass.Timeout4, 0, "a rx 1, a drop reassembly-timeout 1"},
		{"beginning6", six[:1], reass.Timeout6, 3, "a rx 1, a tx 1, a drop reassembly-timeout 1"},
		{"end6", six[1:], reass.Timeout6, 0, "a rx 1, a drop reassembly-timeout 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.T = t
			b.Send("a", frames(c.parts...)...)
			b.Advance(0)
			b.Advance(c.life - time.Second)
			if held() != 1 {
				t.Errorf("%d buffers held, want 1", held())
			}
			b.Advance(2 * time.Second)
			got := b.Recv("a")
			b.Moved(c.moved)
			if held() != 0 {
				t.Errorf("%d buffers held, want none", held())
			}
			if c.typ == 0 {
				return
			}
			if len(got) != 1 {
				t.Fatalf("%d answers, want one", len(got))
			}
			o, bad := pkt.Parse(got[0])
			m := pkt.ICMP(got[0][o.L4:o.End])
			if bad != pkt.OK || m.Type() != c.typ || m.Code() != 1 || !bytes.HasPrefix(c.parts[0], m.Body()) {
				t.Errorf("answer %x", got[0])
			}
			if c.typ == 11 && pkt.IPv4(got[0][14:]).SrcAddr().String() != "10.0.1.1" {
				t.Errorf("from %v", pkt.IPv4(got[0][14:]).SrcAddr())
			}
		})
	}
}

// TestReassemblyBounds: a source that never finishes has no more than its share,
// many sources no more than there is, and a datagram that comes meanwhile becomes
// whole all the same.
func TestReassemblyBounds(t *testing.T) {
	b := twoPorts(t, nil)
	held := func() int { return b.State(&fastpath.Query{Process: true}).Process.Buffers.Waiting }
	flood := func(src string, n, from int) {
		ip := testbed.Packet{Src: src, Dst: "10.0.1.1", Len: 60}.IP()
		for i := range n {
			pkt.IPv4(ip).SetID(uint16(from + i))
			b.Send("a", frames(testbed.Fragment(ip[:20], make([]byte, 8), 8, true, 0))...)
			if i%100 == 99 {
				b.Run()
			}
		}
		b.Run()
	}
	flood("10.9.9.9", 1000, 0)
	if h := held(); h != 32 {
		t.Errorf("one source holds %d buffers, want 32", h)
	}
	b.Moved("a rx 1000, a drop reassembly-full 968")
	for i := range 200 {
		flood(fmt.Sprintf("10.8.%d.%d", i/100, 1+i%100), 40, 0)
	}
	if h := held(); h > 1024 {
		t.Errorf("%d buffers held of a pool of 4096, want no more than a quarter", h)
	}
	b.Forget()
	parts := testbed.Cut(testbed.Echo("10.0.1.2", "10.0.1.1", 3000).IP(), 1440, 0)
	if got := testbed.Join(packets(b.Exchange("a", frames(parts...), "a")[0])); got == nil {
		t.Error("no answer to a whole datagram while others fill the table")
	}
}

// TestReassemblyAllocates nothing.
func TestReassemblyAllocates(t *testing.T) {
	b := twoPorts(t, func(o *fastpath.Options) { o.Flows4, o.Flows6 = -1, -1 })
	parts := frames(testbed.Cut(testbed.Echo("10.0.1.2", "10.0.1.1", 3000).IP(), 1440, 0)...)
	parts = append(parts, frames(testbed.Cut(testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: 1600}.IP(), 800, 0)...)...)
	parts = append(parts, frames(testbed.Cut(testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: 20000}.IP(), 1400, 0)...)...)
	peer := b.Mem.Peer("a")
	least := uint64(100)
	for range 8 {
		peer.Inject(parts...)
		var m, n runtime.MemStats
		runtime.ReadMemStats(&m)
		b.E.Turn(0)
		runtime.ReadMemStats(&n)
		least = min(least, n.Mallocs-m.Mallocs) // of the whole process: others may be at work
		if got := testbed.Join(packets(b.Recv("a"))); got == nil {
			t.Fatal("no answer")
		}
	}
	if least > 0 {
		t.Errorf("%d allocations", least)
	}
}
