package worker

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// A port with fewer queues than there are workers leaves some without work, so
// who receives from it hands a part of each burst over to the others: by flow,
// so that a flow's packets stay in order. What is a flow must be the same for
// every frame of it, however it is cut, and in both directions, since one worker
// then finds the state of both at hand:
//
//   - TCP, UDP and their like: addresses and ports;
//   - ESP and AH: addresses and SPI. An SA is in the hands of one worker then, and
//     the packets that come out of it stay there;
//   - fragments, and all else that is IP: addresses. Fragments of a datagram
//     must meet;
//   - what is not IP stays where it was received.
//
// ESP in UDP goes by ports: whether a packet on port 4500 is ESP, only its SA
// knows.

// peer is another worker.
type peer struct {
	from, to *pipeline.Handoff
	id       int
}

// handing is a worker's memory for handing over.
type handing struct {
	seed  [2]uint64
	who   [pipeline.Burst]uint8
	n     [pipeline.MaxWorkers]uint16
	start [pipeline.MaxWorkers]uint16
	pairs [2 * pipeline.Burst]uint64
	q     rxQueue // where what others hand over was received, as far as that matters
}

// spreadSeed is one for the process: whoever receives a flow, the same worker
// gets it. Nobody outside can know which.
var spreadSeed = burst.NewSeed()

func newHanding() handing { return handing{seed: [2]uint64{spreadSeed[0], spreadSeed[1]}} }

// handOut gives other workers their packets of a burst, and leaves the own ones
// in v. It says how many these are.
func (w *Worker) handOut(v *pipeline.Vec, in pipeline.IfIndex) int {
	h, team := &w.hand, uint64(w.crew.N)
	clear(h.n[:team])
	for i := range v.N {
		to := uint8(w.id)
		if x, ok := h.flow(v.Addr[i&255], v.Len[i&255]); ok {
			to = uint8(x >> 32 * team >> 32)
		}
		h.who[i&255] = to
		h.n[to&63]++
	}
	if int(h.n[w.id&63]) == v.N {
		return v.N
	}
	at := uint16(0)
	for k := range h.n[:team] {
		h.start[k] = at
		if k != w.id {
			at += h.n[k]
		}
	}
	own := 0
	for i := range v.N {
		to := h.who[i&255]
		if int(to) == w.id {
			v.Desc[own&255], v.Addr[own&255], v.Len[own&255] = v.Desc[i&255], v.Addr[i&255], v.Len[i&255]
			own++
			continue
		}
		x := h.start[to&63]
		h.start[to&63] = x + 1
		h.pairs[2*x&511], h.pairs[(2*x+1)&511] = uint64(v.Desc[i&255]), uint64(in)
	}
	v.N = own
	for k := range w.peers {
		p := &w.peers[k]
		n := int(h.n[p.id&63])
		if p.id >= w.crew.N || n == 0 {
			continue
		}
		end := int(h.start[p.id&63])
		pairs := h.pairs[2*(end-n) : 2*end]
		given := p.to.Give(pairs)
		pipeline.Add(&w.stats.given, uint64(given/2))
		for ; given < len(pairs); given += 2 {
			w.ctx.Drop(sal.Desc(pairs[given]), in, drop.HandoffFull)
		}
	}
	if own == 0 {
		w.ctx.FlushFree()
	}
	return own
}

// flow is a number that all packets of a flow share, in both directions; false:
// the frame is not IP, or too short to tell. The bytes behind a short frame are
// the buffer's own, so reading them does no harm.
func (h *handing) flow(frame uintptr, n uint16) (uint64, bool) {
	p := mem.At(frame)
	switch mem.Load16(p, 12) {
	case typeIPv4:
		return h.flow4(unsafe.Add(p, pipeline.EthLen), n-pipeline.EthLen)
	case typeIPv6:
		return h.flow6(unsafe.Add(p, pipeline.EthLen), n-pipeline.EthLen)
	}
	return 0, false
}

