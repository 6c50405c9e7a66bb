package iface

import "vrouter/fastpath/pipeline"

// Clamp is the stage that has the segment sizes of TCP clamped for the interfaces
// by which SYNs come and go. It stands behind the look-up of the next hop.
type Clamp struct{}

// Walk implements pipeline.Stage.
func (Clamp) Walk(c *pipeline.Ctx, v *pipeline.Vec, idx []uint16) []uint16 {
	if v.Some&pipeline.FlagSYN == 0 {
		return idx
	}
	fam := pipeline.V4
	if v.V6 {
		fam = pipeline.V6
	}
	for _, i := range idx {
		i &= 255
		if v.Flags[i]&pipeline.FlagSYN == 0 {
			continue
		}
		out := c.Env.Adj.At(v.Adj[i]).If()
		if x := c.Snap.Ifaces.At(out); x != nil {
			v.Clamp(i, x.MSS, uint32(x.MTU[fam]))
		}
		if x := c.Snap.Ifaces.At(v.In[i]); x != nil && v.From[i] == pipeline.FromIface(v.In[i]) {
			v.Clamp(i, x.MSS, uint32(x.MTU[fam]))
		}
	}
	return idx
}
