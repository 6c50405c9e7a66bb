package saltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// What happens to a port while it is open: queues come, the link goes, the device
// goes, somebody waits.

// portAddQueues: a port that can have more queues gets them with frames waiting and
// frames coming; none is lost, each comes once, and every queue sends.
func portAddQueues(p *port) {
	a, ok := p.Port.(sal.QueueAdder)
	if !ok {
		return
	}
	const each, queues = 40, 3
	send := func(from int) {
		for i := from; i < from+each; i++ {
			if err := p.PortRig.Send(p.frame(64+i, uint32(i))); err != nil {
				p.Fatal(err)
			}
		}
	}
	send(0)
	add := func(n int) (err error) {
		if p.Within == nil {
			return a.AddQueues(n)
		}
		p.Within(func() { err = a.AddQueues(n) })
		return err
	}
	if p.Within != nil { // in another namespace there may be another device by the name
		if err := a.AddQueues(queues); err == nil || p.Port.Info().Queues != 1 {
			p.Fatalf("queues from another network namespace: %v, %d", err, p.Port.Info().Queues)
		}
	}
	if err := add(queues); errors.Is(err, sal.ErrNotSupported) {
		if n := p.Port.Info().Queues; n != 1 {
			p.Errorf("it cannot have more queues, and has %d", n)
		}
		return
	} else if err != nil {
		p.Fatal(err)
	}
	send(each)
	i := p.Port.Info()
	if i.Queues != queues {
		p.Fatalf("%d queues of %d", i.Queues, queues)
	}
	seen := map[uint32]int{}
	var d [8]sal.Desc
	for end := time.Now().Add(2 * time.Second); len(seen) < 2*each && time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		for k := range queues {
			n := p.Port.Queue(k).RxBurst(p.c, d[:])
			for _, x := range d[:n] {
				if b := p.Pool.Bytes(x); len(b) >= 18 && binary.BigEndian.Uint16(b[12:]) == etherType {
					seen[binary.BigEndian.Uint32(b[14:])]++
				}
			}
			p.c.FreeDescs(d[:n])
		}
	}
	for id := range uint32(2 * each) {
		if seen[id] != 1 {
			p.Errorf("frame %d of %d comes %d times", id, 2*each, seen[id])
		}
	}
	for k := range queues {
		f := p.frame(100, uint32(k))
		if n := p.Port.Queue(k).TxBurst(p.c, []sal.Desc{p.alloc(f)}); n != 1 {
			p.Errorf("queue %d takes no frame", k)
		} else if got := p.recv(); !bytes.Equal(got, f) {
			p.Errorf("a frame sent into queue %d arrives as %x", k, got)
		}
	}
	if err := add(1 << 20); !errors.Is(err, sal.ErrInvalid) {
		p.Errorf("a million queues: %v", err)
	}
	if err := add(1); err != nil || p.Port.Info().Queues != queues {
		p.Errorf("fewer queues than it has: %v, %d", err, p.Port.Info().Queues)
	}
}

// portDown: a port that is down is silent in both directions, and up again it
// works.
func portDown(p *port) {
	if err := p.Port.SetUp(false); err != nil {
		p.Fatal(err)
	}
	if p.Port.Link() {
		p.Error("link though the port is down")
	}
	_ = p.PortRig.Send(p.frame(100, 1)) // may fail: there is no carrier
	var d [8]sal.Desc
	for range 20 {
		if n := p.q.RxBurst(p.c, d[:]); n != 0 {
			p.Fatalf("%d frames received", n)
		}
		time.Sleep(time.Millisecond)
	}
	before := p.Port.Stats()
	p.send([]sal.Desc{p.alloc(p.frame(100, 2)), p.alloc(p.frame(100, 3))})
	if s := p.Port.Stats(); s.TxDropped+s.TxErrors != before.TxDropped+before.TxErrors+2 {
		p.Errorf("two frames sent into the dark: %+v, before %+v", s, before)
	}
	if f := p.recv(); f != nil {
		p.Errorf("a port that is down sent %x", f)
	}
	if err := p.Port.SetUp(true); err != nil {
		p.Fatal(err)
	}
	p.linkUp()
	x, ok := sal.Desc(0), false
	for try := 0; try < 20 && !ok; try++ { // a kernel's side takes a moment to notice
		if err := p.PortRig.Send(p.frame(100, 4)); err != nil {
			p.Fatal(err)
		}
		x, ok = p.receiveIn(100 * time.Millisecond)
	}
	if !ok || binary.BigEndian.Uint32(p.Pool.Bytes(x)[14:]) != 4 {
		p.Fatal("up again, and the frame does not come, or an old one does")
	}
	p.c.FreeDescs([]sal.Desc{x})
	p.send([]sal.Desc{p.alloc(p.frame(100, 5))})
	if f := p.recv(); f == nil || binary.BigEndian.Uint32(f[14:]) != 5 {
		p.Errorf("up again, it sends %x", f)
	}
}

