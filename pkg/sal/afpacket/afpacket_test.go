package afpacket_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
	"vrouter/pkg/sal/saltest"
)

// rings runs a test over both kinds of receive rings.
func rings(t *testing.T, f func(*testing.T, afpacket.Options)) {
	for _, blocks := range []bool{false, true} {
		t.Run(map[bool]string{false: "v2", true: "v3"}[blocks], func(t *testing.T) { f(t, afpacket.Options{Blocks: blocks}) })
	}
}

func pool(t testing.TB, n int) *sal.Pool {
	t.Helper()
	p, err := sal.NewPoolLarge(n, 512)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// open opens a device of a namespace and leaves it down.
func open(t testing.TB, n *nstest.NS, d *afpacket.Driver, pl *sal.Pool, cfg sal.PortConfig) sal.Port {
	t.Helper()
	var p sal.Port
	var err error
	n.Do(func() { p, err = d.Open(cfg, pl) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func up(t testing.TB, p sal.Port) sal.Port {
	t.Helper()
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); !p.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no link")
		}
	}
	return p
}

// receive waits for a frame of a type.
func receive(t testing.TB, pl *sal.Pool, q sal.PortQueue, typ uint16) []byte {
	t.Helper()
	return receiveIn(2*time.Second, pl, q, typ)
}

// soon is long enough for what shall not come.
const soon = 200 * time.Millisecond

func receiveIn(patience time.Duration, pl *sal.Pool, q sal.PortQueue, typ uint16) []byte {
	c := pl.NewCache()
	defer c.Close()
	var d [1]sal.Desc
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if q.RxBurst(c, d[:]) == 0 {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		f := bytes.Clone(pl.Bytes(d[0]))
		c.FreeDescs(d[:])
		if binary.BigEndian.Uint16(f[12:]) == typ {
			return f
		}
	}
	return nil
}

func TestSuite(t *testing.T) { rings(t, testSuite) }

func testSuite(t *testing.T, o afpacket.Options) { saltest.RunPort(t, rig(o, 1500)) }

func TestJumboSuite(t *testing.T) {
	rings(t, func(t *testing.T, o afpacket.Options) { saltest.RunJumbo(t, rig(o, sal.MaxMTU)) })
}

func rig(o afpacket.Options, mtu int) func(t *testing.T) *saltest.PortRig {
	return func(t *testing.T) *saltest.PortRig {
		mid, far := nstest.New(t), nstest.New(t)
		pl := pool(t, 8192)
		rig := &saltest.PortRig{
			Within: mid.Do, Pool: pl, MTU: mtu,
			Unplug: func() { far.Run("ip", "link", "set", "dev", "e", "down") },
			Plug:   func() { far.Run("ip", "link", "set", "dev", "e", "up") },
			Remove: func() { mid.Run("ip", "link", "del", "dev", "p") },
		}
		rig.Restore = func() {
			mid.Veth("p", far, "e")
			far.Run("ip", "link", "set", "dev", "e", "mtu", fmt.Sprint(mtu))
			far.Quiet("e")
			raw := far.Raw("e")
			rig.Send, rig.Recv = raw.Send, raw.Recv
		}
		rig.Restore()
		d := afpacket.New(o)
		rig.Open = func() sal.Port {
			return open(t, mid, d, pl, sal.PortConfig{Name: "wan", Device: "p", Queues: 1, MTU: mtu})
		}
		rig.Port = rig.Open()
		return rig
	}
}

// TestLost: the sockets of several queues cannot follow to a device that comes
// in the place of another: the port says so, and a new one works.
func TestLost(t *testing.T) { rings(t, testLost) }

func testLost(t *testing.T, o afpacket.Options) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	pl := pool(t, 4096)
	d := afpacket.New(o)
	cfg := sal.PortConfig{Name: "p", Queues: 2, MTU: 1500}
	p := up(t, open(t, mid, d, pl, cfg))
	mid.Run("ip", "link", "del", "dev", "p")
	mid.Veth("p", far, "e")
	for end := time.Now().Add(5 * time.Second); !p.(sal.Loser).Lost(); time.Sleep(time.Millisecond) {
		if p.Link() || time.Now().After(end) {
			t.Fatalf("link %v, and not lost", p.Link())
		}
	}
	p.Close()
	p = up(t, open(t, mid, d, pl, cfg))
	raw := far.Raw("e")
	f := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}, make([]byte, 50)...)
	if err := raw.Send(f); err != nil {
		t.Fatal(err)
	}
	if receiveIn(time.Second, pl, p.Queue(0), 0x88b5) == nil && receiveIn(time.Second, pl, p.Queue(1), 0x88b5) == nil {
		t.Error("nothing is received")
	}
}

