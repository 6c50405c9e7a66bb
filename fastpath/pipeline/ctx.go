package pipeline

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// Reject is a reason to drop a packet and to tell its sender by ICMP.
type Reject uint8

// The rejects, with what is sent (IPv4, RFC 792 and 1812; IPv6, RFC 4443) and
// the reason the packet is counted under.
const (
	RejectTTL        Reject = iota // time exceeded in transit            drop.TTLExpired
	RejectNoRoute                  // network unreachable; no route       drop.NoRoute
	RejectHost                     // host unreachable; address unreach.  drop.Unreachable
	RejectNeighbour                // the same                            drop.NeighFailed
	RejectProhibited               // administratively prohibited         drop.Prohibited
	RejectTooBig                   // fragmentation needed; too big       drop.TooBig
	RejectProtocol                 // protocol unreachable; next header   drop.LocalProtocol
	RejectPort                     // port unreachable                    drop.LocalUDP
	RejectPolicy                   // as Prohibited                       drop.IPsecPolicyDiscard
	RejectReassembly               // reassembly time exceeded            drop.ReassTimeout
	RejectHeader                   // parameter problem                   drop.IPOption
	RejectOption                   // IPv6: unknown option                drop.IPOption
	RejectScope                    // IPv6: beyond scope of the source    drop.IPLinkLocal
	Rejects                        // how many
)

// Reason is what the packet is counted under.
func (r Reject) Reason() drop.Reason {
	return [Rejects]drop.Reason{drop.TTLExpired, drop.NoRoute, drop.Unreachable, drop.NeighFailed, drop.Prohibited,
		drop.TooBig, drop.LocalProtocol, drop.LocalUDP, drop.IPsecPolicyDiscard, drop.ReassTimeout, drop.IPOption, drop.IPOption, drop.IPLinkLocal}[r]
}

// Ctx is what a worker offers to stages and sinks while it handles a burst.
// Only the worker's goroutine may use it. Nothing here allocates, locks or
// waits.
//
// Every packet ends in exactly one of Drop, Forward, Send, Reinject, Reject,
// ToControl, or in an engine's queue (cryptoq); whoever calls one of these has
// given the buffer away. Descriptors name the packet from its IP header on,
// except where "frame" is said.
type Ctx struct {
	Env    *Env
	Pool   *sal.Pool
	Cache  *sal.Cache
	Worker int
	// Bell wakes the worker, for those who finish its work elsewhere.
	Bell *sal.Bell

	// Now is the time in Unix nanoseconds: read once a turn, never going
	// backwards while the process lives.
	Now int64
	// Gen is the generation of flows, read before Snap and before any table.
	Gen uint32
	// Snap is the policy of this turn.
	Snap *Snapshot
	// Shared tells that other workers may be at work on the same SAs.
	Shared bool

	Tx    TxList
	Loop  LoopList
	Error ErrorList
	ctl   ctlOut
	hand  handTx
	asks  asks

	ports  []sal.PortQueue // by IfIndex; nil: not there
	counts mem.Table[Counter]
	ifs    *IfTables

	freeN int
	free  [2 * Burst]sal.Desc
}

// NewCtx makes the context of worker i.
func NewCtx(env *Env, i int) (*Ctx, error) {
	ifs, err := NewIfTables()
	if err != nil {
		return nil, err
	}
	if err := env.Counters.grow(i + 1); err != nil {
		return nil, err
	}
	c := &Ctx{Env: env, Pool: env.Pool, Cache: env.Pool.NewCache(), Worker: i, ifs: ifs, counts: env.Counters.Worker(i)}
	c.ports = make([]sal.PortQueue, MaxIfaces)
	c.asks.seed = burst.NewSeed()
	return c, c.ctl.init()
}

// Ifs are the worker's counters by interface.
func (c *Ctx) Ifs() *IfTables { return c.ifs }

// SetPort says through which queue frames for an interface leave; nil: none.
func (c *Ctx) SetPort(i IfIndex, q sal.PortQueue) { c.ports[i&(MaxIfaces-1)] = q }

// Port is the queue set by SetPort.
func (c *Ctx) Port(i IfIndex) sal.PortQueue { return c.ports[i&(MaxIfaces-1)] }

// Drop ends a packet: counted under r on the interface where it came in, its
// buffer given back.
func (c *Ctx) Drop(d sal.Desc, in IfIndex, r drop.Reason) {
	c.CountDrop(in, r, 1)
	c.Free(d)
}

// CountDrop counts n packets whose buffers somebody else gives back.
func (c *Ctx) CountDrop(in IfIndex, r drop.Reason, n uint64) {
	Add(&c.ifs.Drop.At(uint32(in & (MaxIfaces - 1)))[r], n)
}

