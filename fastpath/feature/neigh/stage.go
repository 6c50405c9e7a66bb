package neigh

import (
	"vrouter/fastpath/action"
	"vrouter/fastpath/pipeline"
)

// resolve is the stage. It stands last: for a destination on the link itself it
// replaces the connected prefix's adjacency with the destination's own, if that
// is known. If not, the packet goes to the control side by the prefix's, and
// nothing is remembered of it.
type resolve struct{ f *Feature }

// Walk implements pipeline.Stage.
func (s *resolve) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	if v.Kinds&^(1<<pipeline.AdjNeighbour) == 0 && v.Same && !v.From[idx[0]&255].Local() {
		return idx
	}
	adjs := c.Env.Adj
	k := 0
	for _, i := range idx {
		i &= 255
		if a := adjs.At(v.Adj[i]); a.Kind() == pipeline.AdjGlean {
			var n uint32
			if v.V6 {
				hi, lo := v.DstIP6(i)
				n = s.f.Find6(a.If(), hi, lo)
			} else {
				n = s.f.Find4(a.If(), v.DstIP4(i))
			}
			if n != 0 {
				v.Adj[i] = n
			} else {
				v.Flags[i] |= pipeline.FlagNoCache
			}
		}
		if v.From[i].Local() { // keeps its TTL
			v.End(i, action.Output, v.Adj[i])
			continue
		}
		idx[k&255] = i
		k++
	}
	return idx[:k]
}
