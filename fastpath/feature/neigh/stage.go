package neigh

import (
	"vrouter/fastpath/action"
	"vrouter/fastpath/pipeline"
)

// resolve is the stage: it stands last and ends every program that is left
// with the way out that route has found. For a connected prefix that is the
// destination's own adjacency if it is known; if not, the packet goes to the
// control side, and nothing is remembered of it.
type resolve struct{ f *Feature }

// Walk implements pipeline.Stage.
func (s *resolve) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	if v.Kinds == 1<<pipeline.AdjNeighbour && v.Same && !v.From[idx[0]&255].Local() {
		for _, i := range idx {
			v.Route(i, v.Adj[i&255])
		}
		return idx[:0]
	}
	adjs := c.Env.Adj
	for _, i := range idx {
		i &= 255
		h := v.Adj[i]
		if a := adjs.At(h); a.Kind == pipeline.AdjGlean {
			var n uint32
			if v.V6 {
				hi, lo := v.DstIP6(i)
				n = s.f.Find6(a.If, hi, lo)
			} else {
				n = s.f.Find4(a.If, v.DstIP4(i))
			}
			if n != 0 {
				h = n
				v.Adj[i] = n
			} else {
				v.Flags[i] |= pipeline.FlagNoCache
			}
		}
		if v.From[i].Local() {
			v.End(i, action.Output, h)
		} else {
			v.Route(i, h)
		}
	}
	return idx[:0]
}
