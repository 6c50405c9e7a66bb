package ipsec

import (
	"strconv"

	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/pipeline"
	"vrouter/mgmt/data"
	view "vrouter/mgmt/internal/schema/ipsec"
)

var dfs = map[view.E_Ipsec_SadEntry_IpsecSaConfig_Tunnel_DfBit]ipsec.DF{
	view.Ipsec_SadEntry_IpsecSaConfig_Tunnel_DfBit_clear: ipsec.ClearDF,
	view.Ipsec_SadEntry_IpsecSaConfig_Tunnel_DfBit_set:   ipsec.SetDF,
	view.Ipsec_SadEntry_IpsecSaConfig_Tunnel_DfBit_copy:  ipsec.CopyDF,
}

var fragmentations = map[view.E_Ipsec_SadEntry_Mtu_Fragmentation]ipsec.Fragmentation{
	view.Ipsec_SadEntry_Mtu_Fragmentation_before_encryption: ipsec.BeforeEncryption,
	view.Ipsec_SadEntry_Mtu_Fragmentation_after_encryption:  ipsec.AfterEncryption,
}

// mss reads a tcp-mss.
func mss(text string) pipeline.MSS {
	switch text {
	case "off":
		return pipeline.NoClamp
	case "path-mtu":
		return pipeline.ClampPath
	}
	n, _ := strconv.ParseUint(text, 10, 16) // checked by its type
	return pipeline.MSS(n)
}

// outer reads what the outer header of an SA takes from the inner packet, and
// what not.
func (b *Binding) outer(s *ipsec.SA, v *view.Ipsec_SadEntry, c *data.Container) {
	t := v.IpsecSaConfig.Tunnel
	s.DF = dfs[t.DfBit]
	if *t.BypassDscp {
		return
	}
	// The first entry that has the inner DSCP, or has none, counts; what no entry
	// has becomes 0.
	s.DSCP = make([]uint8, 64)
	l, _ := data.Get(c, b.dscps.Up.Up, b.dscps.Up, b.dscps).(*data.List)
	if l == nil {
		return
	}
	var found [64]bool
	l.Each(func(key string, _ data.Node) bool {
		id, err := strconv.ParseUint(key, 10, 8)
		e := t.DscpMapping[uint8(id)]
		if err != nil || e == nil {
			return true
		}
		for inner := range s.DSCP {
			if !found[inner] && (e.InnerDscp == nil || int(*e.InnerDscp) == inner) {
				found[inner], s.DSCP[inner] = true, *e.OuterDscp
			}
		}
		return true
	})
}
