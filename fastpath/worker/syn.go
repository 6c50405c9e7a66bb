package worker

import (
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
)

// Segment sizes of TCP are clamped in SYNs alone, but SYNs come anywhere in a
// flow's life. So while anything clamps, SYNs are taken out of each burst before
// flows are looked up, as the odd packets are that the quick parse refuses: they
// walk the stages each by itself, and their programs say what to clamp to. All
// other packets pay one look at a byte, and nothing while nothing clamps.

// badSYN stands in Vec.Bad for a SYN that the quick parse has accepted.
const badSYN = 0xff

// findSYN marks the SYNs among the packets that the parse accepted.
func findSYN(v *pipeline.Vec) {
	n := v.N
	proto, flags := uintptr(pipeline.EthLen+9), uintptr(pipeline.EthLen+pkt.IPv4Len+13)
	if v.V6 {
		proto, flags = pipeline.EthLen+6, pipeline.EthLen+pkt.IPv6Len+13
	}
	addr, bad := v.Addr[:n], v.Bad[:n]
	for i, a := range addr {
		p := mem.At(a)
		if mem.Load8(p, proto) == pkt.ProtoTCP && mem.Load8(p, flags)&2 != 0 && bad[i] == 0 {
			bad[i] = badSYN
		}
	}
}

// clamp carries an action.Clamp out.
func (w *Worker) clamp(v *pipeline.Vec, i uint16, mss uint16) {
	b := w.ctx.Pool.Bytes(v.Desc[i&255])
	if o, _ := pkt.Parse(b); o.Proto == pkt.ProtoTCP && o.L4 < o.End {
		pkt.ClampMSS(b[o.L4:o.End], mss)
	}
}