// portLink follows the cable.
func portLink(p *port) {
	if p.Unplug == nil {
		p.Skip("the port has no cable to unplug")
	}
	p.Unplug()
	for end := time.Now().Add(5 * time.Second); p.Port.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.Fatal("link without a cable")
		}
	}
	var d [8]sal.Desc
	for range 200 { // no crash, no frames
		if n := p.q.RxBurst(p.c, d[:]); n > 0 {
			p.c.FreeDescs(d[:n])
		}
	}
	p.Plug()
	p.linkUp()
	for try := 0; ; try++ {
		p.send([]sal.Desc{p.alloc(p.frame(100, 5))})
		if p.recv() != nil {
			break
		}
		if try == 10 {
			p.Fatal("plugged in again, and nothing is sent")
		}
	}
}

// portWake: the descriptor is readable while frames wait, and at rest it is not
// for long.
func portWake(p *port) {
	fd := p.q.Wake()
	if fd < 0 {
		p.Skip("the port can only be polled")
	}
	readable := func(ms int) bool {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, ms)
			if err != unix.EINTR {
				return n > 0
			}
		}
	}
	quiet := func() {
		p.Helper()
		var d [8]sal.Desc
		for end := time.Now().Add(5 * time.Second); ; {
			p.c.FreeDescs(d[:p.q.RxBurst(p.c, d[:])])
			if !readable(0) && p.q.RxBurst(p.c, d[:0]) == 0 {
				return
			}
			if time.Now().After(end) {
				p.Fatal("the descriptor stays readable")
			}
		}
	}
	for i := range 5 {
		quiet()
		if err := p.PortRig.Send(p.frame(100, uint32(i))); err != nil {
			p.Fatal(err)
		}
		if !readable(2000) {
			p.Fatal("a frame waits and the descriptor does not tell")
		}
		d, ok := p.receive()
		if !ok {
			p.Fatal("readable, but the frame does not come")
		}
		p.c.FreeDescs([]sal.Desc{d})
	}
}

// portLost: the device is taken away and comes back.
func portLost(p *port) {
	if p.Remove == nil {
		p.Skip("the port's device cannot be taken away")
	}
	for i := range 20 { // under way both ways
		if err := p.PortRig.Send(p.frame(100, uint32(i))); err != nil {
			p.Fatal(err)
		}
		p.send([]sal.Desc{p.alloc(p.frame(100, uint32(i)))})
	}
	p.Remove()
	for end := time.Now().Add(5 * time.Second); p.Port.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.Fatal("link without a device")
		}
	}
	var d [8]sal.Desc
	for i := range 200 { // nothing breaks, nothing stays with the caller
		p.c.FreeDescs(d[:p.q.RxBurst(p.c, d[:])])
		p.send([]sal.Desc{p.alloc(p.frame(100, uint32(i)))})
	}
	p.accounted()
	p.Restore()
	lost := func() bool { l, ok := p.Port.(sal.Loser); return ok && l.Lost() }
	for end := time.Now().Add(5 * time.Second); !lost() && !p.Port.Link(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.Fatal("the device is back, and the port neither finds it nor says that it is lost")
		}
	}
	if lost() {
		for range 3 {
			p.c.FreeDescs(d[:p.q.RxBurst(p.c, d[:])])
			if !lost() {
				p.Error("lost, and then not")
			}
		}
		if err := p.Port.Close(); err != nil {
			p.Error(err)
		}
		if s := p.Pool.Stats(); s.Free+s.Cached != s.Total {
			p.Errorf("buffers lost with the device: %+v", s)
		}
		p.Port = p.PortRig.Open()
		p.q = p.Port.Queue(0)
		if err := p.Port.SetUp(true); err != nil {
			p.Fatal(err)
		}
		p.linkUp()
	}
	x, ok := sal.Desc(0), false
	for try := 0; try < 50 && !ok; try++ {
		_ = p.PortRig.Send(p.frame(100, 77))
		x, ok = p.receiveIn(100 * time.Millisecond)
		if ok && binary.BigEndian.Uint32(p.Pool.Bytes(x)[14:]) != 77 {
			p.Fatal("an old frame comes out of a new device")
		}
	}
	if !ok {
		p.Fatalf("the device is back, and nothing is received; %+v", p.Port.Stats())
	}
	p.c.FreeDescs([]sal.Desc{x})
	for try := 0; ; try++ {
		p.send([]sal.Desc{p.alloc(p.frame(100, 78))})
		if f := p.recv(); f != nil {
			break
		}
		if try == 20 {
			p.Fatal("the device is back, and nothing is sent")
		}
	}
}
