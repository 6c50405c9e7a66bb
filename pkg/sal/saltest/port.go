package saltest

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// PortRig is an open port, down, with one queue, and the other end of its
// cable.
type PortRig struct {
	Port sal.Port
	Pool *sal.Pool // at least 4096 buffers, and nobody else's
	MTU  int
	// Send puts a frame onto the cable towards the port.
	Send func(frame []byte) error
	// Recv takes the next frame that the port has sent; nil when none comes
	// for some 200 ms.
	Recv func() []byte
	// Unplug and Plug, where there is such a thing, take the carrier away and
	// give it back.
	Unplug, Plug func()
	// Remove, where the device can be, takes it away, and Restore makes one like
	// it, with the far end for Send and Recv. Open opens a port on it, down, where
	// the first one does not find it by itself (sal.Loser).
	Remove, Restore func()
	Open            func() sal.Port
	// Within runs a function in the network namespace that the port was opened in;
	// nil: that of the test.
	Within func(func())
}

// etherType is the suite's own (IEEE 802 local experimental 1): kernels speak
// unasked, and what they say is not counted.
const etherType = 0x88b5

// RunPort runs the conformance suite for port drivers against ports that rig
// opens, a fresh one for each test.
func RunPort(t *testing.T, rig func(t *testing.T) *PortRig) {
	runPort(t, rig, []portTest{
		{"Info", portInfo}, {"Receive", portReceive}, {"Send", portSend}, {"Order", portOrder}, {"NoBuffers", portNoBuffers},
		{"Down", portDown}, {"Link", portLink}, {"Wake", portWake}, {"Lost", portLost}, {"Close", portClose}, {"AddQueues", portAddQueues}, {"Allocations", portAllocations},
	})
}

// RunJumbo runs what there is of the suite about frames of all lengths, against
// ports with a large MTU and a pool with large buffers.
func RunJumbo(t *testing.T, rig func(t *testing.T) *PortRig) {
	runPort(t, rig, []portTest{{"Receive", portReceive}, {"Send", portSend}, {"NoLargeBuffers", portNoLargeBuffers}, {"Allocations", portAllocations}})
}

type portTest struct {
	name string
	f    func(*port)
}

func runPort(t *testing.T, rig func(t *testing.T) *PortRig, tests []portTest) {
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			r := rig(t)
			p := &port{T: t, PortRig: r, c: r.Pool.NewCache(), q: r.Port.Queue(0)}
			if err := r.Port.SetUp(true); err != nil {
				t.Fatal(err)
			}
			p.linkUp()
			x.f(p)
			p.accounted()
			if err := r.Port.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Port.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
			p.c.Close()
			if s := r.Pool.Stats(); s.Free != s.Total {
				t.Errorf("buffers lost: %+v", s)
			}
		})
	}
}

type port struct {
	*testing.T
	*PortRig
	c *sal.Cache
	q sal.PortQueue
}

func (p *port) linkUp() {
	p.Helper()
	for end := time.Now().Add(5 * time.Second); !p.Port.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.Fatal("no link")
		}
	}
}

// frame is a frame of n bytes with a number in it.
func (p *port) frame(n int, id uint32) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9}, pattern(n-12)...)
	binary.BigEndian.PutUint16(f[12:], etherType)
	binary.BigEndian.PutUint32(f[14:], id)
	return f
}

// receive waits for a frame of the suite's.
func (p *port) receive() (sal.Desc, bool) { return p.receiveIn(2 * time.Second) }

func (p *port) receiveIn(patience time.Duration) (sal.Desc, bool) {
	var d [1]sal.Desc
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if p.q.RxBurst(p.c, d[:]) == 0 {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		if b := p.Pool.Bytes(d[0]); len(b) >= 18 && binary.BigEndian.Uint16(b[12:]) == etherType {
			return d[0], true
		}
		p.c.FreeDescs(d[:])
	}
	return 0, false
}

// recv is the next of the suite's frames at the far end.
func (p *port) recv() []byte {
	for {
		f := p.PortRig.Recv()
		if f == nil || len(f) >= 18 && binary.BigEndian.Uint16(f[12:]) == etherType {
			return f
		}
	}
}

// alloc makes a frame in a buffer.
func (p *port) alloc(f []byte) sal.Desc {
	p.Helper()
	b, ok := p.c.AllocFor(len(f))
	if !ok {
		p.Fatal("no buffer left")
	}
	return p.fill(b, f)
}

// allocLarge puts a frame into a large buffer whatever its length, where the
// rig's pool has one.
func (p *port) allocLarge(f []byte) sal.Desc {
	p.Helper()
	b, ok := p.c.AllocLarge()
	if !ok {
		return p.alloc(f)
	}
	return p.fill(b, f)
}

func (p *port) fill(b uint32, f []byte) sal.Desc {
	d := sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
	copy(p.Pool.Bytes(d), f)
	return d
}

