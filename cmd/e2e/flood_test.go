package e2e

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"vrouter/cmd/internal/lab"
)

// flood sends frames that next makes, as often a second, on a device.
type flood struct {
	sent atomic.Int64
	stop chan struct{}
	done chan error
}

// rawSocket sends whole frames on a device.
func rawSocket(n *lab.NS, dev string) (fd int, err error) {
	err = n.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
	return fd, err
}

func (b *bed) flood(n *lab.NS, dev string, rate int, next func() []byte) *flood {
	b.t.Helper()
	f := &flood{stop: make(chan struct{}), done: make(chan error, 1)}
	fd, err := rawSocket(n, dev)
	if err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer unix.Close(fd)
		start := time.Now()
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			select {
			case <-f.stop:
				tick.Stop()
				f.done <- nil
				return
			default:
			}
			due := int64(time.Since(start).Seconds() * float64(rate))
			for n := 0; f.sent.Load() < due && n < rate/100; n++ {
				if _, err := unix.Write(fd, next()); err != nil && err != unix.ENOBUFS {
					f.done <- err
					return
				}
				f.sent.Add(1)
			}
			if f.sent.Load() < due-int64(rate)/10 { // held up: forget the backlog
				start = time.Now().Add(-time.Duration(float64(f.sent.Load()) / float64(rate) * float64(time.Second)))
			}
		}
	}()
	return f
}

// end stops the flood and tells how many frames it had.
func (f *flood) end(t *testing.T) int {
	t.Helper()
	close(f.stop)
	if err := <-f.done; err != nil {
		t.Errorf("the flood broke off: %v", err)
	}
	return int(f.sent.Load())
}

// wanFrame is a frame to vr-a's WAN port.
func wanFrame(t *testing.T, to, from string, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	dst, err1 := net.ParseMAC(to)
	src, err2 := net.ParseMAC(from)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	eth := &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: layers.EthernetTypeIPv4}
	if _, v6 := l[0].(*layers.IPv6); v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append([]gopacket.SerializableLayer{eth}, l...)...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), buf.Bytes()...)
}

// espFrames are frames of a capture that carry ESP with a destination.
func espFrames(t *testing.T, file, dst string) (l [][]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		d, _, err := r.ReadPacketData()
		if err != nil {
			return l
		}
		p := gopacket.NewPacket(d, layers.LayerTypeEthernet, gopacket.NoCopy)
		if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.Protocol == layers.IPProtocolESP && ip.DstIP.String() == dst {
			l = append(l, d)
		}
	}
}

