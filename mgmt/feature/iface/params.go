package iface

import (
	view "vrouter/mgmt/internal/schema/interfaces"
	"vrouter/pkg/sal"
)

// params are what only some drivers know.
func params(v *view.Interfaces_Interface_Port) (p sal.PortParams) {
	p.Copy = v.XdpMode == view.Interfaces_Interface_Port_XdpMode_copy
	p.Blocks = v.Ring == view.Interfaces_Interface_Port_Ring_tpacket_v3
	if v.RingSize != nil {
		p.Ring = *v.RingSize
	}
	c := v.Pcap
	if c == nil {
		return p
	}
	if c.Read != nil {
		p.Read, p.Repeat = *c.Read, 1
		p.FlatOut = c.Pace == view.Interfaces_Interface_Port_Pcap_Pace_flat_out
		if c.Rounds != nil {
			p.Repeat = *c.Rounds
		}
	}
	if c.Write != nil {
		p.Write = *c.Write
	}
	return p
}