// site is two hosts with a wire of two ports between them.
func site(t testing.TB, o afpacket.Options, queues, mtu int) (left, right *nstest.NS, l, r sal.Port) {
	left, mid, right := nstest.New(t), nstest.New(t), nstest.New(t)
	mid.Veth("l", left, "e")
	mid.Veth("r", right, "e")
	for a, ns := range []*nstest.NS{left, right} {
		ns.Run("ip", "link", "set", "dev", "e", "mtu", fmt.Sprint(mtu))
		ns.Run("ip", "addr", "add", fmt.Sprintf("10.9.0.%d/24", a+1), "dev", "e")
		ns.Run("ip", "addr", "add", fmt.Sprintf("fd09::%d/64", a+1), "dev", "e", "nodad")
	}
	pl := pool(t, 8192)
	d := afpacket.New(o)
	l = up(t, open(t, mid, d, pl, sal.PortConfig{Name: "l", Queues: queues, MTU: mtu}))
	r = up(t, open(t, mid, d, pl, sal.PortConfig{Name: "r", Queues: queues, MTU: mtu}))
	stop := saltest.Wire(pl, l, r)
	t.Cleanup(func() {
		stop()
		l.Close()
		r.Close()
		if s := pl.Stats(); s.Free != s.Total {
			t.Errorf("buffers lost: %+v", s)
		}
	})
	return left, right, l, r
}

// TestTCP runs real TCP with the kernel's default offloads through two ports:
// checksums left to the device and super-frames of 64 KiB, in both families.
func TestTCP(t *testing.T) { rings(t, testTCP) }