// Free gives a buffer back without counting: for buffers that hold no packet
// any more (a copy was sent, a burst of ours came back).
func (c *Ctx) Free(d sal.Desc) {
	if c.freeN == len(c.free) {
		c.FlushFree()
	}
	c.free[c.freeN] = d
	c.freeN++
}

// FlushFree hands collected buffers to the cache.
func (c *Ctx) FlushFree() {
	c.Cache.FreeDescs(c.free[:c.freeN])
	c.freeN = 0
}

// Alloc takes a buffer for a packet that the vRouter makes.
func (c *Ctx) Alloc() (uint32, bool) {
	if c.freeN > 0 {
		if b := c.free[c.freeN-1].Buf(); !c.Pool.IsLarge(b) {
			c.freeN--
			return b, true
		}
	}
	return c.Cache.Alloc()
}

// AllocFor takes a buffer for an IP packet of n bytes behind sal.Headroom, a
// large one where an ordinary one would not do. When there is none it says what
// the packet dies of.
func (c *Ctx) AllocFor(n int) (uint32, drop.Reason) {
	if n <= sal.MaxFrame {
		if b, ok := c.Alloc(); ok {
			return b, drop.None
		}
		return 0, drop.NoBuffer
	}
	if b, ok := c.Cache.AllocLarge(); ok {
		return b, drop.None
	}
	return 0, drop.NoLargeBuffer
}

// Count adds a packet of n octets to a counter.
func (c *Ctx) Count(h uint32, n uint16) {
	x := c.counts.At(h)
	Add(&x.Packets, 1)
	Add(&x.Bytes, uint64(n))
}

// Counts is the worker's table of counters.
func (c *Ctx) Counts() mem.Table[Counter] { return c.counts }

// Forward sends a packet out through an adjacency: an Ethernet header is put
// in front of it (14 bytes of room are needed), nothing else is changed. No
// policy is asked: the caller has decided. With an adjacency that is not
// resolved the packet waits at the control side; when it is too big for the
// link it is fragmented, or refused with an ICMP error; an adjacency that leads
// nowhere drops it. The origin is for that error.
func (c *Ctx) Forward(d sal.Desc, in IfIndex, from Origin, adj uint32) {
	a := c.Env.Adj.At(adj)
	if d.Len()+EthLen <= a.MTU() && d.Off() >= EthLen {
		c.put(d, in, a)
		return
	}
	c.forwardSlow(d, in, from, adj)
}

// forwardSlow is what Forward does when it cannot be done at once.
func (c *Ctx) forwardSlow(d sal.Desc, in IfIndex, from Origin, adj uint32) {
	a := c.Env.Adj.At(adj)
	switch a.Kind() {
	case AdjNeighbour, AdjGlean:
		switch {
		case d.Off() < EthLen:
			c.Drop(d, in, drop.NoBuffer)
		case d.Len()+EthLen > a.LinkMTU():
			c.tooBig(d, in, from, adj)
		case !a.Resolved():
			c.resolve(d, in, from, adj, a.Kind())
		default: // stale: it may be used, and the control side wants to know (RFC 4861 section 7.3.3)
			c.useStale(in, adj)
			c.put(d, in, a)
		}
	case AdjBlackhole:
		c.Drop(d, in, drop.Blackhole)
	case AdjUnreachable:
		c.Drop(d, in, drop.Unreachable)
	case AdjProhibit:
		c.Drop(d, in, drop.Prohibited)
	case AdjReceive:
		c.Drop(d, in, drop.IPDestination)
	default:
		c.Drop(d, in, drop.NoRoute)
	}
}

// put writes the Ethernet header and sends.
func (c *Ctx) put(d sal.Desc, in IfIndex, a *Adj) {
	p := mem.At(c.Pool.Addr(d) - EthLen)
	mem.Store64(p, 0, a.L2a())
	mem.Store64(p, 6, a.L2b())
	c.Tx.Add(c, sal.MakeDesc(d.Buf(), d.Off()-EthLen, d.Len()+EthLen), a.If(), in)
}

// useStale opens a stale adjacency again and reports the use, once. The order
// matters: should the control side give the neighbour up meanwhile, it finds
// the report afterwards and closes the adjacency for good.
func (c *Ctx) useStale(in IfIndex, adj uint32) {
	c.Env.Adj.Open(adj)
	if !c.ctl.to.Put(CtlMsg{Desc: NoBuf, Op: CtlUsed, In: in, Arg: adj}) {
		c.Env.Adj.SetMTU(adj, 0)
		return
	}
	c.ctl.put++
}

