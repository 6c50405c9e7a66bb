package saltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"vrouter/pkg/sal"
)

// The tests of this file are of many packets in sal.ModeProtocol at a time.

// testProtocolOrder: one SA whose packets several cores do at once, in the engine as
// many as it holds: numbers in the order of Submit, and with the smallest window not one
// packet is late for the other end, nor for the engine itself.
func testProtocolOrder(b *bench) {
	depth := min(b.caps.QueueDepth, 512)
	b.start(depth)
	out, in, _ := b.protocolPair(false, func(c *sal.SAConfig) {
		if c.Direction == sal.Inbound {
			c.ReplayWindow = 32
		}
	})
	inner := ipPacket(false, 700, 0, false)
	last := uint32(0)
	for round := range 6 {
		jobs := make([]sal.Job, depth)
		for i := range jobs {
			jobs[i] = b.whole(out, sal.Encap, uint32(i), inner)
		}
		b.run(jobs)
		for i := range jobs {
			j := &jobs[i]
			seq := binary.BigEndian.Uint32(b.pool.Bytes(j.Desc)[24:])
			if j.Status != sal.StatusOK || seq != last+1 {
				b.Fatalf("round %d, packet %d: status %d, number %d after %d", round, i, j.Status, seq, last)
			}
			last = seq
			*j = sal.Job{SA: in, Op: sal.Decap, Desc: j.Desc, Cookie: j.Cookie}
		}
		b.run(jobs)
		for i := range jobs {
			if j := &jobs[i]; j.Status != sal.StatusOK || !bytes.Equal(b.pool.Bytes(j.Desc), inner) {
				b.Fatalf("round %d, packet %d: status %d on the way back", round, i, j.Status)
			}
		}
	}
}

// testProtocolShared: two queues use one SA at once; no number comes twice, none is
// left out, and of copies that come by both one passes.
func testProtocolShared(b *bench) {
	if b.caps.Queues < 2 {
		b.Skip("the engine has one queue")
	}
	b.start(512)
	q2, err := b.s.Queue(1, b.pool)
	if err != nil {
		b.Fatal(err)
	}
	defer q2.Close()
	out, in, c := b.protocolPair(false, func(c *sal.SAConfig) {
		if c.Direction == sal.Inbound {
			c.ReplayWindow = 8192
		}
	})
	inner := ipPacket(false, 100, 0, false)
	const each, burst = 1600, 32
	var mu sync.Mutex
	numbers, passed := map[uint32]int{}, map[uint64]int{}
	var wg sync.WaitGroup
	use := func(q sal.Queue, from uint32, op sal.Op, h sal.SA, packet func(n int) []byte, done func(n int, j *sal.Job)) {
		defer wg.Done()
		jobs := make([]sal.Job, burst)
		for n := 0; n < each; n += burst {
			for i := range jobs {
				jobs[i] = b.whole(h, op, from+uint32(i), packet(n+i))
			}
			for sent, back := 0, 0; back < burst; {
				sent += q.Submit(jobs[sent:])
				var out [burst]sal.Job
				for _, j := range out[:q.Poll(out[:])] {
					mu.Lock()
					done(n+back, &j)
					mu.Unlock()
					back++
				}
			}
		}
	}
	wg.Add(2)
	for i, q := range []sal.Queue{b.q, q2} {
		go use(q, uint32(i)*256, sal.Encap, out, func(int) []byte { return inner }, func(n int, j *sal.Job) {
			numbers[binary.BigEndian.Uint32(b.pool.Bytes(j.Desc)[24:])]++
		})
	}
	wg.Wait()
	if len(numbers) != 2*each || numbers[1] != 1 || numbers[2*each] != 1 {
		b.Errorf("%d numbers for %d packets", len(numbers), 2*each)
	}
	wg.Add(2)
	for i, q := range []sal.Queue{b.q, q2} {
		go use(q, uint32(i)*256, sal.Decap, in, func(n int) []byte { return wire(&c, uint64(n+1), espText(4, inner, 4), 0) }, func(n int, j *sal.Job) {
			switch j.Status {
			case sal.StatusOK:
				passed[uint64(n)]++
			case sal.StatusReplay:
			default:
				b.Errorf("number %d: status %d", n+1, j.Status)
			}
		})
	}
	wg.Wait()
	for n, times := range passed {
		if times != 1 {
			b.Fatalf("number %d has passed %d times", n+1, times)
		}
	}
	if len(passed) != each {
		b.Errorf("%d of %d numbers have passed", len(passed), each)
	}
}

