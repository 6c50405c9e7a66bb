package ipsec

import (
	"vrouter/fastpath/feature/ipsec"
	view "vrouter/mgmt/internal/schema/ipsec"
	"vrouter/pkg/sal"
)

// encapsulation reads how ESP is carried. The ports of the model are those of the
// packets; until it is known which way the SA goes (orient), those of outbound
// ones are taken for ours.
func (p *problems) encapsulation(s *ipsec.SA, v *view.Ipsec_SadEntry) {
	e := v.IpsecSaConfig.EncapsulationType
	if e.Espencap != view.Ipsec_SadEntry_IpsecSaConfig_EncapsulationType_Espencap_espinudp {
		return
	}
	for leaf, port := range map[string]uint16{"/sport": *e.Sport, "/dport": *e.Dport} {
		if port == 0 {
			p.add(saEncap+leaf, "nobody can be reached at port 0")
		}
	}
	s.UDP = ipsec.UDP{Local: *e.Sport, Remote: *e.Dport}
	s.FollowPeer = s.Mode == ipsec.Tunnel && *v.NatTraversal.FollowPeer
	s.KeepAlive = uint32(*v.NatTraversal.KeepAliveInterval)
}

// orient says which way an SA goes, once it is known.
func orient(s *ipsec.SA, dir sal.Direction) {
	s.Direction = dir
	if dir == sal.Inbound {
		s.UDP = ipsec.UDP{Local: s.UDP.Remote, Remote: s.UDP.Local}
		s.KeepAlive = 0
	}
}
