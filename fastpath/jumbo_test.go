package fastpath_test

import (
	"bytes"
	"fmt"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/iface"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// jumboPorts is twoPorts with these MTUs.
func jumboPorts(t testing.TB, a, b uint16, opt func(*fastpath.Options)) *testbed.Bed {
	bed := twoPorts(t, opt)
	ia := testbed.Iface("a", 1, "10.0.1.1/24", "2001:db8:1::1/64")
	ib := testbed.Iface("b", 2, "10.0.2.1/24", "2001:db8:2::1/64")
	ia.MTU, ib.MTU = a, b
	for _, n := range []string{"a", "b"} {
		bed.Mem.Peer(n).Close()
	}
	bed.Apply(&fastpath.Change{Iface: iface.Change{Set: []iface.Config{ia, ib}}})
	bed.Run()
	bed.Recv("a")
	bed.Recv("b")
	bed.Forget()
	return bed
}

// classLengths are lengths of IP packets around the end of an ordinary buffer
// and up to the largest MTU.
func classLengths() (l []int) {
	for n := sal.MaxFrame - 60; n < sal.BufSize+20; n++ {
		l = append(l, n)
	}
	return append(l, 1500, 4082, 4096, 8192, 9000, 9215, 9216)
}

// TestJumboFrames forwards packets of all lengths around where an ordinary buffer
// ends, in mixed bursts, and drops what is above the interface's MTU.
func TestJumboFrames(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, flows := range []int{1 << 10, -1} {
			b := jumboPorts(t, 9216, 9216, func(o *fastpath.Options) { o.Flows4, o.Flows6 = flows, flows })
			p := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2"}
			if v6 {
				p.Src, p.Dst = "2001:db8:1::2", "2001:db8:2::2"
			}
			var sent [][]byte
			for i, n := range classLengths() {
				p.Len = n
				if i%3 == 0 {
					p.Len = 64
				}
				sent = append(sent, p.From(21, 1))
			}
			for len(sent) > 0 {
				k := min(100, len(sent))
				got := b.Exchange("a", sent[:k], "b")[0]
				if len(got) != k {
					t.Fatalf("%d of %d frames", len(got), k)
				}
				for i, g := range got {
					if !bytes.Equal(g, forwarded(sent[i], 2, 22)) {
						t.Fatalf("%d bytes: %.60x", len(sent[i]), g)
					}
				}
				sent = sent[k:]
			}
			b.Forget()
			for _, n := range []int{9217, 9222, 20000, 65000} {
				p.Len = n
				b.Exchange("a", [][]byte{p.From(21, 1)}, "b")
				b.Moved("a rx 1, a rx-errors 1, a drop rx-too-big 1")
			}
		}
	}
}

// TestJumboCut: jumbo packets into smaller links, and the pieces into links that
// still take more than an ordinary buffer.
func TestJumboCut(t *testing.T) {
	for _, mtu := range []uint16{1500, 1902, 1920, 1921, 2100, 4000, 9000} {
		b := jumboPorts(t, 9216, mtu, nil)
		for _, n := range append(classLengths(), int(mtu)+1) {
			if n > 9216 {
				continue
			}
			p := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.2.2", Len: n}
			got := packets(b.Exchange("a", [][]byte{p.From(21, 1)}, "b")[0])
			want := packets([][]byte{forwarded(p.From(21, 1), 2, 22)})
			for _, g := range got {
				if len(g) > int(mtu) {
					t.Fatalf("a piece of %d bytes on a link of %d", len(g), mtu)
				}
			}
			if n > int(mtu) && len(got) != (n-20+int(mtu-20)&^7-1)/(int(mtu-20)&^7) && len(got) != (n-20-1)/(int(mtu-20)&^7)+1 {
				t.Errorf("%d bytes over %d: %d pieces", n, mtu, len(got))
			}
			if !bytes.Equal(testbed.Join(got), testbed.Join(want)) {
				t.Fatalf("%d bytes over %d: other bytes in %d pieces", n, mtu, len(got))
			}
			p.DF = true
			back := b.Exchange("a", [][]byte{p.From(21, 1)}, "a", "b")
			if n > int(mtu) && (len(back[0]) != 1 || len(back[0][0]) > 14+576 || len(back[1]) != 0) || n <= int(mtu) && len(back[1]) != 1 {
				t.Fatalf("%d bytes over %d with DF: %d answers, %d packets", n, mtu, len(back[0]), len(back[1]))
			}
			b.Advance(1e9) // there is a rate of errors
			b.Recv("a")
			b.Recv("b")
		}
	}
}

// TestJumboPieces: fragments of a large datagram that are themselves larger than
// an ordinary buffer, to the router and through it.
func TestJumboPieces(t *testing.T) {
	b := jumboPorts(t, 9000, 9000, nil)
	for i, n := range []int{9001, 20000, 60000, 65535} {
		ip := testbed.Echo("10.0.1.2", "10.0.1.1", n).IP()
		pkt.IPv4(ip).SetID(uint16(i))
		parts := testbed.Cut(ip, 8976, 0)
		got := packets(b.Exchange("a", frames(parts...), "a")[0])
		if !bytes.Equal(testbed.Join(got), replyTo(ip)) {
			t.Errorf("%d bytes: %d pieces, %d back", n, len(parts), len(got))
		}
	}
}

// TestJoinBounds looks at the limits of what is put together.
func TestJoinBounds(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, n := range []int{1899, 1900, 1905, 1906, 1920, 1921, 2000, 2112, 9000, 65520, 65521, 65522, 65535, 65536, 65543} {
			b := twoPorts(t, nil)
			p := testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: n}
			head := 20
			if v6 {
				p.Src, p.Dst, head = "2001:db8:1::2", "2001:db8:1::1", 40
			}
			ip := p.IP()
			parts := testbed.Cut(ip, 1440, uint32(n))
			want := fmt.Sprintf("a rx %d, a drop esp-no-sa 1", len(parts))
			if n > sal.MaxPacket {
				want = fmt.Sprintf("a rx %d, a drop reassembly-too-big %d", len(parts), len(parts))
			}
			if n-head > 0xffff || !v6 && n > 0xffff { // no fragment can say so
				continue
			}
			b.Exchange("a", frames(parts...), "a")
			b.Moved(want)
		}
	}
}

// TestNoLargeBuffer: without large buffers what needs one is lost under its name,
// and nothing else is.
func TestNoLargeBuffer(t *testing.T) {
	b := twoPorts(t, func(o *fastpath.Options) { o.Large = -1 })
	big := testbed.Cut(testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: 3000}.IP(), 1400, 0)
	b.Exchange("a", frames(big...), "a")
	b.Moved("a rx 3, a rx-discards 3, a drop no-large-buffer 3")
	small := testbed.Cut(testbed.Packet{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: 50, Len: 1800}.IP(), 1400, 1)
	b.Exchange("a", frames(small...), "a")
	b.Moved("a rx 2, a drop esp-no-sa 1")
}