// testProtocolLost: an SA is deleted, and then the engine lost, with packets under way:
// each comes back once, with its buffer, done or untouched; and a full queue uses no
// numbers for what it does not take.
func testProtocolLost(b *bench) {
	b.start(b.caps.QueueDepth + 64)
	inner := ipPacket(false, 100, 0, false)
	fill := func(h sal.SA) (taken int) {
		jobs := make([]sal.Job, b.caps.QueueDepth+64)
		for i := range jobs {
			jobs[i] = b.whole(h, sal.Encap, uint32(i), inner)
		}
		for len(jobs) > 0 {
			n := b.q.Submit(jobs[:min(len(jobs), 100)])
			if taken += n; n == 0 {
				break
			}
			jobs = jobs[n:]
		}
		return taken
	}
	drain := func(taken int, may ...sal.Status) (n [16]int) {
		b.Helper()
		seen := map[uint64]bool{}
		var out [100]sal.Job
		for end := time.Now().Add(patience); len(seen) < taken; {
			for _, j := range out[:b.q.Poll(out[:])] {
				if seen[j.Cookie] || !slices.Contains(may, j.Status) {
					b.Fatalf("buffer %d: status %d, seen before: %v", j.Cookie, j.Status, seen[j.Cookie])
				}
				if j.Status != sal.StatusOK && !bytes.Equal(b.pool.Bytes(j.Desc), inner) {
					b.Fatalf("buffer %d: status %d, and the packet has changed", j.Cookie, j.Status)
				}
				seen[j.Cookie] = true
				n[j.Status&15]++
			}
			if time.Now().After(end) {
				b.Fatalf("%d of %d jobs came back", len(seen), taken)
			}
		}
		if b.q.InFlight() != 0 {
			b.Fatalf("%d in flight", b.q.InFlight())
		}
		return n
	}
	out, in, _ := b.protocolPair(false, nil)
	taken := fill(out)
	drain(taken, sal.StatusOK)
	if st, err := b.s.State(out); err != nil || st.Seq != uint64(taken) {
		b.Errorf("%d packets were taken, and numbers used up to %d; %v", taken, st.Seq, err)
	}
	taken = fill(out)
	if err := b.s.DelSA(out); err != nil {
		b.Fatal(err)
	}
	drain(taken, sal.StatusOK, sal.StatusNoSA)
	out, _, _ = b.protocolPair(false, nil)
	taken = fill(out)
	if err := b.d.Close(); err != nil {
		b.Fatal(err)
	}
	drain(taken, sal.StatusOK, sal.StatusDevice)
	if j := b.one(b.whole(in, sal.Decap, 1, wire(new(tunnel(gcm(9, 128), sal.Outbound, false, false)), 1, espText(4, inner, 4), 0))); j.Status != sal.StatusDevice {
		b.Errorf("status %d from an engine that is gone", j.Status)
	}
	if _, err := b.s.State(in); !errors.Is(err, sal.ErrGone) {
		b.Errorf("State: %v", err)
	}
}

