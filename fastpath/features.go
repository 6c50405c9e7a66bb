package fastpath

import (
	"vrouter/fastpath/action"
	"vrouter/fastpath/feature/iface"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/reass"
	"vrouter/fastpath/feature/route"
	"vrouter/fastpath/pipeline"
)

// features are all features of the fast path.
type features struct {
	iface *iface.Feature
	neigh *neigh.Feature
	route *route.Feature
	reass *reass.Feature
	ipsec *ipsec.Feature
}

// order is THE order in which features see a packet that missed the flow
// cache. Whoever adds a feature adds a line and says why it stands there.
func (f *features) order() *pipeline.Order {
	return &pipeline.Order{
		Stages: []pipeline.Stage{
			// An interface that does not speak the family admits nothing.
			f.iface.Stage,
			// Addresses that no packet may have go before anybody acts on them; and
			// whether a packet is for us is what the next stages ask.
			f.route.Lookup,
			// Where an interface checks sources against routes, nothing that fails is
			// kept (fragments), opened (ESP) or answered.
			f.route.Sources,
			// Fragments to us end here, and come back whole: inbound policy needs
			// ports, and ESP is opened in one piece.
			f.reass.Stage,
			// Inbound policy stands before delivery and forwarding alike: what came
			// in the clear and should not have reaches neither. ESP for an SA ends
			// here, and comes back as a packet that came out of it.
			ipsec.In{F: f.ipsec},
			// Own packets are never protected on the way in; what may not be
			// forwarded (forwarding off, TTL) must not leave through an SA either.
			f.route.Local,
			// Outbound policy stands before the rest of routing: a packet that will
			// be protected leaves as its outer packet, so it needs no inner route.
			ipsec.Out{F: f.ipsec},
			// What is left is routed in the clear, or has no way.
			f.route.Stage,
			// Last, since it ends all that is left: the next hop's adjacency.
			f.neigh.Stage,
			// Which interface a SYN leaves by is known now.
			iface.Clamp{},
		},
		Sinks: [action.Kinds]pipeline.Sink{
			action.KindLocal:      route.Deliver{},
			action.KindEncrypt:    ipsec.Seal{F: f.ipsec},
			action.KindDecrypt:    ipsec.Open{F: f.ipsec},
			action.KindReassemble: f.reass.Sink,
			// What is no ESP there is for the vRouter itself: IKE.
			action.KindUnwrap: ipsec.Unwrap{F: f.ipsec, Local: route.Deliver{}},
		},
		Pollers: []pipeline.Poller{f.ipsec},
		Errors:  f.route.Errors,
	}
}

// prepare asks every feature, each seeing what those before it have prepared:
// interfaces first, since all others name them; neighbours before routes,
// which hold them; IPsec last. On error nothing is left prepared.
func (f *features) prepare(b *pipeline.Builder, c *Change) (done []pipeline.Prepared, err error) {
	steps := []func() (pipeline.Prepared, error){
		func() (pipeline.Prepared, error) { return f.iface.Prepare(b, &c.Iface) },
		func() (pipeline.Prepared, error) { return f.neigh.Prepare(b, &c.Neigh) },
		func() (pipeline.Prepared, error) { return f.route.Prepare(b, &c.Route) },
		func() (pipeline.Prepared, error) { return f.ipsec.Prepare(b, c.IPsec) },
	}
	for _, s := range steps {
		p, err := s()
		if err != nil {
			abort(done)
			return nil, err
		}
		done = append(done, p)
	}
	return done, nil
}

// abort undoes what was prepared, the last first.
func abort(l []pipeline.Prepared) {
	for i := len(l) - 1; i >= 0; i-- {
		l[i].Abort()
	}
}