// send sends all frames, as often as it takes.
func (p *port) send(d []sal.Desc) {
	p.Helper()
	for end := time.Now().Add(5 * time.Second); len(d) > 0; {
		d = d[p.q.TxBurst(p.c, d):]
		if time.Now().After(end) {
			p.Fatal("the port takes no frames")
		}
	}
}

// accounted: free, in caches and held are all there are.
func (p *port) accounted() {
	p.Helper()
	held := 0
	for k := range p.Port.Info().Queues {
		held += p.Port.Queue(k).Held()
	}
	if s := p.Pool.Stats(); s.Free+s.Cached+held != s.Total {
		p.Errorf("buffers: %+v, %d held", s, held)
	}
}

func portInfo(p *port) {
	i := p.Port.Info()
	if i.Name == "" || i.Driver == "" || i.Device == "" || i.Queues != 1 || i.MAC == ([6]byte{}) || i.MAC[0]&1 != 0 {
		p.Errorf("%+v", i)
	}
}

// sizes of frames up to the MTU.
func (p *port) sizes() []int {
	l := []int{}
	for n := 60; n <= p.MTU+14; n += 1 + n/16 {
		l = append(l, n)
	}
	if p.MTU > sal.MaxFrame {
		for n := sal.MaxFrame - 10; n <= sal.MaxFrame+10; n++ {
			l = append(l, n)
		}
		l = append(l, 2047, 2048, 2049, sal.BufSize, sal.BufSize+1, 4095, 4096, 4097)
	}
	return append(l, p.MTU+13, p.MTU+14)
}

func portReceive(p *port) {
	for i, n := range p.sizes() {
		f := p.frame(n, uint32(i))
		if err := p.PortRig.Send(f); err != nil {
			p.Fatal(err)
		}
		d, ok := p.receive()
		if !ok {
			p.Fatalf("a frame of %d bytes is not received", n)
		}
		if !bytes.Equal(p.Pool.Bytes(d), f) {
			p.Fatalf("a frame of %d bytes arrives as\n%x, sent\n%x", n, p.Pool.Bytes(d), f)
		}
		if d.Off() < sal.Headroom || int(d.Off())+int(d.Len())+sal.Tailroom > p.Pool.End(d.Buf()) {
			p.Fatalf("a frame of %d bytes lies at %d", n, d.Off())
		}
		p.c.FreeDescs([]sal.Desc{d})
	}
}

func portSend(p *port) {
	for i, n := range p.sizes() {
		f := p.frame(n, uint32(i))
		for _, d := range []sal.Desc{p.alloc(f), p.allocLarge(f)} {
			p.send([]sal.Desc{d})
			if got := p.recv(); !bytes.Equal(got, f) {
				p.Fatalf("a frame of %d bytes in buffer %d arrives as\n%x, sent\n%x", n, d.Buf(), got, f)
			}
		}
	}
	if n := p.q.TxBurst(p.c, nil); n != 0 {
		p.Errorf("an empty burst sends %d", n)
	}
}

// portOrder moves many frames each way: none lost, none twice, in order.
func portOrder(p *port) {
	const total = 2000
	next := uint32(0)
	for i := uint32(0); i < total; i++ {
		if err := p.PortRig.Send(p.frame(64+int(i%900), i)); err != nil {
			p.Fatal(err)
		}
		if i%50 < 49 && i != total-1 {
			continue
		}
		for next <= i {
			d, ok := p.receive()
			if !ok {
				p.Fatalf("frame %d of %d is lost; %+v", next, i, p.Port.Stats())
			}
			if id := binary.BigEndian.Uint32(p.Pool.Bytes(d)[14:]); id != next || int(d.Len()) != 64+int(id%900) {
				p.Fatalf("frame %d came for %d, %d bytes", id, next, d.Len())
			}
			p.c.FreeDescs([]sal.Desc{d})
			next++
		}
	}
	next = 0
	for i := uint32(0); i < total; {
		var l []sal.Desc
		for range 50 {
			l = append(l, p.alloc(p.frame(64+int(i%900), i)))
			i++
		}
		p.send(l)
		for next < i {
			f := p.recv()
			if f == nil {
				p.Fatalf("frame %d is lost; %+v", next, p.Port.Stats())
			}
			if id := binary.BigEndian.Uint32(f[14:]); id != next {
				p.Fatalf("frame %d came for %d", id, next)
			}
			next++
		}
	}
}

// portNoBuffers: with an empty pool nothing is received and nothing breaks.
func portNoBuffers(p *port) {
	hoard := make([]uint32, p.Pool.Size())
	n := p.c.AllocBurst(hoard)
	sent := p.PortRig.Send(p.frame(100, 1)) == nil // cannot be where the far end uses the pool too
	var d [8]sal.Desc
	for range 20 {
		if k := p.q.RxBurst(p.c, d[:]); k != 0 {
			p.Fatalf("%d frames without a buffer", k)
		}
		time.Sleep(time.Millisecond)
	}
	for _, b := range hoard[:n] {
		p.c.Free(b)
	}
	// The frame may have been lost, under a counter; the next one comes.
	if err := p.PortRig.Send(p.frame(100, 2)); err != nil {
		p.Fatal(err)
	}
	x, ok := p.receive()
	if !ok {
		p.Fatal("with buffers again, nothing is received")
	}
	p.c.FreeDescs([]sal.Desc{x})
	if binary.BigEndian.Uint32(p.Pool.Bytes(x)[14:]) == 1 {
		if x, ok = p.receive(); !ok {
			p.Fatal("the second frame is lost")
		}
		p.c.FreeDescs([]sal.Desc{x})
	} else if sent && p.Port.Stats().RxDropped == 0 {
		p.Error("a frame was lost and not counted")
	}
}

