package afpacket_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/afpacket"
	"vrouter/pkg/sal/internal/nstest"
)

// BenchmarkSend compares the ways to send on a veth, in bursts of 64 frames that
// the far end throws away: the driver's sendmmsg and the kernel's transmit ring,
// through the queueing discipline and past it. It is what the driver's
// documentation quotes.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{60, 1400} {
		for _, bypass := range []bool{false, true} {
			way := map[bool]string{true: "+bypass"}[bypass]
			b.Run(fmt.Sprintf("sendmmsg%s/%dB", way, size), func(b *testing.B) { sendMsgs(b, size, bypass) })
			b.Run(fmt.Sprintf("ring-v2%s/%dB", way, size), func(b *testing.B) { sendRing(b, size, unix.TPACKET_V2, bypass) })
			b.Run(fmt.Sprintf("ring-v3%s/%dB", way, size), func(b *testing.B) { sendRing(b, size, unix.TPACKET_V3, bypass) })
		}
	}
}

func sendMsgs(b *testing.B, size int, bypass bool) {
	mid, far := nstest.New(b), nstest.New(b)
	mid.Veth("p", far, "e")
	far.Quiet("e")
	pl := pool(b, 4096)
	q := up(b, open(b, mid, afpacket.New(afpacket.Options{QdiscBypass: bypass}), pl, sal.PortConfig{Name: "p", Queues: 1, MTU: 1500})).Queue(0)
	c := pl.NewCache()
	defer c.Close()
	f := nstest.Frame(size)
	var bufs [64]uint32
	var d [64]sal.Desc
	n := 0
	for b.Loop() {
		k := c.AllocBurst(bufs[:])
		for i, x := range bufs[:k] {
			d[i] = sal.MakeDesc(x, sal.Headroom, uint16(size))
			copy(pl.Bytes(d[i]), f)
		}
		n += k
		for l := d[:k]; len(l) > 0; {
			l = l[q.TxBurst(c, l):]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/pkt")
}

func sendRing(b *testing.B, size, version int, bypass bool) {
	mid, far := nstest.New(b), nstest.New(b)
	mid.Veth("p", far, "e")
	far.Quiet("e")
	r := newTxRing(b, mid, "p", version, bypass)
	f := nstest.Frame(size)
	n := 0
	for b.Loop() {
		for range 64 {
			if r.put(f) {
				n++
			}
		}
		r.send()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/pkt")
}

// txRing is a transmit ring of the kernel's.
type txRing struct {
	fd, at                  int
	mem                     []byte
	status, length, payload int // offsets in a slot
}

const txSlots = 1024

func newTxRing(t testing.TB, n *nstest.NS, dev string, version int, bypass bool) *txRing {
	t.Helper()
	r := &txRing{status: 0, length: 4, payload: 32} // struct tpacket2_hdr
	if version == unix.TPACKET_V3 {
		r.status, r.length, r.payload = 20, 16, 48 // struct tpacket3_hdr
	}
	var err error
	n.Do(func() {
		if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, version)
		if err == nil && bypass {
			err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
		}
		if err == nil {
			const block = 1 << 16
			req := unix.TpacketReq3{Block_size: block, Block_nr: txSlots * 2048 / block, Frame_size: 2048, Frame_nr: txSlots}
			if version == unix.TPACKET_V3 {
				err = unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &req)
			} else {
				err = unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_TX_RING,
					&unix.TpacketReq{Block_size: req.Block_size, Block_nr: req.Block_nr, Frame_size: req.Frame_size, Frame_nr: req.Frame_nr})
			}
		}
		if err == nil {
			r.mem, err = unix.Mmap(r.fd, 0, txSlots*2048, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		}
		var q *unix.Ifreq
		if err == nil {
			q, err = unix.NewIfreq(dev)
		}
		if err == nil {
			err = unix.IoctlIfreq(r.fd, unix.SIOCGIFINDEX, q)
		}
		if err == nil {
			err = unix.Bind(r.fd, &unix.SockaddrLinklayer{Ifindex: int(q.Uint32())})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(r.mem); unix.Close(r.fd) })
	return r
}

// put fills the next slot; false when it is not free.
func (r *txRing) put(f []byte) bool {
	s := r.mem[r.at*2048:][:2048]
	word := (*uint32)(unsafe.Pointer(&s[r.status]))
	if atomic.LoadUint32(word) != unix.TP_STATUS_AVAILABLE {
		return false
	}
	copy(s[r.payload:], f)
	*(*uint32)(unsafe.Pointer(&s[r.length])) = uint32(len(f))
	atomic.StoreUint32(word, unix.TP_STATUS_SEND_REQUEST)
	r.at = (r.at + 1) % txSlots
	return true
}

func (r *txRing) send() {
	_, _, _ = unix.Syscall6(unix.SYS_SENDTO, uintptr(r.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}