func (h *handing) flow4(ip unsafe.Pointer, n uint16) (uint64, bool) {
	if int16(n) < 20 {
		return 0, false
	}
	src, dst := uint64(mem.Load32(ip, 12)), uint64(mem.Load32(ip, 16))
	var ports, spi uint32
	if mem.Load16(ip, 6)&0xff3f == 0 { // neither More Fragments nor an offset, as loaded
		ports, spi = upper(ip, uintptr(mem.Load8(ip, 0)&15)*4, n, mem.Load8(ip, 9))
	}
	return h.mix(src<<16|uint64(ports&0xffff), dst<<16|uint64(ports>>16), uint64(mem.Load8(ip, 9))<<32|uint64(spi)), true
}

func (h *handing) flow6(ip unsafe.Pointer, n uint16) (uint64, bool) {
	if int16(n) < 40 {
		return 0, false
	}
	next := mem.Load8(ip, 6)
	ports, spi := upper(ip, 40, n, next)
	if next == pkt.ProtoFragment {
		next = 0 // what of it is whole may not show the same
	}
	src := fold(mem.Load64(ip, 8)^h.seed[0], mem.Load64(ip, 16)^h.seed[1])
	dst := fold(mem.Load64(ip, 24)^h.seed[0], mem.Load64(ip, 32)^h.seed[1])
	return h.mix(src^uint64(ports&0xffff), dst^uint64(ports>>16), uint64(next)<<32|uint64(spi)), true
}

// upper is the ports, or the SPI, behind a header of hl bytes.
func upper(ip unsafe.Pointer, hl uintptr, n uint16, proto uint8) (ports, spi uint32) {
	if uintptr(n) < hl+8 {
		return 0, 0
	}
	switch proto {
	case pkt.ProtoTCP, pkt.ProtoUDP, protoDCCP, protoSCTP, protoUDPLite:
		return mem.Load32(ip, hl), 0
	case pkt.ProtoESP:
		return 0, mem.Load32(ip, hl)
	case protoAH:
		return 0, mem.Load32(ip, hl+4)
	}
	return 0, 0
}

// IANA's numbers of protocols that have ports, or an SPI.
const (
	protoDCCP    = 33
	protoAH      = 51
	protoSCTP    = 132
	protoUDPLite = 136
)

// mix makes one number of two ends, whichever is the first, and of what else
// tells a flow.
func (h *handing) mix(a, b, more uint64) uint64 {
	return fold(fold(min(a, b)^h.seed[0], max(a, b)^h.seed[1])^more, h.seed[1]|1)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// handed tells whether another worker has something for this one.
func (w *Worker) handed() bool {
	for i := range w.peers {
		if w.peers[i].from.Len() > 0 {
			return true
		}
	}
	return false
}

// fromPeer takes what another worker hands over: frames to send first, they have
// been worked on; then received ones, as many as a burst.
func (w *Worker) fromPeer(p *peer) int {
	c, h := w.ctx, &w.hand
	n := c.SendHanded(p.from)
	if n > 0 {
		c.FlushTx()
	}
	got := p.from.Take(h.pairs[:])
	if got == 0 {
		return n
	}
	pipeline.Add(&w.stats.taken, uint64(got/2))
	// Frames of an interface follow one another, as they were received.
	v := w.rx
	for k := 0; k < got; {
		in := h.pairs[k+1]
		var first, types uint16
		v.N = 0
		for ; k < got && h.pairs[k+1] == in; k += 2 {
			d := sal.Desc(h.pairs[k])
			a := c.Pool.Addr(d)
			i := v.N & 255
			v.Desc[i], v.Addr[i], v.Len[i] = d, a, d.Len()
			t := mem.Load16(mem.At(a), 12)
			if v.N == 0 {
				first = t
			}
			types |= t ^ first
			v.N++
		}
		f := c.Snap.Ifaces.At(pipeline.IfIndex(in))
		if f == nil || f.Port == nil {
			for _, d := range v.Desc[:v.N] {
				c.Drop(d, pipeline.IfIndex(in), drop.Unconfigured)
			}
			c.FlushFree()
			continue
		}
		h.q.mac, h.q.index, h.q.frameMax = f.MACWord, f.Index, f.FrameMax
		w.take(v, &h.q, first, types)
	}
	return n + got/2
}

func load(p *uint64) uint64     { return atomic.LoadUint64(p) }
func store(p *uint64, n uint64) { atomic.StoreUint64(p, n) }