func testTCP(t *testing.T, o afpacket.Options) {
	for _, x := range []struct{ queues, mtu int }{{1, 1500}, {2, 1500}, {1, sal.MaxMTU}} {
		t.Run(fmt.Sprintf("queues=%d/mtu=%d", x.queues, x.mtu), func(t *testing.T) {
			left, right, l, r := site(t, o, x.queues, x.mtu)
			left.Run("ping", "-c", "5", "-i", "0.01", "-W", "2", "10.9.0.2")
			nstest.TCP(t, left, right, "10.9.0.2", 1)
			nstest.TCP(t, right, left, "fd09::1", 1)
			for _, p := range []sal.Port{l, r} {
				if s := p.Stats(); s.RxErrors+s.RxUncut+s.TxErrors > 0 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// TestVLAN: the kernel takes tags off what it receives, and the port puts them
// back, also on the segments of a super-frame.
func TestVLAN(t *testing.T) { rings(t, testVLAN) }

func testVLAN(t *testing.T, o afpacket.Options) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	raw := far.Raw("e")
	pl := pool(t, 4096)
	p := up(t, open(t, mid, afpacket.New(o), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
	for _, tpid := range []uint16{0x8100, 0x88a8} {
		for _, n := range []int{60, 61, 1514, 1518} {
			if n == 1518 && tpid == 0x88a8 {
				continue // packet sockets do not send such
			}
			f := make([]byte, n)
			for i := range f {
				f[i] = byte(i * 3)
			}
			f[0] = 2
			binary.BigEndian.PutUint16(f[12:], tpid)
			binary.BigEndian.PutUint16(f[14:], 0xe007)
			binary.BigEndian.PutUint16(f[16:], 0x88b5)
			if err := raw.Send(f); err != nil {
				t.Fatal(err)
			}
			if g := receive(t, pl, p.Queue(0), tpid); !bytes.Equal(g, f) {
				t.Errorf("a tagged frame of %d bytes arrives as\n%x, sent\n%x", n, g, f)
			}
		}
	}

	if err := raw.Offload(); err != nil {
		t.Fatal(err)
	}
	// 4000 bytes of TCP behind a tag, to be cut after each 1000.
	f := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x20, 7, 8, 0,
		0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(f[20:], 4040)
	for i := range 4000 {
		f = append(f, byte(i*7))
	}
	vnet := make([]byte, 10)
	vnet[0], vnet[1] = 1, 1 // checksum to be completed, TCP over IPv4
	binary.NativeEndian.PutUint16(vnet[2:], 58)
	binary.NativeEndian.PutUint16(vnet[4:], 1000)
	binary.NativeEndian.PutUint16(vnet[6:], 38)
	binary.NativeEndian.PutUint16(vnet[8:], 16)
	if err := raw.Send(append(vnet, f...)); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		g := receive(t, pl, p.Queue(0), 0x8100)
		if len(g) != 1058 || g[15] != 7 || !bytes.Equal(g[58:], f[58+i*1000:][:1000]) || binary.BigEndian.Uint32(g[42:]) != uint32(1+i*1000) {
			t.Fatalf("segment %d arrives as\n%x", i, g)
		}
		if sum := pkt.Pseudo4([4]byte(g[30:]), [4]byte(g[34:]), 6, len(g)-38).Add(g[38:]); sum.Fold() != 0xffff {
			t.Errorf("segment %d has a wrong checksum", i)
		}
	}
}

// TestUDPSegments sends UDP with UDP_SEGMENT: one system call, many datagrams.
func TestUDPSegments(t *testing.T) { rings(t, testUDPSegments) }

func testUDPSegments(t *testing.T, o afpacket.Options) {
	left, right, _, _ := site(t, o, 1, 1500)
	var rx, tx int
	var err error
	right.Do(func() {
		rx, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err == nil {
			err = unix.Bind(rx, &unix.SockaddrInet4{Port: 4000})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(rx)
	left.Do(func() {
		if tx, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err == nil {
			err = unix.SetsockoptInt(tx, unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
		}
	})
	if err != nil {
		t.Skip("the kernel has no UDP_SEGMENT:", err)
	}
	defer unix.Close(tx)
	left.Run("ping", "-c", "1", "-W", "2", "10.9.0.2") // resolves
	sent := make([]byte, 20500)
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	if err := unix.Sendto(tx, sent, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 9, 0, 2}, Port: 4000}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(rx, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	var got []byte
	buf := make([]byte, 2000)
	for k := 0; len(got) < len(sent); k++ {
		n, _, err := unix.Recvfrom(rx, buf, 0)
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), len(sent), err)
		}
		if n != min(1000, len(sent)-len(got)) {
			t.Fatalf("datagram %d has %d bytes", k, n)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, sent) {
		t.Error("other bytes came")
	}
}

// TestLargerSegments: a sender with a larger MTU makes segments that no buffer
// here takes. They are counted.
func TestLargerSegments(t *testing.T) { rings(t, testLargerSegments) }

func testLargerSegments(t *testing.T, o afpacket.Options) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	far.Run("ip", "link", "set", "dev", "e", "mtu", "9000")
	raw := far.Raw("e")
	pl := pool(t, 4096)
	// The device itself would not let it through: its MTU is raised behind the
	// port's back.
	p := up(t, open(t, mid, afpacket.New(o), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
	mid.Run("ip", "link", "set", "dev", "p", "mtu", "9000")
	for _, n := range []int{1519, 1980, 5000} {
		before := p.Stats().RxErrors
		f := make([]byte, n)
		f[0], f[12], f[13] = 2, 0x88, 0xb5
		if err := raw.Send(f); err != nil {
			t.Fatal(err)
		}
		if g := receiveIn(soon, pl, p.Queue(0), 0x88b5); g != nil {
			t.Errorf("a frame of %d bytes is received with %d", n, len(g))
		}
		if e := p.Stats().RxErrors; e != before+1 {
			t.Errorf("a frame of %d bytes: %d errors, before %d", n, e, before)
		}
	}
}

// TestOwnMAC: with another address than the device's, frames for it come in.
func TestOwnMAC(t *testing.T) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	raw := far.Raw("e")
	pl := pool(t, 4096)
	mac := [6]byte{2, 0xaa, 0, 0, 0, 1}
	p := up(t, open(t, mid, afpacket.New(afpacket.Options{}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1400, MAC: mac}))
	if i := p.Info(); i.MAC != mac {
		t.Errorf("%+v", i)
	}
	if out := mid.Run("ip", "-d", "link", "show", "p"); !bytes.Contains([]byte(out), []byte("promiscuity 1")) || !bytes.Contains([]byte(out), []byte("mtu 1400")) {
		t.Errorf("the device is not promiscuous or has another MTU:\n%s", out)
	}
	f := append(append(mac[:], 2, 0, 0, 0, 0, 9, 0x88, 0xb5), make([]byte, 46)...)
	if err := raw.Send(f); err != nil {
		t.Fatal(err)
	}
	if receive(t, pl, p.Queue(0), 0x88b5) == nil {
		t.Error("a frame for the own address is not received")
	}
}

// TestOwnFramesIgnored: what the host itself sends by the device is not
// received.
func TestOwnFramesIgnored(t *testing.T) { rings(t, testOwnFramesIgnored) }

func testOwnFramesIgnored(t *testing.T, o afpacket.Options) {
	for _, queues := range []int{1, 2} {
		mid, far := nstest.New(t), nstest.New(t)
		mid.Veth("p", far, "e")
		pl := pool(t, 4096)
		p := up(t, open(t, mid, afpacket.New(o), pl, sal.PortConfig{Name: "p", Queues: queues, MTU: 1500}))
		host := mid.Raw("p")
		f := make([]byte, 60)
		f[0], f[6], f[12], f[13] = 2, 2, 0x88, 0xb5
		for range 10 {
			if err := host.Send(f); err != nil {
				t.Fatal(err)
			}
		}
		for i := range queues {
			if g := receiveIn(soon, pl, p.Queue(i), 0x88b5); g != nil {
				t.Errorf("%d queues: the host's own frame is received", queues)
			}
		}
	}
}

// TestIsolation: while the port is open the kernel neither answers nor forwards
// what the device receives, and the port receives it all the same.
func TestIsolation(t *testing.T) {
	mid, far, behind := nstest.New(t), nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	mid.Veth("q", behind, "e")
	mid.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "p")
	mid.Run("ip", "addr", "add", "10.8.0.1/24", "dev", "q")
	mid.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	far.Run("ip", "addr", "add", "10.9.0.2/24", "dev", "e")
	far.Run("ip", "route", "add", "default", "via", "10.9.0.1")
	behind.Run("ip", "addr", "add", "10.8.0.2/24", "dev", "e")
	behind.Run("ip", "route", "add", "default", "via", "10.8.0.1")
	ping := func(to string) bool {
		return far.Command("ping", "-c", "3", "-i", "0.05", "-W", "1", to).Run() == nil
	}
	if !ping("10.9.0.1") || !ping("10.8.0.2") {
		t.Fatal("the kernel does not route: the test would prove nothing")
	}
	pl := pool(t, 4096)
	for _, share := range []bool{false, true} {
		d := afpacket.New(afpacket.Options{Share: share})
		p := up(t, open(t, mid, d, pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
		if i := p.Info(); i.Shared != share {
			t.Skipf("the kernel cannot isolate a device: %+v", i)
		}
		if ping("10.9.0.1") != share || ping("10.8.0.2") != share {
			t.Errorf("shared %v, but the kernel does otherwise", share)
		}
		if receive(t, pl, p.Queue(0), 0x0800) == nil {
			t.Errorf("shared %v: the port does not receive", share)
		}
		p.Close()
		mid.Run("ip", "link", "set", "dev", "p", "up")
		if out := mid.Run("tc", "qdisc", "show", "dev", "p"); bytes.Contains([]byte(out), []byte("clsact")) {
			t.Errorf("left behind: %s", out)
		}
		if !ping("10.9.0.1") || !ping("10.8.0.2") {
			t.Error("closed, but the kernel does not route again")
		}
	}
	// What a killed process left behind is taken over.
	left := open(t, mid, afpacket.New(afpacket.Options{}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500})
	p := up(t, open(t, mid, afpacket.New(afpacket.Options{}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
	if p.Info().Shared || ping("10.9.0.1") {
		t.Error("a device that was isolated already")
	}
	p.Close()
	left.Close()
}

// TestDeviceGone removes the device under the port and brings another by its
// name. A port with an address and one queue of its own follows by itself.
func TestDeviceGone(t *testing.T) { rings(t, testDeviceGone) }

func testDeviceGone(t *testing.T, o afpacket.Options) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	pl := pool(t, 4096)
	p := up(t, open(t, mid, afpacket.New(o), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, 5}}))
	was := p.Info()
	mid.Run("ip", "link", "del", "dev", "p")
	for end := time.Now().Add(5 * time.Second); p.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("link without a device")
		}
	}
	c := pl.NewCache()
	var d [4]sal.Desc
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); { // what the far end's kernel said unasked
		c.FreeDescs(d[:p.Queue(0).RxBurst(c, d[:])])
	}
	for range 300 {
		if n := p.Queue(0).RxBurst(c, d[:]); n != 0 {
			t.Fatalf("%d frames", n)
		}
	}
	b, _ := c.Alloc()
	if n := p.Queue(0).TxBurst(c, []sal.Desc{sal.MakeDesc(b, 128, 60)}); n != 1 {
		t.Errorf("%d frames taken", n)
	}
	if s := p.Stats(); s.TxErrors != 1 {
		t.Errorf("%+v", s)
	}
	c.Close()

	mid.Veth("p", far, "e2")
	up(t, p)
	if now := p.Info(); now.IfIndex == was.IfIndex || now.MAC != was.MAC || p.(sal.Loser).Lost() {
		t.Errorf("%+v, was %+v", now, was)
	}
	raw := far.Raw("e2")
	f := make([]byte, 60)
	f[0], f[12], f[13] = 2, 0x88, 0xb5
	if err := raw.Send(f); err != nil {
		t.Fatal(err)
	}
	if receive(t, pl, p.Queue(0), 0x88b5) == nil {
		t.Error("the new device's frames are not received")
	}
	p.Close()
	if s := pl.Stats(); s.Free != s.Total {
		t.Errorf("buffers lost: %+v", s)
	}
}

// TestRingOverflow: what finds no room is counted, and the port goes on.
func TestRingOverflow(t *testing.T) { rings(t, testRingOverflow) }

func testRingOverflow(t *testing.T, o afpacket.Options) {
	mid, far := nstest.New(t), nstest.New(t)
	mid.Veth("p", far, "e")
	raw := far.Raw("e")
	pl := pool(t, 4096)
	p := up(t, open(t, mid, afpacket.New(afpacket.Options{Blocks: o.Blocks, Slots: 64}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500}))
	f := make([]byte, 60)
	f[0], f[12], f[13] = 2, 0x88, 0xb5
	const sent = 5000 // the least ring of blocks has room for some 2000
	for range sent {
		if err := raw.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	for receiveIn(soon, pl, p.Queue(0), 0x88b5) != nil {
		got++
	}
	s := p.Stats()
	if got == 0 || got > 64 && !o.Blocks || got == sent || s.RxDropped < uint64(sent-got) {
		t.Errorf("%d of %d frames received, %+v", got, sent, s)
	}
	if again := p.Stats(); again.RxDropped < s.RxDropped {
		t.Errorf("a counter went back: %+v, was %+v", again, s)
	}
	if err := raw.Send(f); err != nil || receive(t, pl, p.Queue(0), 0x88b5) == nil {
		t.Error("after an overflow nothing is received", err)
	}
}

func TestRefusals(t *testing.T) {
	n := nstest.New(t)
	pl := pool(t, 16)
	d := afpacket.New(afpacket.Options{})
	n.Veth("p", n, "e")
	p := open(t, n, d, pl, sal.PortConfig{Name: "p", Queues: 1})
	for name, x := range map[string]struct {
		cfg  sal.PortConfig
		want error
	}{
		"twice":         {sal.PortConfig{Name: "x", Device: "p", Queues: 1}, sal.ErrBusy},
		"no device":     {sal.PortConfig{Name: "nope", Queues: 1}, sal.ErrNotFound},
		"no Ethernet":   {sal.PortConfig{Name: "lo", Queues: 1}, sal.ErrNotSupported},
		"no queue":      {sal.PortConfig{Name: "e"}, sal.ErrInvalid},
		"queues":        {sal.PortConfig{Name: "e", Queues: 1000}, sal.ErrInvalid},
		"MTU":           {sal.PortConfig{Name: "e", Queues: 1, MTU: 9217}, sal.ErrInvalid},
		"MTU too low":   {sal.PortConfig{Name: "e", Queues: 1, MTU: 1}, sal.ErrInvalid},
		"name too long": {sal.PortConfig{Name: "a-name-of-17-byte", Queues: 1}, sal.ErrInvalid},
	} {
		n.Do(func() {
			if _, err := d.Open(x.cfg, pl); !errors.Is(err, x.want) {
				t.Errorf("%s: %v, want %v", name, err, x.want)
			}
		})
	}
	p.Close()
	up(t, open(t, n, d, pl, sal.PortConfig{Name: "p", Queues: 1}))
}