// testProtocolAllocations: packets cost no memory.
func testProtocolAllocations(b *bench) {
	if b.opt.Allocates != "" {
		b.Skip(b.opt.Allocates)
	}
	b.start(64)
	out, in, _ := b.protocolPair(b.caps.ESN, nil)
	inner := ipPacket(false, 400, 0, false)
	var jobs, back [32]sal.Job
	turn := func(op sal.Op, h sal.SA) {
		for i := range jobs {
			jobs[i].SA, jobs[i].Op = h, op
		}
		for sent, n := 0, 0; n < len(jobs); {
			sent += b.q.Submit(jobs[sent:])
			k := b.q.Poll(back[:])
			copy(jobs[n:], back[:k])
			n += k
		}
	}
	n := testing.AllocsPerRun(50, func() {
		for i := range jobs {
			jobs[i].Desc = sal.MakeDesc(uint32(i), espOff, uint16(len(inner)))
			copy(b.pool.Bytes(jobs[i].Desc), inner)
		}
		turn(sal.Encap, out)
		turn(sal.Decap, in)
	})
	for i := range jobs {
		if jobs[i].Status != sal.StatusOK {
			b.Fatalf("status %d", jobs[i].Status)
		}
	}
	if n != 0 {
		b.Errorf("%v allocations for 32 packets there and back", n)
	}
}

// testProtocolHostile: what is made up, cut or changed on the way never comes out as a
// packet, moves no window, and nothing is written outside of it; and whatever is inside a
// genuine one, nothing comes out but a whole IP packet that was in there.
func testProtocolHostile(b *bench) {
	b.start(64)
	r := rand.New(rand.NewPCG(11, 7))
	bytesOf := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		return p
	}
	inner := ipPacket(false, 60, 0, false)
	for _, way := range []struct{ v6, udp bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		c := gcm(5, b.algorithm().KeyBits[0])
		oc, ic := tunnel(c, sal.Outbound, way.v6, way.udp), tunnel(c, sal.Inbound, way.v6, way.udp)
		in := b.add(0, ic)
		seq := uint64(0)
		for range 60 {
			jobs := make([]sal.Job, 32)
			genuine := make([]bool, len(jobs))
			for i := range jobs {
				p := wire(&oc, 1000, espText(4, inner, 4), byte(r.Uint32()))
				switch r.IntN(5) {
				case 0: // made up, but for what comes first
					p = append(p[:r.IntN(60)], bytesOf(r.IntN(120))...)
				case 1: // cut
					p = p[:r.IntN(len(p))]
				case 2, 3: // changed behind the outer header, where the ICV tells
					p[len(p)-1-r.IntN(16+64+8)] ^= 1 << r.IntN(8)
				default: // genuine, with anything inside
					seq++
					p, genuine[i] = wire(&oc, seq, bytesOf(4+4*r.IntN(40)), byte(r.Uint32())), true
				}
				if len(p) == 0 {
					p = []byte{0x45}
				}
				jobs[i] = b.whole(in, sal.Decap, uint32(i), p)
			}
			before := slices.Clone(jobs)
			b.run(jobs)
			for i := range jobs {
				j, was := &jobs[i], &before[i]
				ok := j.Status == sal.StatusOK
				if got := b.pool.Bytes(j.Desc); ok && (!genuine[i] || !honest(got) || j.Desc.Off() <= was.Desc.Off() || j.Desc.Off()+j.Desc.Len() > was.Desc.Off()+was.Desc.Len()) {
					b.Fatalf("%+v came out of %+v: %x", j, was, got)
				}
				if !ok && j.Desc != was.Desc {
					b.Fatalf("status %d, and the descriptor has changed", j.Status)
				}
				m := b.buffer(was.Desc.Buf())
				for k, x := range m {
					if (k < espOff || k >= espOff+int(was.Desc.Len())) && x != guard(k) {
						b.Fatalf("byte %d of the buffer has changed; the packet is %d to %d", k, espOff, espOff+int(was.Desc.Len()))
					}
				}
			}
			if st, err := b.s.State(in); err != nil || st.Seq > seq {
				b.Fatalf("the window is at %d, and %d was sent; %v", st.Seq, seq, err)
			}
		}
		if err := b.s.DelSA(in); err != nil {
			b.Fatal(err)
		}
	}
}

// honest tells whether a packet is as long as it says.
func honest(b []byte) bool {
	return len(b) >= 20 && b[0]>>4 == 4 && int(binary.BigEndian.Uint16(b[2:])) == len(b) ||
		len(b) >= 40 && b[0]>>4 == 6 && int(binary.BigEndian.Uint16(b[4:]))+40 == len(b)
}