// An established tunnel goes on under floods of what nobody wants, which come in
// by the same port. The ratio of what arrives with and without the flood is
// printed; it is only judged where it would be out of the question.
func TestFloods(t *testing.T) {
	need(t, "tcpdump")
	b := configured(t)
	mac := func(n *lab.NS, dev string) string {
		out, err := n.Run("cat", "/sys/class/net/"+dev+"/address")
		if err != nil {
			t.Fatal(err)
		}
		return out[:17]
	}
	to, from := mac(b.A.NS, "wan0"), mac(b.Wan, "wan")

	// Some packets of the tunnel, to be sent again and to be damaged.
	wan, err := b.Wan.Capture("sample", "a")
	if err != nil {
		t.Fatal(err)
	}
	back := func(v6 bool) *stream {
		if v6 {
			return b.streamFrom(b.HostB, "[2001:db8:2::2]:9003", b.HostA, "[2001:db8:1::2]:9002", 2000, 200)
		}
		return b.streamFrom(b.HostB, "10.2.0.2:9003", b.HostA, "10.1.0.2:9002", 2000, 200)
	}
	const rate, length = 20000, time.Second
	s := back(false)
	time.Sleep(length)
	sent0, lost0, _ := s.end()
	wan.Stop()
	sample := espFrames(t, wan.File, "192.0.2.1")
	if len(sample) < 100 {
		t.Fatalf("only %d packets of the tunnel were captured", len(sample))
	}

	random := func(p []byte) []byte { _, _ = rand.Read(p); return p }
	ip4 := func(proto layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IPv4(192, 0, 2, 2), DstIP: net.IPv4(192, 0, 2, 1)}
	}
	const espAt = 14 + 20
	unknown := wanFrame(t, to, from, ip4(layers.IPProtocolESP), gopacket.Payload(random(make([]byte, 100))))
	n := uint32(0)
	copies := make([][]byte, len(sample))
	for i := range sample {
		copies[i] = append([]byte(nil), sample[i]...)
	}
	fragment := wanFrame(t, to, from, &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolESP, SrcIP: net.IPv4(192, 0, 2, 2), DstIP: net.IPv4(192, 0, 2, 1),
		Flags: layers.IPv4MoreFragments}, gopacket.Payload(random(make([]byte, 8))))
	scan := wanFrame(t, to, from, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolNoNextHeader, SrcIP: net.ParseIP("2001:db8:ff::77"), DstIP: net.ParseIP("2001:db8:1::1:1")},
		gopacket.Payload(random(make([]byte, 8))))
	for _, f := range []struct {
		name    string
		reasons []string // all of the flood dies for one of them, what the ports lose aside
		next    func() []byte
		v6      bool // the tunnel's packets
	}{
		{"unknown SPI", []string{"esp-no-sa"}, func() []byte {
			n++
			binary.BigEndian.PutUint32(unknown[espAt:], 0x70000000+n)
			binary.BigEndian.PutUint32(unknown[espAt+4:], n)
			return unknown
		}, false},
		{"bad ICV, numbers far ahead", []string{"esp-bad-icv"}, func() []byte {
			n++
			p := copies[int(n)%len(copies)]
			binary.BigEndian.PutUint32(p[espAt+4:], 1_000_000+n)
			return p
		}, false},
		{"replays", []string{"esp-replay", "esp-bad-icv"}, func() []byte { // ESN: what is left of the window is taken for far ahead
			n++
			return sample[int(n)%len(sample)]
		}, false},
		{"tiny fragments", nil, func() []byte {
			n++
			binary.BigEndian.PutUint16(fragment[14+4:], uint16(n))
			binary.BigEndian.PutUint16(fragment[14+6:], 0x2000|uint16(n>>16%2)) // first ones and second ones
			fragment[14+14], fragment[14+15] = byte(n>>3), byte(n%7)            // senders of all kinds
			fragment[14+10], fragment[14+11] = 0, 0
			binary.BigEndian.PutUint16(fragment[14+10:], headerSum(fragment[14:34]))
			return fragment
		}, false},
		{"scan of an IPv6 /64", nil, func() []byte {
			n++
			binary.BigEndian.PutUint32(scan[14+24+12:], n)
			return scan
		}, true},
	} {
		t.Run(f.name, func(t *testing.T) {
			before := b.drops(b.A)
			fl := b.flood(b.Wan, "wan", rate, f.next)
			s := back(f.v6)
			time.Sleep(length)
			sent, lost, dup := s.end()
			flooded := fl.end(t)
			after := b.drops(b.A)
			moved, died := map[string]int{}, 0
			for r, x := range after {
				if x != before[r] {
					moved[r] = x - before[r]
				}
			}
			for _, r := range f.reasons {
				died += moved[r]
			}
			ratio := float64(sent-lost) / float64(sent) * float64(sent0) / float64(max(1, sent0-lost0))
			t.Logf("%d packets of flood beside %d of the tunnel: ratio %.3f of what arrives without it (%d of %d lost, then %d of %d); drops %v", flooded, sent, ratio, lost0, sent0, lost, sent, moved)
			if dup != 0 || lost > sent/2 {
				t.Errorf("%d of %d packets lost, %d twice", lost, sent, dup)
			}
			if flooded < rate/10 {
				t.Errorf("a flood of %d packets proves nothing", flooded)
			}
			if f.reasons != nil && died < flooded/2 {
				t.Errorf("only %d of %d died as %v: %v", died, flooded, f.reasons, moved)
			}
			// And it leaves nothing behind.
			s = back(f.v6)
			time.Sleep(300 * time.Millisecond)
			if sent, lost, _ := s.end(); lost > sent/10 {
				t.Errorf("after the flood %d of %d packets are lost", lost, sent)
			}
			b.resolve()
		})
	}
	b.buffersAccounted()
}

// headerSum is the checksum of an IPv4 header whose checksum field is 0.
func headerSum(h []byte) uint16 {
	var s uint32
	for i := 0; i < len(h); i += 2 {
		s += uint32(h[i])<<8 | uint32(h[i+1])
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
