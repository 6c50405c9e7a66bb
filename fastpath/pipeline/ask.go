package pipeline

import (
	"math/bits"

	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// How many packets a worker may bring to the control side because their next hop
// has no address yet (RFC 6583 section 7: a scan of a connected prefix must not
// be the end of neighbour discovery). Packets to a neighbour that nobody knows are
// counted by their source, by the source's prefix and by the interface that they
// came in on; packets to one that is being resolved already, or was in vain, by
// the neighbour: so a scan does not touch next hops of routes.
//
// The numbers are for all workers together, which share them.
const (
	askSource = 100 // a second, and as many at once as lie in a bucket: askBurst
	askPrefix = 250 // IPv4: /24, IPv6: /64
	askIface  = 500
	askAgain  = 100

	askBurst = 64 // of a source or a neighbour; of others askBurst times rate over askSource

	askBuckets = 1024 // of each kind; sources that share one share its rate
)

// asks is a worker's token buckets.
type asks struct {
	seed burst.Seed
	t    [4][askBuckets]askBucket
}

// askBucket holds billionths of a packet. It begins full: at is long ago.
type askBucket struct {
	at   int64
	have uint64
}

// The kinds of buckets.
const (
	askOfSource = iota
	askOfPrefix
	askOfIface
	askOfHop
)

const (
	askOne    = 1e9
	localSalt = 1 << 63
)

// unknown tells whether the IP packet at p may ask for a neighbour that nobody
// knows. What the vRouter itself makes is counted apart from what it forwards.
func (a *asks) unknown(now int64, share uint64, p uintptr, in IfIndex, local bool) bool {
	var hi, lo, net uint64
	if ip := mem.At(p); mem.Load8(ip, 0)>>4 == 4 {
		src := mem.Load32(ip, 12)
		lo, net = uint64(src), uint64(src&0x00ff_ffff)
	} else {
		hi, lo = mem.Load64(ip, 8), mem.Load64(ip, 16)
		net = hi
	}
	from := uint64(in)
	if local {
		from |= localSalt
	}
	return a.take(askOfSource, a.hash(hi, lo^from), now, share, askSource) && a.take(askOfPrefix, a.hash(net, from), now, share, askPrefix) &&
		a.take(askOfIface, uint32(from)<<1|uint32(from>>63), now, share, askIface)
}

// known tells whether a packet may ask for a neighbour whose entry is there.
func (a *asks) known(now int64, share uint64, adj uint32) bool {
	return a.take(askOfHop, adj, now, share, askAgain)
}

func (a *asks) hash(x, y uint64) uint32 {
	h, l := bits.Mul64(x^a.seed[0], y^a.seed[1])
	h, l = bits.Mul64(h^a.seed[2], l^a.seed[3]|1)
	return uint32(h ^ l)
}

// take takes a packet out of a bucket, of which this worker has its share.
func (a *asks) take(kind int, h uint32, now int64, share, rate uint64) bool {
	b := &a.t[kind][h%askBuckets]
	full := max(rate*askBurst*askOne/askSource/share, 8*askOne)
	rate = max(rate/share, 1)
	if gone := uint64(max(now-b.at, 0)); gone > full/rate {
		b.have = full
	} else {
		b.have = min(full, b.have+gone*rate)
	}
	b.at = now
	if b.have < askOne {
		return false
	}
	b.have -= askOne
	return true
}
