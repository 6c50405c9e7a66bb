package ipsec

import (
	"math"

	"vrouter/fastpath"
	"vrouter/fastpath/event"
	"vrouter/mgmt/binding"
)

// Event implements binding.EventSource by the notifications of RFC 9061 section
// 5.3, and a peer that has moved by one of vrouter-sal. That few sequence numbers are left is told as a soft lifetime is: they are
// a lifetime in packets that every SA has, and it is now that the SA is to be
// replaced; when none is left, that is sadb-seq-overflow. An SA that its action
// terminates at a soft lifetime is told of as one at its soft lifetime.
//
// There is no sadb-acquire: SAs come from the controller, not from packets.
func (b *Binding) Event(e *fastpath.Event) (string, func(binding.Content)) {
	const module = "ietf-i2nsf-ikeless:"
	switch e.Kind {
	case event.SASoftExpired, event.SAHardExpired, event.SASeqNear:
		return module + "sadb-expire", func(c binding.Content) {
			c.Text("ipsec-sa-name", e.Object)
			c.Bool("soft-lifetime-expire", e.Kind != event.SAHardExpired)
			c.In("lifetime-current", func() { current(c, e.SA.Age, e.SA.Idle, e.SA.Packets, e.SA.Bytes) })
		}
	case event.SASeqOverflow:
		return module + "sadb-seq-overflow", func(c binding.Content) { c.Text("ipsec-sa-name", e.Object) }
	case event.SAPeerMoved:
		return "vrouter-sal:peer-moved", func(c binding.Content) {
			c.Text("ipsec-sa-name", e.Object)
			c.Text("address", e.SA.Peer.Addr().String())
			c.Uint("port", uint64(e.SA.Peer.Port()))
			c.Text("previous-address", e.SA.Before.Addr().String())
			c.Uint("previous-port", uint64(e.SA.Before.Port()))
		}
	case event.SAMigrated:
		return "vrouter-sal:sa-migrated", func(c binding.Content) {
			c.Text("ipsec-sa-name", e.Object)
			c.Text("engine", e.Engine)
			c.Text("previous-engine", e.Before)
			c.Text("reason", e.Text)
			c.Gauge("untold", e.Alike, math.MaxUint32)
		}
	case event.OffloadNotMet:
		return "vrouter-sal:offload-not-met", func(c binding.Content) {
			c.Text("ipsec-sa-name", e.Object)
			c.Text("engine", e.Engine)
			c.Text("reason", e.Text)
			c.Gauge("untold", e.Alike, math.MaxUint32)
		}
	case event.ICVAlarm, event.ReplayAlarm:
		return "vrouter-sal:" + e.Kind.String(), func(c binding.Content) {
			c.Text("ipsec-sa-name", e.Object)
			c.Uint("packets", e.Count)
		}
	case event.SASeqReport:
		return "vrouter-sal:sequence-report", func(c binding.Content) {
			c.Text("ipsec-sa-name", e.Object)
			c.Uint("sequence-number", e.SA.Seq)
			c.Gauge("untold", e.Alike, math.MaxUint32)
		}
	case event.BadSPI:
		return module + "sadb-bad-spi", func(c binding.Content) { c.Uint("spi", uint64(e.SPI)) }
	}
	return "", nil
}
