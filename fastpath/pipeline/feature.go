package pipeline

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"vrouter/fastpath/action"
	"vrouter/fastpath/event"
	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
	"vrouter/pkg/sal"
)

// A Stage is a feature's part of the walk of packets that missed the flow
// cache. It never touches bytes: for each packet of idx it may append ops to
// v.Prog, or end it (v.End, v.Drop, v.Reject). It returns the packets that go
// on to the next stage, in order, in the memory of idx. One call per burst, never
// with an empty idx. What no stage ends leaves by v.Adj, one TTL less; v.Adj is
// 0 until route has looked, and adjacency 0 leads nowhere.
//
// What a stage decides must follow from the packet's key (addresses, protocol,
// ports, origin) and from what it tells Builder or Adj to bump when it changes;
// else it sets FlagNoCache.
type Stage interface {
	Walk(c *Ctx, v *Vec, idx []uint16) []uint16
}

// A Sink handles the packets of flows of one kind other than forward and drop:
// one call per burst and kind, for the packets idx of v. v.Arg is the op's
// argument, v.In and v.From say where a packet is from. All of them are given
// away: each must end in one of Ctx's ways.
type Sink interface {
	Burst(c *Ctx, v *Vec, idx []uint16)
}

// Order is who handles what, in order: one literal in features.go.
type Order struct {
	Stages  []Stage
	Sinks   [action.Kinds]Sink // nil for those that the loop handles itself
	Pollers []Poller
	// Errors turns the packets of c.Error into ICMP errors, once a burst.
	Errors func(c *Ctx)
}

// A Poller has work that does not begin with a received packet (completions of
// an engine). Poll is called once a turn and says how much it found; Busy says
// that something is under way; Rings says that whatever is under way rings c.Bell
// when it is done, so that the worker may sleep until then.
type Poller interface {
	Poll(c *Ctx) int
	Busy(c *Ctx) bool
	Rings(c *Ctx) bool
}

// Ticker is a feature that wants to be called about every 100 ms on the
// control side, under the engine's lock. now is in Unix nanoseconds, never
// going backwards.
type Ticker interface{ Tick(now int64) }

// Prepared is a feature's change that has been checked and compiled and is not
// live. Exactly one of its methods is called, under the engine's lock.
type Prepared interface {
	// Publish makes it live and cannot fail. It runs before the Snapshot with
	// the Builder's Parts is stored: make what new Parts name exist first, and
	// leave what old Parts name to Env.Grace.
	Publish()
	// Abort undoes what Prepare did.
	Abort()
}

// Parter is a Prepared that has something to send by the configuration that is
// about to go. Part is called before Publish, and says whether it has sent
// anything; the engine then lets the workers send it first.
type Parter interface{ Part() bool }

// Settler is a Prepared that has something left to do when all workers have
// taken over what was published.
type Settler interface{ Settle() }

// Refusal says which object of a change the engine cannot take, and why. The
// caller maps it to a YANG path.
type Refusal struct {
	Feature string // iface, neigh, route, policy, sa, group, global
	Object  string // the object's key as text
	Field   string // the Config field at fault, "" when it is the whole object
	Reason  string // a sentence for people; never a secret
	// Full: nothing is wrong with the object, there is no room for it.
	Full bool
}

func (r *Refusal) Error() string {
	if r.Field == "" {
		return fmt.Sprintf("%s %q: %s", r.Feature, r.Object, r.Reason)
	}
	return fmt.Sprintf("%s %q %s: %s", r.Feature, r.Object, r.Field, r.Reason)
}

// FIB finds the way to an address. Safe on any goroutine; a worker must not
// keep what it got beyond a turn without comparing generations (see Path).
type FIB interface {
	// Path4 is the adjacency towards dst (host order), the neighbour's own
	// where dst is on a link and known, and the generation it had before the
	// look-up began. 0: no route.
	Path4(dst uint32) (adj, gen uint32)
	Path6(hi, lo uint64) (adj, gen uint32)
}

// Tunnels hear what became of packets that they have put around others.
type Tunnels interface {
	// TooBig takes an ICMP error to the vRouter that says that a packet of its own
	// was too big: the packet d, parsed as o, which is given away. On a worker.
	TooBig(c *Ctx, d sal.Desc, in IfIndex, o pkt.Offsets)
}

// Env is what features are given when they are made: one for the process.
type Env struct {
	Pool     *sal.Pool
	Registry *sal.Registry
	Workers  int    // control side; see Crew
	Mesh     *Mesh  // hand-off among them
	StateDir string // for what must survive kill -9; "": nowhere
	Log      *slog.Logger

	Grace    *mem.Grace // deferred freeing after all workers passed
	Adj      *AdjTable
	Counters *Counters
	FIB      FIB        // set by route
	Neigh    Neighbours // set by neigh
	Tunnels  Tunnels    // set by ipsec

	// Busy: workers never sleep.
	Busy atomic.Bool
	// Gen is the generation of all flows. Change it with BumpFlows.
	Gen atomic.Uint32
	// Seq is odd while a table that the walk reads is being changed, and moves
	// with every change: a walk that saw it move makes no flow entry.
	Seq atomic.Uint32
	// Snap is what workers decide by.
	Snap atomic.Pointer[Snapshot]
	// Tentative are own IPv6 addresses that must not be used.
	Tentative atomic.Pointer[Tentative]
	// Now is Unix nanoseconds that never go backwards while the process lives.
	Now func() int64
	// Control is the control side's own way to handle packets.
	Control *Control
	// Clamps is how many interfaces and SAs clamp the segment sizes of TCP; while
	// it is 0, nobody looks for SYNs.
	Clamps atomic.Int32
	// Events takes what the control side has to tell; nil: nobody listens.
	Events *event.Log
}

// BumpFlows makes every flow walk again, once each.
func (e *Env) BumpFlows() { e.Gen.Add(1) }

// BeginChange and EndChange stand around each in-place change of a table that
// the walk reads (FIB, neighbours). Under the engine's lock.
func (e *Env) BeginChange() { e.Seq.Add(1) }

// EndChange ends BeginChange.
func (e *Env) EndChange() { e.Seq.Add(1) }

// Neighbours is what other features need of neigh, on the control side.
type Neighbours interface {
	// Hold gives the adjacency of a next hop, made if need be, and keeps it
	// until as many calls of Release. false: no room.
	Hold(f *Iface, addr netip.Addr) (adj uint32, ok bool)
	// Glean gives the adjacency for destinations on the link itself.
	Glean(f *Iface, v6 bool) uint32
	Release(adj uint32)
	// Find is the adjacency of a known neighbour, 0 when it is unknown; on any
	// goroutine that may read the FIB.
	Find4(i IfIndex, addr uint32) uint32
	Find6(i IfIndex, hi, lo uint64) uint32
	// Addr is the next hop of an adjacency that Hold gave.
	Addr(adj uint32) (netip.Addr, bool)
}