// tooBig fragments an IPv4 packet that may be fragmented and refuses others
// (RFC 1812 section 5.2.6, RFC 8200 section 5).
func (c *Ctx) tooBig(d sal.Desc, in IfIndex, from Origin, adj uint32) {
	ip := mem.At(c.Pool.Addr(d))
	if mem.Load8(ip, 0)>>4 == 4 && mem.Load8(ip, 6)&0x40 == 0 {
		c.Fragment4(d, in, from, adj)
		return
	}
	c.Reject(d, in, from, RejectTooBig, c.MTU(adj))
}

// Send sends a whole frame (Desc from the Ethernet header on) as it is.
func (c *Ctx) Send(frame sal.Desc, in, out IfIndex) {
	c.Tx.Add(c, frame, out, in)
	c.Tx.group = c.Tx.group || mem.Load8(mem.At(c.Pool.Addr(frame)), 0)&1 != 0
}

// Reject ends a packet and tells its sender why, within the limits of RFC 1812
// section 4.3.2 and RFC 4443 section 2.4 (no error about an error, a fragment
// other than the first, a broadcast, a multicast; a rate per interface). mtu is
// used by RejectTooBig: what the packet may have, IP header included; for
// RejectHeader and RejectOption it is the offset of the culprit.
func (c *Ctx) Reject(d sal.Desc, in IfIndex, from Origin, r Reject, mtu uint16) {
	e := &c.Error
	c.CountDrop(in, r.Reason(), 1)
	if e.N == len(e.Desc) {
		c.Free(d)
		return
	}
	n := e.N
	e.Desc[n], e.In[n], e.From[n], e.Why[n], e.MTU[n] = d, in, from, r, mtu
	e.N = n + 1
}

// ErrorList is rejected packets that wait to become ICMP errors. They are
// counted as dropped already.
type ErrorList struct {
	N    int
	Desc [2 * Burst]sal.Desc
	In   [2 * Burst]IfIndex
	From [2 * Burst]Origin
	Why  [2 * Burst]Reject
	MTU  [2 * Burst]uint16
}

// Path is a way to one address, kept beside whatever sends there (an SA's outer
// destination). The zero Path is stale. Pointer-free: it may lie in a record.
type Path struct{ Adj, AdjGen, Gen uint32 }

// Path4 gives the adjacency towards dst (host order), asking the FIB only when
// something has changed since p was filled. 0: no route.
func (c *Ctx) Path4(p *Path, dst uint32) uint32 {
	if p.Gen == c.Gen && c.Env.Adj.Gen(p.Adj) == p.AdjGen && p.Adj != 0 {
		return p.Adj
	}
	h, gen := c.Env.FIB.Path4(dst)
	*p = Path{h, gen, c.Gen}
	return h
}

// Path6 is Path4 for IPv6.
func (c *Ctx) Path6(p *Path, hi, lo uint64) uint32 {
	if p.Gen == c.Gen && c.Env.Adj.Gen(p.Adj) == p.AdjGen && p.Adj != 0 {
		return p.Adj
	}
	h, gen := c.Env.FIB.Path6(hi, lo)
	*p = Path{h, gen, c.Gen}
	return h
}

// MTU is the largest IP packet that adjacency h takes; 0 when it leads nowhere.
func (c *Ctx) MTU(h uint32) uint16 {
	if m := c.Env.Adj.At(h).LinkMTU(); m > EthLen {
		return m - EthLen
	}
	return 0
}

// DecTTL4 takes one off the TTL of the IPv4 header at p and updates its
// checksum (RFC 1624 equation 3). The TTL must be above 0.
func DecTTL4(ip uintptr) {
	p := mem.At(ip)
	w := mem.Load32(p, 8)
	// The sum is kept in wire order; TTL is the upper byte of its word, so one
	// less there is 0x0100 more in the checksum, which in memory order is 1.
	ck := w>>16 + 1
	ck += (ck + 1) >> 16
	mem.Store32(p, 8, w&0xffff-1|ck<<16)
}

// DecTTL6 takes one off the hop limit of the IPv6 header at p, which must be
// above 0.
func DecTTL6(ip uintptr) {
	p := mem.At(ip)
	mem.Store8(p, 7, mem.Load8(p, 7)-1)
}

// Close unmaps what the context has; nobody may read its counters any more.
func (c *Ctx) Close() error {
	for _, err := range []error{c.ifs.Close(), c.ctl.to.Close(), c.ctl.from.Close()} {
		if err != nil {
			return err
		}
	}
	return nil
}