// portNoLargeBuffers: without large buffers a jumbo frame is not received, and
// what comes behind it is.
func portNoLargeBuffers(p *port) {
	var hoard []uint32
	for b, ok := p.c.AllocLarge(); ok; b, ok = p.c.AllocLarge() {
		hoard = append(hoard, b)
	}
	sent := p.PortRig.Send(p.frame(p.MTU, 1)) == nil // cannot be where the far end uses the pool too
	var d [8]sal.Desc
	for range 20 {
		if n := p.q.RxBurst(p.c, d[:]); n != 0 {
			p.Fatalf("%d frames without a large buffer", n)
		}
		time.Sleep(time.Millisecond)
	}
	for _, b := range hoard {
		p.c.Free(b)
	}
	if err := p.PortRig.Send(p.frame(p.MTU, 2)); err != nil {
		p.Fatal(err)
	}
	x, ok := p.receive()
	if ok && sent && binary.BigEndian.Uint32(p.Pool.Bytes(x)[14:]) == 1 { // it waited
		p.c.FreeDescs([]sal.Desc{x})
		x, ok = p.receive()
	} else if sent && p.Port.Stats().RxDropped == 0 {
		p.Error("a frame is lost and not counted")
	}
	if !ok || binary.BigEndian.Uint32(p.Pool.Bytes(x)[14:]) != 2 || int(x.Len()) != p.MTU {
		p.Fatal("with large buffers again, the frame does not come")
	}
	p.c.FreeDescs([]sal.Desc{x})
}

// portClose: with frames waiting in both directions.
func portClose(p *port) {
	for i := range 20 {
		if err := p.PortRig.Send(p.frame(100, uint32(i))); err != nil {
			p.Fatal(err)
		}
		p.send([]sal.Desc{p.alloc(p.frame(100, uint32(i)))})
	}
}

func portAllocations(p *port) {
	n := 100
	if p.MTU > sal.MaxFrame {
		n = p.MTU
	}
	f := p.frame(n, 1)
	d := make([]sal.Desc, 8)
	if a := testing.AllocsPerRun(100, func() {
		l := d[:0]
		for len(l) < len(d) {
			b, ok := p.c.AllocFor(len(f))
			if !ok { // the far end keeps them all
				break
			}
			l = append(l, p.fill(b, f))
		}
		for len(l) > 0 {
			k := p.q.TxBurst(p.c, l)
			if l = l[k:]; k == 0 { // the far end does not read
				p.c.FreeDescs(l)
				break
			}
		}
		p.c.FreeDescs(d[:p.q.RxBurst(p.c, d)])
	}); a != 0 {
		p.Errorf("%v allocations in a burst", a)
	}
	for p.recv() != nil { // where both ends have one pool, it is wanted
	}
	for range 20 {
		if err := p.PortRig.Send(f); err != nil {
			p.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if a := testing.AllocsPerRun(30, func() { p.c.FreeDescs(d[:p.q.RxBurst(p.c, d[:1])]) }); a != 0 {
		p.Errorf("%v allocations in receiving", a)
	}
}

// Wire forwards all frames between two ports with the same number of queues, on
// a goroutine of its own, until stop is called.
func Wire(pool *sal.Pool, a, b sal.Port) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c := pool.NewCache()
		defer c.Close()
		var d [64]sal.Desc
		var ways [][2]sal.PortQueue
		var fds []unix.PollFd
		for i := range a.Info().Queues {
			ways = append(ways, [2]sal.PortQueue{a.Queue(i), b.Queue(i)}, [2]sal.PortQueue{b.Queue(i), a.Queue(i)})
			fds = append(fds, unix.PollFd{Fd: int32(a.Queue(i).Wake()), Events: unix.POLLIN}, unix.PollFd{Fd: int32(b.Queue(i).Wake()), Events: unix.POLLIN})
		}
		for {
			moved := 0
			for _, w := range ways {
				n := w[0].RxBurst(c, d[:])
				moved += n
				for l := d[:n]; len(l) > 0; {
					k := w[1].TxBurst(c, l)
					if l = l[k:]; k == 0 {
						c.FreeDescs(l)
						break
					}
				}
			}
			if moved > 0 {
				continue
			}
			select {
			case <-quit:
				return
			default:
				_, _ = unix.Poll(fds, 20)
			}
		}
	}()
	return func() { close(quit); <-done }
}
