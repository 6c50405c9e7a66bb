package iface

import (
	"fmt"
	"net/netip"
	"slices"

	"vrouter/fastpath/feature/iface"
	view "vrouter/mgmt/internal/schema/interfaces"
)

const (
	// The defaults of RFC 4861 for what RFC 8349 gives no default statement.
	hopLimit      = 64 // "currently defined by IANA"
	lifetimes     = 3  // times the longest interval
	validFor      = 2592000
	preferredFor  = 604800
	maxRAPrefixes = 40 // fit into the smallest MTU with all other options: (1280 - 40 - 32) / 32, and some left
)

// advertisements makes what Router Advertisements say. Prefixes that the router
// is in are told with the standard's times and flags, unless prefix-list has
// them; those of prefix-list are told besides.
func advertisements(v *view.Interfaces_Interface_Ipv6_Ipv6RouterAdvertisements, addrs []netip.Prefix, bad func(leaf, msg string)) *iface.RouterAdvert {
	if !*v.SendAdvertisements {
		return nil
	}
	r := &iface.RouterAdvert{Max: *v.MaxRtrAdvInterval, Managed: *v.ManagedFlag, Other: *v.OtherConfigFlag, LinkMTU: *v.LinkMtu,
		Reachable: *v.ReachableTime, Retrans: *v.RetransTimer, HopLimit: hopLimit}
	switch r.Min = max(uint16(uint32(r.Max)*33/100), 3); { // RFC 4861 section 6.2.1
	case v.MinRtrAdvInterval != nil:
		r.Min = *v.MinRtrAdvInterval
	case r.Max < 9:
		r.Min = max(uint16(uint32(r.Max)*75/100), 3)
	}
	if v.CurHopLimit != nil {
		r.HopLimit = *v.CurHopLimit
	}
	r.Lifetime = uint16(min(uint32(r.Max)*lifetimes, 65535))
	if v.DefaultLifetime != nil {
		r.Lifetime = *v.DefaultLifetime
	}
	told := map[netip.Prefix]bool{}
	if v.PrefixList != nil {
		for _, p := range v.PrefixList.Prefix {
			n := netip.MustParsePrefix(*p.PrefixSpec)
			told[n] = true
			if n.Addr().IsLinkLocalUnicast() || n.Addr().IsMulticast() {
				bad(fmt.Sprintf("%s/prefix-list/prefix[prefix-spec='%v']", adverts, n), "hosts make no addresses of this prefix (RFC 4861 section 4.6.2)")
				continue
			}
			if p.NoAdvertise {
				continue
			}
			x := iface.RouterPrefix{Prefix: n, OnLink: true, Autonomous: true, Valid: validFor, Preferred: preferredFor}
			set(&x.OnLink, p.OnLinkFlag)
			set(&x.Autonomous, p.AutonomousFlag)
			set(&x.Valid, p.ValidLifetime)
			set(&x.Preferred, p.PreferredLifetime)
			r.Prefixes = append(r.Prefixes, x)
		}
	}
	for _, a := range addrs {
		n := a.Masked()
		if !n.Addr().Is6() || n.Addr().IsLinkLocalUnicast() || a.IsSingleIP() || told[n] {
			continue
		}
		told[n] = true
		r.Prefixes = append(r.Prefixes, iface.RouterPrefix{Prefix: n, OnLink: true, Autonomous: n.Bits() == 64, Valid: validFor, Preferred: preferredFor})
	}
	if len(r.Prefixes) > maxRAPrefixes {
		bad(adverts+"/prefix-list", fmt.Sprintf("%d prefixes, and one message takes %d", len(r.Prefixes), maxRAPrefixes))
	}
	slices.SortFunc(r.Prefixes, func(a, b iface.RouterPrefix) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	return r
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
