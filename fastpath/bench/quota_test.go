package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/pkg/sal"
)

// BenchmarkESPQuota is BenchmarkESP for one SA in a tenant group: with a quota that all
// packets are within, beside none.
func BenchmarkESPQuota(b *testing.B) {
	for _, dir := range []sal.Direction{sal.Outbound, sal.Inbound} {
		for _, group := range []string{"", "g"} {
			const size = 512
			way := map[sal.Direction]string{sal.Outbound: "encrypt", sal.Inbound: "decrypt"}[dir]
			b.Run(fmt.Sprintf("%s/%dB/%s", way, size, map[string]string{"": "none", "g": "within"}[group]), func(b *testing.B) {
				r := newESP(b)
				r.Apply(&fastpath.Change{IPsec: ipsec.Change{SetGroup: []ipsec.Group{{Name: "g", Packets: 1e9, Bytes: 1e13}}}})
				grouped(r, dir, group)
				port, fill := byte('a'), sized(newGen4(espFlows(1)), size)
				if dir == sal.Inbound {
					r.Apply(&fastpath.Change{Neigh: neighbourA(), Route: routes(testbed.Route("20.0.0.0/8", "10.0.1.2", "a"))})
					port, fill = 'b', newSealed(fill, 1).fill
				}
				warmUp(r, port, fill, 1)
				r.measureESP(b, size, port, fill)
			})
		}
	}
}

// grouped is tunnels for one SA, in a tenant group.
func grouped(r *Rig, dir sal.Direction, group string) {
	sel := ipsec.Selector{Local: behindUs, Remote: netip.MustParsePrefix("100.0.0.0/8"), Proto: -1}
	r.Apply(&fastpath.Change{IPsec: ipsec.Change{
		SetPolicy: []ipsec.Policy{{Name: "p", Direction: dir, ReqID: 1, Selector: sel}},
		SetSA: []ipsec.SA{{Name: "s", ReqID: 1, SPI: firstSPI, Direction: dir, Algorithm: sal.AESGCM16, Key: slices.Clone(espKey),
			ReplayWindow: 64, Local: ownWAN, Remote: Hop(0), Selector: sel, TenantGroup: group}}}})
}
